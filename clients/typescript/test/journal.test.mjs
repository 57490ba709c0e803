import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, writeFileSync, appendFileSync, mkdirSync } from "node:fs";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { FileJournal, MemoryJournal } from "../dist/journal.js";
import { Books } from "./books.mjs";

const entry = (path) => ({ kind: "request", method: "PATCH", path, body: { status: "COMPLETED" }, at: 1 });
const directory = () => mkdtempSync(join(tmpdir(), "pikarc-"));
/** The journal of a process, among those with the ids that are alive. */
const open = (dir, pid = 7, { owner = "owner", mark = "m", alive = [] } = {}) =>
  new FileJournal(fs, dir, owner, pid, (id) => alive.includes(id), mark);

async function all(journal) {
  const got = [];
  await journal.drain(async (entries) => (got.push(...entries.map((e) => e.path)), []));
  return got;
}

test("what is kept is delivered once, and leaves no file", async () => {
  const dir = directory();
  const journal = open(dir);
  assert.equal(await journal.mayHold(), false);
  assert.ok(await journal.append(entry("a")));
  assert.ok(await journal.append(entry("b"), entry("c")));
  assert.deepEqual([await journal.length(), await journal.mayHold()], [3, true]);
  assert.deepEqual(await all(journal), ["a", "b", "c"]);
  assert.deepEqual([readdirSync(dir), await all(journal), await journal.mayHold()], [[], [], false]);
});

test("what the server does not take yet is kept in its order", async () => {
  const journal = open(directory());
  await journal.append(entry("a"), entry("b"));
  await journal.drain(async (entries) => entries.slice(1));
  assert.equal(await journal.mayHold(), true);
  assert.deepEqual(await all(journal), ["b"]);
});

test("the files of other processes are delivered, whether they live or another has their id", async () => {
  const dir = directory();
  await open(dir, 8).append(entry("gone"));
  const alive = open(dir, 9);
  await alive.append(entry("alive"));
  assert.deepEqual((await all(open(dir, 7, { alive: [9] }))).sort(), ["alive", "gone"]);
  await alive.append(entry("more"));
  assert.deepEqual(await all(open(dir)), ["more"]);
});

test("a report that is kept while another process takes the file away is not lost", async () => {
  const dir = directory();
  const other = open(dir, 8);
  let first;
  const racing = {
    ...fs,
    open: async (...given) => {
      const file = await fs.open(...given);
      first ??= await all(other);
      return file;
    },
  };
  const journal = new FileJournal(racing, dir, "owner", 7, () => true, "m");
  assert.equal(await journal.append(entry("a")), true);
  assert.deepEqual([first, await all(open(dir))], [[], ["a"]]);
});

test("what a living process is delivering is left to it, for a time", async () => {
  const dir = directory();
  await open(dir, 8).append(entry("a"));
  open(dir, 8).drain(() => new Promise(() => undefined));
  while (!readdirSync(dir)[0]?.includes(".jsonl.")) await new Promise(setImmediate);
  const next = open(dir, 7, { alive: [8] });
  const [path, past] = [join(dir, readdirSync(dir)[0]), new Date(Date.now() - 700_000)];
  assert.deepEqual(await all(next), []);
  await fs.utimes(path, past, past);
  assert.deepEqual(await all(next), ["a"]); // its id is another's by now
});

for (const [name, pid, mark] of [["another process", 8, "m"], ["an earlier process with the same id, as in a container", 7, "before"]]) {
  test(`what ${name} had taken when it died is delivered by the next`, async () => {
    const dir = directory();
    const dying = open(dir, pid, { mark });
    await dying.append(entry("a"));
    dying.drain(() => new Promise(() => undefined)); // dies in the middle of it
    const next = open(dir);
    while (!readdirSync(dir)[0]?.includes(".jsonl.")) await new Promise(setImmediate);
    assert.equal(await next.length(), 1);
    assert.deepEqual(await all(next), ["a"]);
    assert.deepEqual(readdirSync(dir), []);
  });
}

test("what this process is delivering is not taken by another client of it", async () => {
  const dir = directory();
  const one = open(dir);
  await one.append(entry("a"));
  await one.drain(async () => {
    assert.deepEqual(await all(open(dir)), []);
    return [];
  });
});

test("reports for another server or key are left alone", async () => {
  const dir = directory();
  await open(dir, 8, { owner: "other" }).append(entry("a"));
  assert.deepEqual(await all(open(dir)), []);
});

test("a line that a crash has cut short loses no other", async () => {
  const dir = directory();
  await open(dir, 8).append(entry("a"));
  appendFileSync(join(dir, readdirSync(dir)[0]), '{"kind":"request","pa');
  assert.deepEqual(await all(open(dir)), ["a"]);
});

test("of many calls at once each is on the disk when it returns", async () => {
  const dir = directory();
  const journal = open(dir);
  await Promise.all(Array.from({ length: 200 }, (_, i) => journal.append(entry(String(i)))));
  const [file, ...more] = readdirSync(dir);
  assert.deepEqual(more, []);
  assert.equal(readFileSync(join(dir, file), "utf8").split("\n").length, 201);
});

test("a full journal says no, and keeps what it has", async () => {
  const dir = directory();
  const journal = open(dir);
  await journal.append(entry("a"));
  writeFileSync(join(dir, "8-x-owner.ts.jsonl"), Buffer.alloc(64 << 20, "\n"));
  assert.equal(await journal.append(entry("b")), false);
  assert.deepEqual(await all(journal), ["a"]);
});

test("a directory that cannot be written to loses the report, and the agent goes on", async () => {
  const dir = join(directory(), "file");
  writeFileSync(dir, "");
  assert.equal(await open(dir).append(entry("a")), false);
  mkdirSync(dir + "2");
  assert.equal(await open(dir).length(), 0);
});

test("in memory there is a bound too", async () => {
  const journal = new MemoryJournal();
  for (let i = 0; i < 10_000; i++) await journal.append(entry(String(i)));
  assert.equal(await journal.append(entry("one more")), false);
  assert.equal((await all(journal)).length, 10_000);
});

test("a report that the server could not take is sent by the next run, and the key is in no file", async () => {
  const books = new Books();
  const client = books.client();
  books.hook = (n, before) => {
    if (before && n === 3) throw new TypeError("fetch failed");
  };
  await client.run({ userId: "ada" }, (run) => run.toolCall(() => 1, { toolName: "t" }));
  assert.equal(await client.journalLength(), 1);
  await client.run({ userId: "ada" }, () => undefined);
  assert.equal(await client.journalLength(), 0);
  books.assertSettled();
});
