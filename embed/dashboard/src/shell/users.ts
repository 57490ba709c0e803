// Where the page of a user is. Ids are whatever the workspace's agents call people: they may hold slashes, spaces, dots.
const PAGE = '/users/'

/** The path of a user's page, without the base path. Browsers take `.` and `..` away, so these stand in the query. */
export function userPath(id: string): string {
  return /^\.{1,2}$/.test(id) ? `${PAGE}-?id=${id}` : PAGE + encodeURIComponent(id)
}

/** The user whose page a path is. */
export function userOf(path: string): string {
  const escaped = path.slice(PAGE.length).replace(/\/$/, '')
  try {
    return decodeURIComponent(escaped)
  } catch {
    return escaped // typed by hand
  }
}
