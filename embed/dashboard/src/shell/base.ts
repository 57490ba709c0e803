// Where this server lies below its origin: '' at the root, '/pikarc' with --base-path /pikarc. The server writes it
// into the page. Routes and paths of the API are without it; links that a browser follows, and calls, are with it.
const told = typeof document === 'undefined' ? null : document.querySelector('meta[name="base-path"]')

export const base = baseOf(told?.getAttribute('content'))

/** The base path in the form that paths follow: without a slash at its end. */
export function baseOf(content: string | null | undefined): string {
  return (content ?? '').replace(/\/+$/, '')
}

/** A path of the browser's address as a path of the dashboard. Of one that is not below the base, all of it. */
export function below(base: string, pathname: string): string {
  if (pathname === base) return '/'
  return pathname.startsWith(base + '/') ? pathname.slice(base.length) : pathname
}
