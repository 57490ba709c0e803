interface Store<T> {
  run<R>(value: T, body: () => R): R;
  getStore(): T | undefined;
}

type Maker = new <T>() => Store<T>;

/**
 * Makes what a value is kept in for all that a function calls, also later. Without an import: some runtimes have it as a
 * global, Node, Bun and Deno as a module of their own, browsers not at all. Then there is none, and runs are passed on by hand.
 */
export function makeStore<T>(): Store<T> | undefined {
  const runtime = globalThis as {
    AsyncLocalStorage?: Maker;
    process?: { getBuiltinModule?: (name: string) => { AsyncLocalStorage?: Maker } | undefined };
  };
  const Made = runtime.AsyncLocalStorage ?? runtime.process?.getBuiltinModule?.("node:async_hooks")?.AsyncLocalStorage;
  return Made && new Made<T>();
}
