// What it cost, by whom, against last time: Monday's question, and a page a user, whatever the user is called.
import { readFileSync } from "node:fs";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  launch,
  settled,
  shown,
  violations,
  visit,
  type Visit,
} from "./browser";
import { type Account, Server } from "./server";
import { withinLimit } from "./tasks";

const user = "acme/a b/../😀";

let server: Server;
let browser: Browser;
let account: Account;

beforeAll(async () => {
  server = await Server.start();
  browser = await launch();
  account = await server.account("ada@example.com");
  const set = (method: string, path: string, body: object) =>
    server.call(account.token, method, path, body);
  await set("PATCH", "/v1/workspace/", { max_concurrent_runs: 100 });
  await set("PUT", "/v1/model-pricing/gpt-4o", {
    input_cost_per_token: "0.000000003",
    output_cost_per_token: "0",
  });
  const agent = server.agent(account);
  for (const [i, name] of [user, "acme/b", "=1+1", "bob"].entries()) {
    const run = await agent.start(name, {
      agent: i < 2 ? "billing" : "support",
    });
    await agent.step(
      run.id,
      1,
      { model: "gpt-4o" },
      { prompt: 5 - i, completion: 0 },
    );
    await agent.end(run.id);
  }
});

afterAll(async () => {
  await browser?.close();
  await server?.close();
});

async function open(
  path: string,
  use: (visit: Visit) => Promise<void>,
  options = {},
) {
  const visited = await visit(browser, server, account, options);
  try {
    await visited.page.goto(path);
    await settled(visited.page);
    await use(visited);
    expect(visited.troubles).toEqual([]);
  } finally {
    await visited.context.close();
  }
}

async function saved(page: Page, name: string): Promise<string> {
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name }).click();
  return readFileSync(await (await download).path(), "utf8");
}

test("from Monday’s question to the file", () =>
  open("/overview", async ({ page }) => {
    await page
      .getByRole("link", { name: "Usage", exact: true })
      .first()
      .click();
    await page
      .getByRole("group", { name: "Group by" })
      .getByRole("button", { name: "User" })
      .click();
    await page.getByRole("link", { name: "The week before" }).click();
    await page.getByRole("link", { name: "The next week" }).waitFor();
    expect(page.url()).toContain("by=user");
    const file = await saved(page, "Export CSV");
    await withinLimit(page);
    expect(file.split("\r\n")[0]).toContain("row,value,total_usd");
    expect(file).toContain("total,,");
  }));

test("the file has exactly what is shown, to the nano-dollar, and nothing begins a formula", () =>
  open("/usage?by=user", async ({ page }) => {
    await page
      .getByRole("link", { name: shown(user) })
      .first()
      .waitFor();
    const rows = (await saved(page, "Export CSV")).trim().split("\r\n");
    expect(
      rows.slice(1).map((row) => row.split(",").slice(0, 3).join()),
    ).toEqual([
      `item,${user},0.000000015`,
      "item,acme/b,0.000000012",
      "item,'=1+1,0.000000009",
      "item,bob,0.000000006",
      "other,,0",
      "total,,0.000000042",
    ]);
    await page.getByText("$0.000000042").first().waitFor();
  }));

test("the address says it all, and a row leads to its runs", () =>
  open("/usage?by=prefix", async ({ page }) => {
    await page.getByRole("link", { name: "acme/", exact: true }).click();
    await page.waitForURL("**/runs?user_prefix=acme*");
    await page
      .getByText(/2\s+runs/)
      .first()
      .waitFor();
    await page.goBack();
    await page.getByRole("button", { name: "Agent", exact: true }).click();
    await page.waitForURL("**/usage?by=tag*");
    await page.getByRole("link", { name: "billing" }).waitFor();
    await page.reload();
    await page.getByRole("link", { name: "billing" }).waitFor();
  }));

test("any tag is grouped by, from a button, and its rows lead to their runs", () =>
  open("/usage", async ({ page }) => {
    const agent = server.agent(account);
    const run = await agent.start("bob", { tags: { team: "blue" } });
    await agent.end(run.id);
    await page.getByRole("button", { name: "Tag", exact: true }).click();
    await page.getByLabel("Key of the tag").fill("team");
    await page.keyboard.press("Enter");
    await page.waitForURL("**/usage?by=tag%3Ateam");
    await page
      .getByRole("button", { name: "team", exact: true, pressed: true })
      .waitFor();
    await page.getByRole("link", { name: "blue" }).click();
    await page.waitForURL("**/runs?tag=team%3Ablue*");
    // The tags that runs have are offered, but for agents, which have a button.
    await page.goto("/usage");
    await page.getByRole("button", { name: "Tag", exact: true }).click();
    const offered = page.getByRole("group", { name: "Tags of runs" });
    await offered.getByRole("button", { name: "team", exact: true }).click();
    await page.waitForURL("**/usage?by=tag%3Ateam");
    expect(await offered.count()).toBe(0);
  }));

test("an hour leads to the runs that started in it", () =>
  open("/usage?period=day", async ({ page }) => {
    const hour = page.getByRole("link", { name: /\$0\.000.*Its runs$/ }).last();
    await hour.click();
    await page.waitForURL(
      /\/runs\?since=\d{4}-\d\d-\d\dT\d\d%3A00Z&until=\d{4}-\d\d-\d\dT\d\d%3A00Z$/,
    );
    await page.getByText(/\d{2}:00 to \d{2}:00 UTC/).first().waitFor();
    await page.locator("tbody [data-row]").first().waitFor();
  }));

test("a user’s share stands in the list, and a change only where there is a time before", () =>
  open("/users", async ({ page }) => {
    const row = page.getByRole("row").filter({ hasText: "acme/b" });
    // 4 of 14 tokens, and nobody spent anything the month before.
    await row.getByRole("cell", { name: "28.6 %" }).waitFor();
    expect(
      await page.getByRole("columnheader", { name: "Change" }).count(),
    ).toBe(0);
    await page.getByText(/^\d users cost \$.* in 30 days\.$/).waitFor();
    await page.getByText("Nobody is blocked").waitFor();
  }));

test("a day is drawn by the hour, in the workspace’s zone", () =>
  open("/usage?period=day", async ({ page }) => {
    await page.getByRole("heading", { name: "Spend by hour" }).waitFor();
    const bars = await page.locator(".usage-chart rect:not(.before)").count();
    expect(bars).toBeGreaterThan(0);
    expect(await page.locator(".usage-chart .days > span").count()).toBe(24);
  }));

test("an hour’s figure is told where it has the focus, and its name is whole on a phone", () =>
  open(
    "/usage?period=day",
    async ({ page }) => {
      // The bars are too narrow to be hit each: one link lies over all, and the arrows choose.
      const over = page.locator(".usage-chart .days > a");
      await over.focus();
      for (let hour = 0; hour < 24; hour++)
        await page.keyboard.press("ArrowRight");
      await page
        .locator(".usage-chart figcaption", { hasText: "23:00" })
        .waitFor();
      expect(await over.getAttribute("aria-label")).toMatch(
        /23:00: \$.*Its runs/,
      );
      const name = page.locator(".usage-chart .axis > span").last();
      expect(await name.textContent()).toBe("23:00");
      const beyond = await name.evaluate(
        (word) =>
          word.getBoundingClientRect().right -
          word.parentElement!.getBoundingClientRect().right,
      );
      expect(beyond).toBeLessThanOrEqual(0);
      await page.getByText("Days are counted in UTC").waitFor();
    },
    { viewport: { width: 390, height: 844 } },
  ));

test("all that chooses stands in one line on a wide screen", () =>
  open(
    "/usage",
    async ({ page }) => {
      const tops = await page
        .getByRole("group", { name: /^(Period|Group by)$/ })
        .evaluateAll((all) => all.map((one) => one.getBoundingClientRect().top));
      expect(new Set(tops).size).toBe(1);
      const heights = await page
        .getByRole("button", { name: /^(Copy link|Export CSV|JSONL)/ })
        .evaluateAll((all) => all.map((one) => one.clientHeight));
      expect(new Set(heights).size).toBe(1);
    },
    { viewport: { width: 1440, height: 900 } },
  ));

test("a user has a page whatever the id holds, and is blocked there", () =>
  open("/usage?by=user", async ({ page }) => {
    await page
      .getByRole("link", { name: shown(user) })
      .first()
      .click();
    await page.waitForURL("**/users/acme*");
    await page.reload();
    await page.getByRole("button", { name: "Block user" }).click();
    await page.getByLabel("Why is this user blocked?").fill("loop");
    await page.keyboard.press("Enter");
    await page.getByText("every run and step is denied").waitFor();
    await page.getByText("loop", { exact: true }).waitFor();
    expect((await server.agent(account).start(user)).decision).toMatchObject({
      reason: "USER_BLOCKED",
    });
    await page.getByRole("button", { name: "Unblock user" }).click();
    await page.getByRole("button", { name: "Block user" }).waitFor();
  }));

test.each([
  ["/usage?by=user", "light"],
  ["/usage?period=custom&since=2026-11-01&until=2026-11-20", "light"],
  ["/usage?by=user&as=table", "dark"],
  ["/users/" + encodeURIComponent(user), "light"],
  ["/users/" + encodeURIComponent(user), "dark"],
] as const)("%s is clean in %s", (path, colorScheme) =>
  open(
    path,
    async ({ page }) => {
      for (const width of [320, 390, 768, 1440]) {
        await page.setViewportSize({ width, height: 900 });
        const beyond = await page.evaluate(
          () => document.documentElement.scrollWidth - window.innerWidth,
        );
        expect(beyond, `at ${width}`).toBeLessThanOrEqual(0);
      }
      expect(await violations(page)).toEqual([]);
    },
    { colorScheme },
  ),
);
