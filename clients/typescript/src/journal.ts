import type { CreateStepRequest, EndRunRequest, StartRunRequest, UpdateStepRequest } from "./wire.js";

/** A report that could not be delivered. */
export interface Entry {
  kind: "request" | "step" | "end";
  method?: string;
  path?: string;
  body?: unknown;
  runId?: string;
  start?: StartRunRequest;
  key?: string;
  step?: CreateStepRequest;
  stepKey?: string;
  report?: UpdateStepRequest;
  status?: EndRunRequest["status"];
  at: number;
}

/** Where reports wait that could not be delivered. Its methods throw nothing. */
export interface Journal {
  append(...entries: Entry[]): Promise<boolean>;
  /** Calls `deliver` with what waits, a file at a time; it returns what is still to be kept. */
  drain(deliver: (entries: Entry[]) => Promise<Entry[]>): Promise<void>;
  length(): Promise<number>;
  /** Reports whether there may be something to deliver, mostly without looking. */
  mayHold(): Promise<boolean>;
}

const maxEntries = 10_000; // in memory

/** Keeps reports in memory, where there are no files: browsers and edge runtimes. They go with the process. */
export class MemoryJournal implements Journal {
  private entries: Entry[] = [];
  append(...entries: Entry[]): Promise<boolean> {
    if (this.entries.length + entries.length > maxEntries) {
      console.error(`pikarc: ${entries.length} reports could be neither delivered nor kept, since ${maxEntries} wait: they are lost`);
      return Promise.resolve(false);
    }
    this.entries.push(...entries);
    return Promise.resolve(true);
  }
  async drain(deliver: (entries: Entry[]) => Promise<Entry[]>): Promise<void> {
    const taken = this.entries.splice(0);
    if (taken.length) this.entries.unshift(...(await deliver(taken)));
  }
  length(): Promise<number> {
    return Promise.resolve(this.entries.length);
  }
  mayHold(): Promise<boolean> {
    return Promise.resolve(this.entries.length > 0);
  }
}

const maxBytes = 64 << 20;
const suffix = ".ts.jsonl"; // the clients of other languages have files of their own form
const longestDelivery = 600_000; // milliseconds after which a file that is being delivered is taken over
const lookEvery = 30_000; // milliseconds between looks for what other processes have left
/** Tells this process from another one that had its id: in containers all have the same. */
const instance = crypto.randomUUID().slice(0, 8);

type Fs = typeof import("node:fs/promises");

/**
 * Keeps reports in files. Whoever delivers one renames it first; who has written it then goes on in a new one, also what it
 * wrote at that moment. A report is appended and synced before the call that it is of returns. The API key is never written.
 */
export class FileJournal implements Journal {
  private path: string | undefined;
  private left = false; // whether this process has kept something that is not delivered
  private looked = -Infinity;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly fs: Fs,
    private readonly directory: string,
    private readonly owner: string,
    private readonly pid: number,
    private readonly isAlive: (pid: number) => boolean,
    private readonly mark = instance,
  ) {}

  append(...entries: Entry[]): Promise<boolean> {
    return this.inTurn(async () => {
      try {
        await this.fs.mkdir(this.directory, { recursive: true, mode: 0o700 });
        const lines = Buffer.from(entries.map((entry) => JSON.stringify(entry) + "\n").join(""));
        do this.path ??= `${this.directory}/${crypto.randomUUID().slice(0, 18)}-${this.owner}${suffix}`;
        while (!(await this.write(this.path, lines)));
        this.left = true;
        return true;
      } catch (error) {
        console.error(`pikarc: ${entries.length} reports could be neither delivered nor kept: they are lost`, error);
        return false;
      }
    });
  }

  /** Appends all or nothing. It is false where the file has been taken away meanwhile. */
  private async write(path: string, lines: Buffer): Promise<boolean> {
    if ((await this.size()) + lines.length > maxBytes) throw new Error(`the journal in ${this.directory} is full (${maxBytes} bytes)`);
    const file = await this.fs.open(path, "a", 0o600);
    try {
      const { size } = await file.stat();
      try {
        await file.appendFile(lines);
        await file.sync();
      } catch (error) {
        await file.truncate(size); // half a line would spoil the next one too
        throw error;
      }
      const [written, there] = await Promise.all([file.stat({ bigint: true }), this.fs.stat(path, { bigint: true }).catch(() => undefined)]);
      if (written.ino === there?.ino) return true;
      this.path = undefined;
      return false;
    } finally {
      await file.close();
    }
  }

  async drain(deliver: (entries: Entry[]) => Promise<Entry[]>): Promise<void> {
    this.left = false;
    for (const name of await this.files()) {
      const taken = await this.take(name);
      if (taken === undefined) continue;
      const kept = await deliver(await this.read(taken));
      if (kept.length === 0 || (await this.append(...kept))) await this.fs.rm(taken, { force: true });
      if (kept.length) return;
    }
  }

  /**
   * Renames a file: whoever does has it, and its id and mark are the name's last part from then on. What a process had taken
   * that has died, or is another by now, is taken in the same way.
   */
  private async take(name: string): Promise<string | undefined> {
    const [base = "", holder] = name.split(`${suffix}.`);
    const path = `${this.directory}/${name}`;
    if (holder !== undefined && (await this.isHeld(path, holder))) return undefined;
    const taken = `${this.directory}/${holder === undefined ? name : base + suffix}.${this.pid}-${this.mark}`;
    try {
      await this.inTurn(async () => {
        if (path === this.path) this.path = undefined;
        await this.fs.rename(path, taken);
        await this.fs.utimes(taken, new Date(), new Date());
      });
      return taken;
    } catch {
      return undefined;
    }
  }

  /** Reports whether a file's holder is delivering it: a process of this id that lives, within a bounded time. */
  private async isHeld(path: string, holder: string): Promise<boolean> {
    const [pid, mark] = holder.split("-");
    if (Number(pid) === this.pid) return mark === this.mark;
    if (!this.isAlive(Number(pid))) return false;
    const since = (await this.fs.stat(path).catch(() => undefined))?.mtimeMs ?? 0;
    return Date.now() - since < longestDelivery;
  }

  async length(): Promise<number> {
    let count = 0;
    for (const name of await this.files()) count += (await this.read(`${this.directory}/${name}`)).length;
    return count;
  }

  async mayHold(): Promise<boolean> {
    if (this.left) return true;
    if (Date.now() - this.looked < lookEvery) return false;
    this.looked = Date.now();
    return (await this.size()) > 0;
  }

  private async size(): Promise<number> {
    const sizes = (await this.files()).map(async (name) => (await this.fs.stat(`${this.directory}/${name}`).catch(() => undefined))?.size ?? 0);
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  }

  private async files(): Promise<string[]> {
    try {
      const end = `-${this.owner}${suffix}`;
      return (await this.fs.readdir(this.directory)).filter((name) => name.endsWith(end) || name.includes(`${end}.`)).sort();
    } catch {
      return [];
    }
  }

  private async read(path: string): Promise<Entry[]> {
    const entries: Entry[] = [];
    try {
      for (const line of (await this.fs.readFile(path, "utf8")).split("\n")) {
        try {
          if (line) entries.push(JSON.parse(line) as Entry);
        } catch {
          // cut short by a crash
        }
      }
    } catch {
      // gone
    }
    return entries;
  }

  /** Runs one after the other what changes this process's file. */
  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const next = this.turn.then(work);
    this.turn = next.catch(() => undefined);
    return next;
  }
}

/** Opens the journal of this runtime: files where there are some, else memory. */
export async function openJournal(directory: string | undefined, owner: string): Promise<Journal> {
  const process = (globalThis as { process?: NodeJS.Process }).process;
  if (!process?.versions?.node || typeof process.pid !== "number") return new MemoryJournal();
  try {
    const [fs, os] = await Promise.all([import("node:fs/promises"), import("node:os")]);
    const env = process.env;
    const state = env["XDG_STATE_HOME"] ?? env["LOCALAPPDATA"] ?? `${os.homedir()}/.local/state`;
    const alive = (pid: number) => {
      try {
        process.kill(pid, 0);
        return true;
      } catch (error) {
        return (error as NodeJS.ErrnoException).code === "EPERM";
      }
    };
    return new FileJournal(fs, directory ?? env["PIKARC_JOURNAL_DIR"] ?? `${state}/pikarc`, owner, process.pid, alive);
  } catch {
    return new MemoryJournal();
  }
}
