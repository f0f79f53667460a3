// What several tests do with the page, and with the desktop binary beside it.

import { type Page, expect } from "@playwright/test";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import type { Counters, Plan, RunInfo, RunState, StepReport, TrainEvent } from "../page/protocol";

/** A model of 30k parameters: seconds on the CPU path, a minute on SwiftShader. */
export const TINY = ["train.max_steps=30", "train.log_interval=1", "train.eval_interval=0", "sample.max_new_tokens=16"];

interface Kiln {
  /** The worker that trains. */
  client: { call(name: "counters"): Promise<Counters> } | null;
  /** The worker that plans. */
  planner: { terminate(): void };
  state: { plan: Plan | null; planning: boolean; run: { id: string; state: RunState | "stopped"; steps: StepReport[]; memory: (number | null)[][]; savedStep: number | null; info: RunInfo | null } | null };
}
declare global {
  interface Window {
    kiln: Kiln;
    /** Length of what the page has sent to its workers, where a test counts it. */
    posted: number;
  }
}

/** Opens the page on a run. */
export async function open(page: Page, set: string[] = [], device = "cpu", preset = "debug"): Promise<void> {
  await page.goto("about:blank");
  await page.goto(address(set, device, preset));
  await ready(page);
}

export function address(set: string[], device: string, preset = "debug"): string {
  const parts = new URLSearchParams({ preset });
  for (const entry of set) parts.append("set", entry);
  parts.set("device", device);
  return `./#${parts.toString()}`;
}

export async function ready(page: Page): Promise<void> {
  await expect(page.locator("html")).toHaveAttribute("data-ready", "true");
}

/** Waits until the run on the page is in a state. */
export async function reaches(page: Page, state: RunState | "stopped", timeout = 200_000): Promise<void> {
  await page.waitForFunction((wanted) => {
    const now = window.kiln.state.run?.state;
    return now === wanted || now === "failed";
  }, state, { timeout });
  const reached = await page.evaluate(() => window.kiln.state.run?.state);
  const problem = await page.getByTestId("problem").allTextContents();
  expect(reached, problem.join(" ")).toBe(state);
}

/** Waits until a step has been reported. */
export async function trains(page: Page, step: number): Promise<void> {
  await page.waitForFunction((wanted) => (window.kiln.state.run?.steps.at(-1)?.step ?? 0) >= wanted, step, { timeout: 200_000 });
}

export function steps(page: Page): Promise<StepReport[]> {
  return page.evaluate(() => window.kiln.state.run?.steps ?? []);
}

/** The desktop binary. */
export function kiln(...args: string[]): string {
  const target = process.env.CARGO_TARGET_DIR ?? join(homedir(), "kiln-target");
  // With the layer of `tests/check.sh`, SwiftShader computes on the desktop what it does in the browser.
  const layer = process.env.VK_LAYER_PATH ? { VK_INSTANCE_LAYERS: "VK_LAYER_KILN_stand_in" } : {};
  return execFileSync(join(target, "release", "kiln"), args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...layer } });
}

export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), "kiln-page-"));
}

/** The steps that a run folder's log has. */
export function logged(run: string): StepReport[] {
  const lines = readFileSync(join(run, "log.jsonl"), "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line) as TrainEvent).filter((event) => event.type === "step");
}

/** The same run on the desktop's CPU. */
export function trainNatively(set: string[], ...more: string[]): { run: string; steps: StepReport[] } {
  const run = join(temporaryFolder(), "run");
  const settings = set.flatMap((entry) => ["--set", entry]);
  kiln("train", "--preset", "debug", "--device", "cpu", "--out", run, ...settings, ...more);
  return { run, steps: logged(run) };
}

/** Holds losses and norms of the page to those of the desktop. */
export function expectSameLosses(page: StepReport[], desktop: StepReport[], tolerance = 1e-3): void {
  expect(page.map((report) => report.step)).toEqual(desktop.map((report) => report.step));
  let largest = 0;
  page.forEach((report, index) => {
    largest = Math.max(largest, Math.abs(report.loss - (desktop[index]?.loss ?? NaN)));
  });
  console.log(`largest difference of ${page.length} losses: ${largest.toExponential(1)}`);
  expect(largest).toBeLessThanOrEqual(tolerance);
}
