// The kill switch is on every page: whatever button or key asks for it opens the one dialog that KillDialog.svelte is.
class Kill {
  /** What is asked for while the dialog is open. */
  asked: 'stop' | 'run' | null = $state(null)
}

export const kill = new Kill()
