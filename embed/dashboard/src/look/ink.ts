/** Resolves the colours of tokens.css, which are pairs, to what a canvas can draw with: those of the theme now. */
export function inkOf(box: HTMLElement): (name: string) => string {
  const probe = document.createElement('span')
  probe.hidden = true
  box.append(probe)
  const look = getComputedStyle(probe)
  return (name) => {
    probe.style.color = `var(${name})`
    return look.color
  }
}
