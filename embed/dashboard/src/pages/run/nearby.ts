import { router } from '../../shell/router.svelte'

/** Whether one has come back to a place further down this page: then nothing else scrolls it. */
export const wasAt = () => router.place.returning
