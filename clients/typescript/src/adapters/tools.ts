import type { Pikarc } from "../client.js";
import { PikarcBlockedError } from "../errors.js";

export interface AdapterOptions {
  /**
   * Of a tool that may not be called: "tell" the model so, in a sentence (the default), or "throw" PikarcBlockedError. Trouble
   * with the guard itself is always thrown. Neither calls the tool.
   */
  onDenied?: "tell" | "throw";
}

/** Calls a tool within the run around it. `tell` makes of the sentence for the model what the framework takes for a result. */
export async function callTool<T>(
  guard: Pikarc,
  toolName: string,
  inputData: unknown,
  fn: () => Promise<T> | T,
  tell: (sentence: string) => Promise<T> | T,
  options: AdapterOptions,
): Promise<T> {
  let called = false;
  try {
    return await guard.current().toolCall(() => ((called = true), fn()), { toolName, inputData });
  } catch (error) {
    // One from within the tool, as of an agent that is a tool, is that call's own.
    if (called || !(error instanceof PikarcBlockedError) || options.onDenied === "throw") throw error;
    return tell(error.forModel());
  }
}
