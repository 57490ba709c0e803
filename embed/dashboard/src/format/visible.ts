// Characters that are not seen, but change how what stands around them is read: they turn the direction of a line,
// have no width, or smuggle words past the eye (tags). The joiners stay: emoji and Persian need them.
const hidden =
  /[\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F\u061C\u200B\u200E\u200F\u202A-\u202E\u2060-\u2064\u2066-\u2069\uFEFF\u{E0000}-\u{E007F}]/gu

/** A text of a stranger with its hidden characters written out: `⟨U+202E⟩gnp.exe`. */
export function visible(text: string): string {
  return text.replace(
    hidden,
    (mark) => `⟨U+${mark.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}⟩`,
  )
}
