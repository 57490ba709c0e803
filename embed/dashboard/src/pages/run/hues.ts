// A hue is a model, on every page: the five that cost most in the last 30 days have one, the rest is grey.
import { world } from '../../live/world.svelte'

const HUES = 5

export function hueOf(model: string | null): string {
  const at = (world.usage.value?.by_model ?? []).findIndex((used) => used.model === model)
  return at < 0 || at >= HUES ? 'hue-0' : `hue-${at + 1}`
}

/** What a legend shows for any model. */
export const [hueOfFirst, hueOfOther] = ['hue-1', 'hue-2']
