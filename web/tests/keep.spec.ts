// Nothing is lost: storage, downloads, the address bar, a lost device.

import { type Page, expect, test } from "@playwright/test";
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { TINY, expectSameLosses, kiln, logged, open, reaches, ready, steps, temporaryFolder, trainNatively, trains } from "./page";

/** Stops the run by itself half-way, as `--set train.stop_after=15` does on the desktop. */
const HALF = [...TINY, "train.stop_after=15", "train.save_interval=5"];

async function download(page: Page): Promise<string> {
  await page.getByTestId("tab-runs").click();
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByTestId("download").first().click()]);
  const path = join(temporaryFolder(), download.suggestedFilename());
  await download.saveAs(path);
  return path;
}

/** Unpacks a zip with Python, which every test machine has, and gives the checkpoint's folder. */
function unpack(zip: string): string {
  const folder = temporaryFolder();
  execFileSync("python3", ["-m", "zipfile", "-e", zip, folder]);
  const [only] = readdirSync(folder);
  return join(folder, only ?? "");
}

function pack(checkpoint: string): string {
  const zip = join(temporaryFolder(), "checkpoint.zip");
  const script = "import os,sys,zipfile\nz=zipfile.ZipFile(sys.argv[2],'w',zipfile.ZIP_DEFLATED)\nfor n in os.listdir(sys.argv[1]): z.write(os.path.join(sys.argv[1],n),'checkpoint/'+n)\nz.close()";
  execFileSync("python3", ["-c", script, checkpoint, zip]);
  return zip;
}

test("a run goes on after the page was reloaded", async ({ page }) => {
  await open(page, ["train.max_steps=100000", "train.log_interval=1", "train.eval_interval=0", "train.save_interval=10"]);
  await page.getByTestId("start").click();
  await page.waitForFunction(() => (window.kiln.state.run?.savedStep ?? 0) >= 20, undefined, { timeout: 100_000 });
  page.on("dialog", (dialog) => void dialog.accept());
  await page.reload();
  await ready(page);
  await page.getByTestId("tab-runs").click();
  const run = page.getByTestId("run-item").first();
  await run.getByRole("button", { name: /resume|open/i }).first().click();
  await reaches(page, "paused");
  const before = (await steps(page)).at(-1)?.step ?? 0;
  expect(before).toBeGreaterThanOrEqual(20);
  await page.getByTestId("resume").click();
  await trains(page, before + 5);
  const seen = (await steps(page)).map((report) => report.step);
  expect(seen).toEqual(seen.map((_, index) => index + 1));
});

test("a run that is opened again brings its text along", async ({ page }) => {
  await open(page, [...TINY, "train.max_steps=3"]);
  await page.getByRole("radio", { name: "Paste" }).check();
  await page.getByTestId("paste-text").fill("abcdefgh ".repeat(200));
  await page.getByTestId("use-text").click();
  await page.getByTestId("start").click();
  await reaches(page, "finished");
  await page.reload();
  await ready(page);
  await page.getByTestId("tab-runs").click();
  await page.getByTestId("open-run").click();
  await expect(page.getByTestId("text-in-use")).toContainText("In use: pasted text, 1.80k characters");
  await reaches(page, "finished");
  // The text is the set-up's own by now.
  await page.getByTestId("delete-run").click();
  await page.getByTestId("confirm").click();
  await expect(page.getByTestId("run-item")).toHaveCount(0);
  await page.getByTestId("start").click();
  await reaches(page, "finished");
  expect(await page.evaluate(() => window.kiln.state.run?.info?.train_tokens)).toBe(1620);
});

test("a run keeps the name that it is given, while it trains and after", async ({ page }) => {
  await open(page, ["train.max_steps=100000", "train.log_interval=1", "train.eval_interval=0", "train.save_interval=10"]);
  await page.getByTestId("start").click();
  await page.getByTestId("tab-runs").click();
  const run = page.getByTestId("run-item");
  const field = page.getByTestId("dialog-text");
  const rename = async (name: string): Promise<void> => {
    await run.getByTestId("rename-run").click();
    await field.fill(name);
    await page.keyboard.press("Enter");
  };
  await expect(run).toContainText("debug");
  await rename("  ");
  await expect(page.getByTestId("dialog-problem")).toHaveText("The name is empty. Write at least one character.");
  await expect(field).toBeFocused();
  await field.fill("n".repeat(61));
  await page.keyboard.press("Enter");
  await expect(page.getByTestId("dialog-problem")).toHaveText("The name has 61 characters. Leave at most 60.");
  await expect(field).toHaveAttribute("aria-invalid", "true");
  await page.getByTestId("cancel").click();
  await expect(run.getByTestId("rename-run")).toBeFocused();
  await expect(run).toContainText("debug");
  await rename("  first <b>try</b> ");
  await expect(run.getByRole("heading")).toHaveText("first <b>try</b>");
  await expect(run.getByTestId("rename-run")).toBeFocused();

  // The worker that trains writes the run's record with each save.
  const saved = (await page.evaluate(() => window.kiln.state.run?.savedStep)) ?? 0;
  await page.waitForFunction((before) => (window.kiln.state.run?.savedStep ?? 0) > before + 10, saved);
  await page.getByTestId("stop").click();
  await reaches(page, "stopped");
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByTestId("download").click()]);
  expect(download.suggestedFilename()).toMatch(/^first-b-try-b-step-/);
  page.on("dialog", (dialog) => void dialog.accept());
  await page.reload();
  await ready(page);
  await page.getByTestId("tab-runs").click();
  await run.getByTestId("compare").check();
  const comparison = page.getByTestId("comparison");
  await expect(comparison.getByRole("columnheader", { name: "first <b>try</b>" })).toBeVisible();
  // Now that no worker holds it.
  await rename("second try");
  await expect(run.getByRole("heading")).toHaveText("second try");
  await expect(comparison).not.toContainText("first");
  await expect(comparison.getByRole("columnheader", { name: "second try" })).toBeVisible();
  await expect(comparison.locator("figcaption")).toContainText("second try");
  await page.reload();
  await ready(page);
  await page.getByTestId("tab-runs").click();
  await expect(run.getByRole("heading")).toHaveText("second try");
  await run.getByTestId("delete-run").click();
  await expect(page.getByRole("dialog")).toContainText("second try");
});

test("page to desktop to page is one run", async ({ page }) => {
  const whole = trainNatively(TINY);
  // The page trains 15 of 30 steps.
  await open(page, HALF);
  await page.getByTestId("start").click();
  await reaches(page, "finished");
  expectSameLosses(await steps(page), whole.steps.slice(0, 15));
  const folder = unpack(await download(page));
  expect(readdirSync(folder)).toContain("model.safetensors");
  expect(kiln("generate", folder, "--device", "cpu", "--prompt", "The ").length).toBeGreaterThan(4);

  // The desktop trains 7 more.
  const desktop = join(temporaryFolder(), "run");
  kiln("train", "--resume", folder, "--out", desktop, "--device", "cpu", "--set", "train.stop_after=22");
  expectSameLosses(logged(desktop), whole.steps.slice(15, 22));

  // And the page the rest.
  const zip = pack(join(desktop, "checkpoints", "step-000022"));
  await open(page, []);
  await page.getByTestId("tab-runs").click();
  await page.getByTestId("upload").setInputFiles(zip);
  await reaches(page, "paused");
  await page.getByTestId("resume").click();
  await reaches(page, "finished");
  expectSameLosses(await steps(page), whole.steps.slice(22));
});

test("the address brings the configuration back, whatever is in it", async ({ page }) => {
  await open(page, ["model.n_layer=3", "train.seed=7"], "cpu", "addition");
  await expect(page.getByTestId("preset")).toHaveValue("addition");
  await expect(page.getByTestId("field-model.n_layer")).toHaveValue("3");
  await page.getByTestId("reset-model.n_layer").click();
  await expect(page.getByTestId("field-model.n_layer")).toHaveValue("2");
  await expect(page).toHaveURL(/train\.seed%3D7/);
  await expect(page).not.toHaveURL(/n_layer/);
  await expect(page.getByTestId("command")).toContainText("kiln train --preset addition --set train.seed=7");

  await open(page, ["model.rope_theta=500", "model.n_kv_head=1"], "cpu", "addition");
  await expect(page.getByTestId("note")).toContainText("model.rope_theta is called model.rope.theta now");
  await expect(page.getByTestId("field-model.rope.theta")).toHaveValue("500");
  await expect(page.getByTestId("command")).toContainText("--set model.rope.theta=500 --set model.n_kv_head=1");
  await expect(page.getByTestId("field-model.n_kv_head")).toHaveValue("1");
  await expect(page).toHaveURL(/model\.rope\.theta%3D500/);

  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(error.message));
  for (const hash of [
    "#preset=<img src=x onerror=alert(1)>&set=model.n_layer=999999999999",
    `#preset=debug&set=${encodeURIComponent("data.paths=[\"/etc/passwd\"]")}`,
    "#set=%E0%A4%A&set=&set==&preset=debug&preset=debug&x",
    `#preset=debug&set=${encodeURIComponent(`sample.prompt=${"x".repeat(5000)}`)}`,
    `#preset=debug&set=model.n_embd%3D16777216&set=model.n_layer%3D16777216`,
  ]) {
    await page.goto("about:blank");
    await page.goto(`./${hash}`);
    await ready(page);
    await expect(page.locator("img[src=x]")).toHaveCount(0);
  }
  expect(errors).toEqual([]);
  await open(page, TINY);
  await page.getByTestId("start").click();
  await reaches(page, "finished");
});

test("a lost device costs nothing but the steps since the last save", async ({ page }) => {
  await open(page, ["train.max_steps=1000", "train.log_interval=1", "train.eval_interval=0", "train.save_interval=2"], "webgpu");
  await page.getByTestId("start").click();
  await page.waitForFunction(() => (window.kiln.state.run?.savedStep ?? 0) >= 4, undefined, { timeout: 200_000 });
  const destroyed = await Promise.all(page.workers().map((worker) => worker.evaluate(() => {
    const { kilnDevice } = self as unknown as { kilnDevice?: { destroy(): void } };
    kilnDevice?.destroy();
    return kilnDevice !== undefined;
  })));
  expect(destroyed).toContain(true);
  await expect(page.getByTestId("problem").first()).toContainText(/lost/);
  await page.getByTestId("recover").click();
  const saved = (await page.evaluate(() => window.kiln.state.run?.savedStep)) ?? 0;
  await trains(page, saved + 2);
  const seen = (await steps(page)).map((report) => report.step);
  expect(seen).toEqual(seen.map((_, index) => index + 1));
  await page.getByTestId("stop").click();
});

test("a full storage stops saving, not training", async ({ page }) => {
  await open(page, ["train.max_steps=100000", "train.log_interval=1", "train.eval_interval=0", "train.save_interval=5"]);
  await page.getByTestId("start").click();
  await page.waitForFunction(() => (window.kiln.state.run?.savedStep ?? 0) >= 5, undefined, { timeout: 60_000 });
  for (const worker of page.workers()) {
    await worker.evaluate(() => {
      const { FileSystemSyncAccessHandle: handle } = self as unknown as { FileSystemSyncAccessHandle: { prototype: { write(): number } } };
      handle.prototype.write = () => {
        throw new DOMException("full", "QuotaExceededError");
      };
    });
  }
  await expect(page.getByTestId("problem").filter({ hasText: /storage is full/ }).first()).toBeVisible();
  const before = (await steps(page)).at(-1)?.step ?? 0;
  await trains(page, before + 5);
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByTestId("download-now").click()]);
  expect(readdirSync(unpack((await download.path()) ?? ""))).toContain("manifest.json");
});
