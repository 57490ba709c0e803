// The real server as a process, with an account whose settings its tests change.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";

const email = "ann@example.com";
const password = "correct horse battery staple";

/** Starts a server on a free port, or the one given, with its data in a directory that may be empty. */
export async function serve(binary, data, port = 0) {
  const account = ["create-user", "--init", "--plan", "enterprise", "--data-dir", data, "--email", email, "--password-stdin", "--json"];
  const { api_key: apiKey } = port ? {} : JSON.parse(spawnSync(binary, account, { input: `${password}\n` }).stdout);
  const process = spawn(binary, ["serve", "--data-dir", data, "--addr", `127.0.0.1:${port}`], { stdio: ["ignore", "pipe", "ignore"] });
  const base = await new Promise((resolve, reject) => {
    let said = "";
    process.stdout.on("data", (text) => {
      said += text;
      const [address] = /http:\/\/127\.0\.0\.1:\d+/.exec(said) ?? [];
      if (address) resolve(address);
    });
    process.on("exit", (code) => reject(new Error(`the server has ended: ${code}`)));
  });
  let token;
  async function call(method, path, body) {
    const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
    const response = await fetch(base + path, { method, headers, body: body && JSON.stringify(body) });
    assert.ok(response.ok, `${method} ${path}: ${response.status}`);
    return response.json();
  }
  token = (await call("POST", "/v1/auth/login", { email, password })).access_token;
  return {
    base, apiKey, call,
    killSwitch: (active) => call("POST", "/v1/workspace/kill-switch", { active }),
    stop: async () => {
      const ended = once(process, "exit");
      process.kill();
      await ended;
    },
  }; // prettier-ignore
}
