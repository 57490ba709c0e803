// "Ctrl K": goes to any page, run, user or model. Its code is loaded when it is first asked for.
class PaletteState {
  wanted = $state(false)
  shown = $state(false)

  open() {
    this.wanted = true
    this.shown = true
  }
}

export const palette = new PaletteState()
