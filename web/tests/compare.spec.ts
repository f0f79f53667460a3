// `kiln compare` trains the same configuration on the desktop and in the browser.

import { expect, test } from "@playwright/test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { kiln, temporaryFolder } from "./page";

test("an experiment over the desktop and the browser has the same losses", () => {
  test.setTimeout(400_000);
  const out = join(temporaryFolder(), "experiment");
  const set = ["train.max_steps=20", "train.eval_interval=0"].flatMap((entry) => ["--set", entry]);
  const experiment = ["compare", "--preset", "debug", "--device", "cpu,wgpu,browser-cpu,browser", ...set, "--page", join(import.meta.dirname, ".."), "--assert-loss", "1e-3", "--out", out];
  const table = kiln(...experiment);
  expect(table).toContain("browser-cpu");
  const { cells } = JSON.parse(readFileSync(join(out, "results.json"), "utf8")) as { cells: { name: string; losses: unknown[] }[] };
  expect(cells.map((cell) => [cell.name, cell.losses.length])).toEqual([["cpu", 20], ["wgpu", 20], ["browser-cpu", 20], ["browser", 20]]);
  // What is finished is not trained again.
  const log = join(out, "runs", "browser", "log.jsonl");
  const before = readFileSync(log, "utf8");
  kiln(...experiment);
  expect(readFileSync(log, "utf8")).toBe(before);
});
