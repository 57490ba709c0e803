/** Short words at the edge of the page that need no answer, read aloud by screen readers. */
class Notices {
  shown: { id: number; text: string }[] = $state([])
  /** For ears only: what the eyes see where it happened. */
  whisper = $state('')
  #next = 0

  say(text: string) {
    const id = this.#next++
    this.shown.push({ id, text })
    setTimeout(() => this.dismiss(id), 6000)
  }

  dismiss(id: number) {
    this.shown = this.shown.filter((notice) => notice.id !== id)
  }

  tell(text: string) {
    this.whisper = ''
    // A live region speaks when its text changes, so the same words twice need a pause between.
    setTimeout(() => (this.whisper = text), 50)
  }
}

export const notices = new Notices()
