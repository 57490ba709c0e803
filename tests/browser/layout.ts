// What is wrong with how a page is laid out, looked at from inside of it: something lies beyond the edge, covers
// something else, is cut, or is too small to be hit.

type Box = { element: Element; layer: Element | null; left: number; top: number; right: number; bottom: number; text: boolean }

/** Runs in the page. */
export function flaws(): string[] {
  const found: string[] = []
  const name = (element: Element) =>
    `<${element.tagName.toLowerCase()}${element.className && typeof element.className === 'string' ? '.' + element.className.split(' ').filter((part) => !part.startsWith('svelte-')).join('.') : ''}> “${element.textContent.trim().replace(/\s+/g, ' ').slice(0, 40)}”`
  const beyond = document.documentElement.scrollWidth - innerWidth
  if (beyond > 0) found.push(`${beyond} px beyond the edge`)

  const styles = new WeakMap<Element, CSSStyleDeclaration>()
  const style = (element: Element) => {
    let known = styles.get(element)
    if (!known) styles.set(element, (known = getComputedStyle(element)))
    return known
  }
  /** What floats above the page, or nothing: layers may lie over each other. */
  const layers = new WeakMap<Element, Element | null>()
  const layerOf = (element: Element | null): Element | null => {
    if (!element) return null
    if (layers.has(element)) return layers.get(element)!
    const floats = /fixed|sticky/.test(style(element).position)
    const layer = floats ? element : layerOf(element.parentElement)
    layers.set(element, layer)
    return layer
  }
  /** The part of the page in which an element can be seen, or where it may be scrolled into sight. */
  type Clip = { left: number; top: number; right: number; bottom: number; by: Element | null }
  const clips = new WeakMap<Element, Clip>()
  const clipOf = (element: Element | null): Clip => {
    if (!element) return { left: -1e9, top: -1e9, right: 1e9, bottom: 1e9, by: null }
    const known = clips.get(element)
    if (known) return known
    const outer = clipOf(element.parentElement)
    const own = style(element)
    let clip = outer
    if (own.overflowX !== 'visible' || own.overflowY !== 'visible') {
      const box = element.getBoundingClientRect()
      clip = {
        left: Math.max(outer.left, box.left),
        top: Math.max(outer.top, box.top),
        right: Math.min(outer.right, box.right),
        bottom: Math.min(outer.bottom, box.bottom),
        by: /hidden|clip/.test(own.overflowX) && own.textOverflow !== 'ellipsis' ? element : null,
      }
    }
    clips.set(element, clip)
    return clip
  }

  const boxes: Box[] = []
  const add = (element: Element, rect: DOMRect, text: boolean) => {
    const clip = clipOf(text ? element : element.parentElement)
    // Letters fill the middle of their line; what is pressed is painted to its edge.
    const [x, y] = text ? [1, rect.height * 0.22] : [1, 1]
    const box = {
      element,
      layer: layerOf(element),
      left: Math.max(rect.left + x, clip.left),
      top: Math.max(rect.top + y, clip.top),
      right: Math.min(rect.right - x, clip.right),
      bottom: Math.min(rect.bottom - y, clip.bottom),
      text,
    }
    if (box.right > box.left && box.bottom > box.top) boxes.push(box)
    if (clip.right - clip.left <= 1) return // for screen readers
    // What ends in an ellipsis says so, what scrolls can be scrolled: all else must be whole.
    if (text && clip.by && rect.right > clip.right + 1 && rect.left < clip.right) found.push(`${name(element)} is cut by ${name(clip.by)}`)
  }
  const visible = (element: Element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true })
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const parent = node.parentElement!
    if (!node.textContent!.trim() || !visible(parent) || parent.closest('.unseen, option, script, style')) continue
    const range = document.createRange()
    range.selectNodeContents(node)
    for (const rect of range.getClientRects()) add(parent, rect, true)
  }
  for (const control of document.querySelectorAll('.button, input, select, textarea')) {
    if (visible(control) && !control.closest('.unseen')) add(control, control.getBoundingClientRect(), false)
  }
  boxes.sort((a, b) => a.top - b.top)
  let open: Box[] = []
  for (const box of boxes) {
    open = open.filter(({ bottom }) => bottom > box.top)
    for (const other of open) {
      if (box.layer !== other.layer || Math.min(box.right, other.right) <= Math.max(box.left, other.left)) continue
      // A button and its own words.
      if (box.element.contains(other.element) || other.element.contains(box.element)) {
        if (!box.text || !other.text || box.element === other.element) continue
      }
      found.push(`${name(other.element)} lies over ${name(box.element)}`)
    }
    open.push(box)
  }

  for (const row of document.querySelectorAll('main tr')) {
    if (!row.checkVisibility() || !row.getBoundingClientRect().width) continue // a head that phones do without
    const cells = [...row.children].filter((cell) => style(cell).display !== 'none' && cell.textContent.trim())
    for (const cell of cells) {
      const { width } = cell.getBoundingClientRect()
      if (width < 24) found.push(`${name(cell)} has ${Math.round(width)} px`)
    }
    const { height } = row.getBoundingClientRect()
    if (height > 240) found.push(`${name(row)} fills ${Math.round(height)} px`)
  }
  // Of a rule each part has a column that it fits: a figure is not broken by its digits, nor a sentence by its letters.
  for (const cell of document.querySelectorAll('main .rule-line > :not(.number)')) {
    const text = (cell as HTMLElement).innerText?.trim() ?? ''
    const { width } = cell.getBoundingClientRect()
    if (width > 0 && text && width < (text.length > 12 ? 40 : 24)) found.push(`${name(cell)} has ${Math.round(width)} px`)
  }

  // Whatever is pressed can be hit: 24 × 24 px, but for links within a sentence (WCAG 2.5.8).
  const pressed = 'a[href], button, select, summary, textarea, input:not([type=hidden]), [role=button], [role=option], [role=tab]'
  const inSentence = (link: Element) => {
    if (style(link).display !== 'inline') return false
    let block: Element | null = link
    while (block && style(block).display === 'inline') block = block.parentElement
    // What else its line says; marks between links say nothing.
    const rest = document.createTreeWalker(block!, NodeFilter.SHOW_TEXT)
    for (let node = rest.nextNode(); node; node = rest.nextNode()) {
      if (/\p{L}{2}/u.test(node.textContent!) && !node.parentElement!.closest('a, button') && visible(node.parentElement!)) return true
    }
    return false
  }
  for (const link of document.querySelectorAll(pressed)) {
    if (!visible(link) || link.closest('.unseen, .skip') || inSentence(link)) continue
    let { width, height } = link.getBoundingClientRect()
    // The words of a box are pressed as well as the box.
    const label = link.matches('input') ? link.closest('label')?.getBoundingClientRect() : undefined
    if (label) [width, height] = [Math.max(width, label.width), Math.max(height, label.height)]
    if (width && height && (width < 23.9 || height < 23.9)) found.push(`${name(link)} has ${Math.round(width)} × ${Math.round(height)} px`)
  }

  // Every time says its zone, in its words or, for ages, in its title. Examples of code have their own.
  for (const time of document.querySelectorAll('main time')) {
    if (!/UTC/.test(time.textContent + (time.getAttribute('title') ?? ''))) found.push(`${name(time)} has no zone`)
  }
  const clocks = document.createTreeWalker(document.querySelector('main')!, NodeFilter.SHOW_TEXT)
  for (let node = clocks.nextNode(); node; node = clocks.nextNode()) {
    if (/\b\d{1,2}:\d{2}\b/.test(node.textContent!) && !/UTC/.test(node.textContent!) && !node.parentElement!.closest('pre, code'))
      found.push(`“${node.textContent}” has no zone`)
  }
  return [...new Set(found)]
}

/** What the rows of runs lack of that by which one knows a run. Runs in the page. */
export function losses(titles: string[]): string[] {
  const rows = [...document.querySelectorAll('main tbody tr')].filter((row) => row.querySelector('a[href*="/runs/"]'))
  const seen = (element: Element | null) => {
    const box = element?.getBoundingClientRect()
    return Boolean(box && box.width >= 40 && box.height > 8 && (element as HTMLElement).checkVisibility({ visibilityProperty: true }))
  }
  const lost = titles.filter((title) => !rows.some((row) => row.textContent.includes(title)))
  for (const row of rows) {
    const about = row.textContent.trim().replace(/\s+/g, ' ').slice(0, 60)
    if (!seen(row.querySelector('a[href*="/runs/"]'))) lost.push(`no link: ${about}`)
    const users = [...row.querySelectorAll('bdi')].filter((text) => text.textContent.includes('maria.kowalska'))
    if (!users.some(seen)) lost.push(`no user: ${about}`)
  }
  return lost
}
