/** Larger payloads are described instead of sent. The server has a bound of its own, which may be lower. */
const maxPayload = 4 << 20;
const maxDepth = 60;

/** Makes JSON of whatever an agent hands over. What is no JSON becomes its text: describing a call never fails it. */
export function encode(body: unknown): string {
  try {
    const text = JSON.stringify(body);
    if (text !== undefined) return text;
  } catch {
    // a ring, a BigInt, or a toJSON that throws
  }
  return JSON.stringify(plain(body, 0, new Set())) ?? "null";
}

/** Returns a payload as it is sent: itself, or what describes it where it is too large. */
export function payload(value: unknown): unknown {
  if (value === undefined || value === null) return value;
  const raw = encode(value);
  if (raw.length <= maxPayload) return JSON.parse(raw);
  return { omitted_bytes: new TextEncoder().encode(raw).length, preview: raw.slice(0, 1000) };
}

function plain(value: unknown, depth: number, around: Set<unknown>): unknown {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      return Number.isFinite(value) ? value : String(value);
    case "object":
      break;
    default:
      return text(value);
  }
  if (value === null) return null;
  if (around.has(value)) return "(itself)";
  if (depth >= maxDepth) return text(value);
  const inside = new Set(around).add(value);
  if (Array.isArray(value)) return value.map((v) => plain(v, depth + 1, inside));
  if (value instanceof Map || value instanceof Set) return plain([...value], depth + 1, inside);
  const made: Record<string, unknown> = {};
  for (const name of Object.keys(value)) {
    try {
      made[name] = plain((value as Record<string, unknown>)[name], depth + 1, inside);
    } catch {
      made[name] = "(cannot be read)";
    }
  }
  return made;
}

function text(value: unknown): string {
  try {
    return String(value).slice(0, 10_000);
  } catch {
    return `(${typeof value})`;
  }
}

/** Returns what is reported of an exception that ended a call. */
export function describe(error: unknown): string {
  return (error instanceof Error ? `${error.name}: ${text(error.message)}` : text(error)).slice(0, 10_000);
}
