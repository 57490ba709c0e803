// Times guarded calls beside the same two requests by fetch alone, in turns: `typescript_calls.mjs CALLS`.
import { Pikarc } from "../../typescript/dist/index.js";

const base = process.env["PIKARC_BASE_URL"];
const headers = { authorization: `Bearer ${process.env["PIKARC_API_KEY"]}`, "content-type": "application/json" };
async function ask(method, path, body) {
  return (await fetch(base + path, { method, headers, body: JSON.stringify(body) })).json();
}

const [bare, guarded] = [[], []];
async function timed(times, work) {
  const started = performance.now();
  await work();
  times.push((performance.now() - started) / 1000);
}

const { id } = await ask("POST", "/v1/runs/", { user_id: "bare" });
await new Pikarc().run({ userId: "guarded" }, async (run) => {
  for (let i = 0; i < Number(process.argv[2]); i++) {
    await timed(bare, async () => {
      const step = await ask("POST", `/v1/runs/${id}/steps`, { type: "TOOL_CALL", sequence: 1, tool_name: "t" });
      await ask("PATCH", `/v1/runs/${id}/steps/${step.id}`, { status: "COMPLETED", duration_ms: 0 });
    });
    await timed(guarded, () => run.toolCall(() => undefined, { toolName: "t" }));
  }
});
console.log(JSON.stringify({ beside: "fetch", bare, guarded }));
