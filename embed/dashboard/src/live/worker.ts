// All windows of a browser share this worker, and with it one event stream: browsers open six connections to a server for
// all windows together, and a window that got none of them would show nothing. A window joins while it is looked at.
import { Connection, type Told } from './connection'

/** What a window asks. */
export type Asked = { kind: 'join'; url: string; token: string } | { kind: 'leave' } | { kind: 'retry' }

type Shared = { connection: Connection; ports: Set<MessagePort> }

const shared = new Map<string, Shared>()
const joined = new Map<MessagePort, string>()

function join(port: MessagePort, url: string, token: string) {
  const known = shared.get(token)
  joined.set(port, token)
  if (known) {
    known.ports.add(port)
    const { quietSince } = known.connection
    // What comes from now on, this window hears too.
    if (quietSince === null) known.connection.retry()
    else port.postMessage({ kind: 'open', quiet: performance.now() - quietSince } satisfies Told)
    return
  }
  const ports = new Set([port])
  const tell = (told: Told) => {
    for (const each of ports) each.postMessage(told)
  }
  shared.set(token, { connection: new Connection(url, token, tell), ports })
}

function leave(port: MessagePort) {
  const token = joined.get(port)
  const known = token === undefined ? undefined : shared.get(token)
  joined.delete(port)
  if (!known) return
  known.ports.delete(port)
  if (known.ports.size > 0) return
  known.connection.close()
  shared.delete(token!)
}

const scope = self as unknown as { onconnect: (event: MessageEvent) => void }
scope.onconnect = ({ ports: [port] }) => {
  if (!port) return
  port.onmessage = ({ data }: MessageEvent<Asked>) => {
    if (data.kind === 'retry') return shared.get(joined.get(port) ?? '')?.connection.retry()
    leave(port)
    if (data.kind === 'join') join(port, data.url, data.token)
  }
}
