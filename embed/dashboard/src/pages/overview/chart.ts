// Draws daily spend as stacked bars with uPlot. Loaded only where there is a chart.
import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import { inkOf } from '../../look/ink'
import { usd } from '../../format/money'
import { day } from '../../format/time'
import { type Spend, stacked, ticks } from './spend'

const HEIGHT = 200

export type Chart = {
  /** Draws other figures of the same models; the day under the pointer stays the one that is told. */
  update: (spend: Spend, limit: number | null) => void
  destroy: () => void
  resize: (width: number) => void
}

/** What is drawn: it changes under a chart that stays. */
type Drawn = { spend: Spend; highest: number; line: number | null; top: number }

/** The colour of the n-th dearest model; the rest has the faintest. */
export function colour(series: Spend['series'][number], at: number): string {
  return `--hue-${series.other ? 0 : at + 1}`
}

export function draw(
  box: HTMLElement,
  spend: Spend,
  limit: number | null,
  /** Where in the window the pointer is, while it is on the chart. */
  pointer: () => { x: number; y: number } | null,
  onHover: (at: number | null) => void,
): Chart {
  const ink = inkOf(box)
  let drawn = scaled(spend, limit)
  const font = `12px ${getComputedStyle(box).getPropertyValue('--sans').trim()}`

  const options: uPlot.Options = {
    width: box.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    // The label of the last day stands out to the right of its bar.
    padding: [8, 16, 0, 0],
    cursor: { y: false, points: { show: false }, drag: { setScale: false, x: false, y: false } },
    scales: {
      x: { time: false, range: () => [-0.6, drawn.spend.dates.length - 0.4] },
      y: { range: () => [0, drawn.top] },
    },
    axes: [
      {
        stroke: ink('--second'),
        font,
        grid: { show: false },
        ticks: { show: false },
        size: 28,
        splits: () => labelled(drawn.spend.dates.length, box.clientWidth),
        values: (_, at) => at.map((i) => day(drawn.spend.dates[i]!)),
      },
      {
        stroke: ink('--second'),
        font,
        grid: { stroke: ink('--line'), width: 1 },
        ticks: { show: false },
        size: (_, values) => 16 + Math.max(...(values ?? ['']).map((text) => text.length)) * 7,
        splits: () => ticks(drawn.highest || drawn.top),
        values: (_, at) => at.map((value) => (value === 0 ? '$0' : usd(value))),
      },
    ],
    // The highest stack is drawn first, the dearer ones over it.
    series: [
      {},
      ...spend.series
        .map((series, at) => {
          const fill = ink(colour(series, at))
          return { fill, stroke: fill, width: 0, points: { show: false }, paths: bars() }
        })
        .reverse(),
    ],
    hooks: {
      setCursor: [(plot) => onHover(plot.cursor.idx ?? null)],
      draw: [(plot) => drawn.line !== null && drawLimit(plot, drawn.line, ink, font)],
    },
  }
  const plot = new uPlot(options, columns(spend), box)
  // A pointer that rests sends no event, so a new chart or a wider axis is told where it is.
  const aim = () => {
    const at = pointer()
    if (!at || gone) return
    const { left, top } = plot.over.getBoundingClientRect()
    plot.setCursor({ left: at.x - left, top: at.y - top })
  }
  // uPlot draws, and gives the axes their sizes, in a microtask of its own.
  queueMicrotask(aim)
  let gone = false
  return {
    update: (fresh, limit) => {
      drawn = scaled(fresh, limit)
      plot.setData(columns(fresh))
      queueMicrotask(aim)
    },
    destroy: () => {
      gone = true
      plot.destroy()
    },
    resize: (width) => plot.setSize({ width, height: HEIGHT }),
  }
}

/** The heights of the bars and of the scale they are drawn on. */
function scaled(spend: Spend, limit: number | null): Drawn {
  const highest = Math.max(0, ...(stacked(spend).at(-1) ?? []))
  // A limit far above all bars would press them flat; then it is only named beside the chart.
  const line = limit !== null && fits(limit, highest) ? limit : null
  return { spend, highest, line, top: Math.max(highest, line ?? 0) * 1.12 || 1 }
}

// The highest stack is drawn first, as the series are.
function columns(spend: Spend): uPlot.AlignedData {
  return [spend.dates.map((_, i) => i), ...stacked(spend).reverse()]
}

const bars = () => uPlot.paths.bars!({ size: [0.7, 40] })

export const fits = (limit: number, highest: number) => limit <= highest * 2

function labelled(days: number, width: number): number[] {
  const step = Math.max(1, Math.ceil(days / Math.max(2, Math.floor(width / 96))))
  const at: number[] = []
  for (let i = days - 1; i >= 0; i -= step) at.unshift(i)
  return at
}

function drawLimit(plot: uPlot, limit: number, ink: (name: string) => string, font: string) {
  const { ctx, bbox } = plot
  const ratio = devicePixelRatio
  const y = Math.round(plot.valToPos(limit, 'y', true))
  ctx.save()
  ctx.strokeStyle = ink('--denied')
  ctx.lineWidth = ratio
  ctx.setLineDash([4 * ratio, 4 * ratio])
  ctx.beginPath()
  ctx.moveTo(bbox.left, y)
  ctx.lineTo(bbox.left + bbox.width, y)
  ctx.stroke()
  ctx.font = font.replace('12px', `${12 * ratio}px`)
  ctx.fillStyle = ink('--denied')
  ctx.textAlign = 'left'
  ctx.textBaseline = 'bottom'
  ctx.fillText(`Daily budget ${usd(limit)}`, bbox.left + 4 * ratio, y - 4 * ratio)
  ctx.restore()
}
