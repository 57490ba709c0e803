/**
 * Puts AI agents under the guard of a Pikarc server: before each call the server is asked, after it, what it used is
 * reported. A server that is down, slow or broken stops the agent, unless one says otherwise (`onUnavailable`).
 *
 *     const guard = new Pikarc();
 *     await guard.run({ userId: "ada" }, (run) => run.modelCall(askTheModel, { model: "gpt-4o" }));
 */
export { Pikarc, type RunOptions } from "./client.js";
export { Run, type ModelCallOptions, type ToolCallOptions } from "./run.js";
export { NotReported, OpenStep } from "./step.js";
export * from "./errors.js";
export type { Options } from "./settings.js";
export type { TokenExtractor, UsageFinder } from "./usage.js";
