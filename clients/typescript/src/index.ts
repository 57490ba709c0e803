/**
 * Puts AI agents under the guard of a Pikarc server: before each call the server is asked, after it, what it used is
 * reported. A server that is down, slow or broken stops the agent, unless one says otherwise (`onUnavailable`).
 *
 *     const guard = new Pikarc();
 *     await guard.run({ userId: "ada" }, (run) => run.modelCall(askTheModel, { model: "gpt-4o" }));
 */
export { Pikarc, Run, type ModelCallOptions, type RunOptions, type ToolCallOptions } from "./client.js";
export * from "./errors.js";
export type { Options } from "./settings.js";
export type { TokenExtractor } from "./usage.js";
