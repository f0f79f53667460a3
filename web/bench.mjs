// The page's figures, as Markdown, for BENCHMARKS.md: speed beside the desktop binary on the same
// machine, GPU work a step, size, time to the first step, TinyGPT's configurations, and memory.
//
//     npm --prefix web run bench            all of it, about an hour, most of it for 10,000 steps on SwiftShader
//     npm --prefix web run bench -- speed   one part: size, speed, tasks, tinygpt, memory
//
// Needs the built page (npm --prefix web run build), the desktop binary, and Chromium. With no GPU,
// Chromium and the binary both compute WebGPU on SwiftShader: compare those figures with one another only.

import { chromium } from "@playwright/test";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync } from "node:fs";
import { cpus, homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const PORT = 4175;
const folder = import.meta.dirname;
const target = process.env.CARGO_TARGET_DIR ?? join(homedir(), "kiln-target");
const kiln = join(target, "release", "kiln");
const icd = "/usr/lib/chromium/vk_swiftshader_icd.json";
const parts = process.argv.slice(2);
const wanted = (part) => parts.length === 0 || parts.includes(part);

const QUIET = ["train.eval_interval=0", "train.sample_interval=0", "sample.max_new_tokens=1"];
/** nanoGPT's CPU configuration, for the CPU paths. */
const CPU = { preset: "shakespeare-char-cpu", set: [...QUIET, "train.max_steps=40", "train.log_interval=10"] };
/** Small enough for SwiftShader. */
const TINY = { preset: "debug", set: [...QUIET, "train.max_steps=30", "train.log_interval=5"] };

const server = spawn("npx", ["vite", "preview", "--port", String(PORT), "--strictPort"], { cwd: folder, stdio: "ignore", detached: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--disable-background-networking", "--no-first-run"],
});
console.log(`${cpus()[0]?.model}, ${cpus().length} threads; Chromium ${browser.version()}\n`);

/** A fresh page on a run, not started. */
async function open({ preset, set }, device) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const hash = new URLSearchParams({ preset, device });
  for (const entry of set) hash.append("set", entry);
  for (let attempt = 0; ; attempt += 1) {
    try {
      await page.goto(`http://localhost:${PORT}/#${hash}`);
      break;
    } catch (error) {
      if (attempt === 50) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
  await page.waitForFunction(() => document.documentElement.dataset.ready === "true", undefined, { timeout: 60_000 });
  return page;
}

const until = (page, step) =>
  page.waitForFunction((wantedStep) => {
    const run = window.kiln.state.run;
    if (run?.state === "failed") throw new Error(run.problem?.message ?? "failed");
    return (run?.steps.at(-1)?.step ?? 0) >= wantedStep;
  }, step, { timeout: 0 });

/** Trains in the page; figures of the steps after the first ten. */
async function inPage(run, device, steps) {
  const page = await open(run, device);
  await page.getByTestId("start").click();
  await until(page, 1);
  const first = await page.evaluate(() => performance.now() / 1e3);
  await until(page, 10);
  const at = () => page.evaluate(async () => ({ step: window.kiln.state.run.steps.at(-1).step, counters: await window.kiln.client.call("counters") }));
  const before = await at();
  await until(page, steps);
  const after = await at();
  const reports = await page.evaluate(() => window.kiln.state.run.steps);
  await page.context().close();
  const count = after.step - before.step || 1;
  return {
    first,
    speed: median(reports.filter((report) => report.step > 10).map((report) => report.tokens_per_second)),
    dispatches: (after.counters.dispatches - before.counters.dispatches) / count,
    submits: (after.counters.submits - before.counters.submits) / count,
  };
}

/** The same on the desktop. */
function onDesktop({ preset, set }, device) {
  const out = join(mkdtempSync(join(tmpdir(), "kiln-bench-")), "run");
  const settings = set.flatMap((entry) => ["--set", entry]);
  const env = device === "cpu" ? process.env : { ...process.env, VK_ICD_FILENAMES: icd, VK_DRIVER_FILES: icd };
  execFileSync(kiln, ["train", "--preset", preset, "--device", device, "--out", out, ...settings], { env, stdio: "ignore" });
  const reports = readFileSync(join(out, "log.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line));
  return median(reports.filter((report) => report.type === "step" && report.step > 10).map((report) => report.tokens_per_second));
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

const whole = (value) => Math.round(value).toLocaleString("en");

try {
  if (wanted("size")) {
    const assets = join(folder, "dist", "assets");
    const name = readdirSync(assets).find((file) => file.endsWith(".wasm"));
    const wasm = readFileSync(join(assets, name));
    console.log(`wasm: ${(wasm.length / 1e6).toFixed(1)} MB raw, ${(gzipSync(wasm, { level: 9 }).length / 1e6).toFixed(1)} MB gzipped\n`);
  }
  if (wanted("speed")) {
    console.log("| configuration | path | tokens/s | dispatches a step | submits a step | page load to first step |");
    console.log("| --- | --- | --- | --- | --- | --- |");
    for (const [name, run, device, steps] of [["0.8M", CPU, "cpu", 40], ["debug", TINY, "cpu", 30], ["debug", TINY, "webgpu", 30]]) {
      const { first, speed, dispatches, submits } = await inPage(run, device, steps);
      const gpu = device === "cpu" ? "– | –" : `${whole(dispatches)} | ${whole(submits)}`;
      console.log(`| ${name} | page, ${device} | ${whole(speed)} | ${gpu} | ${first.toFixed(1)} s |`);
    }
    for (const [name, run, device] of [["0.8M", CPU, "cpu"], ["debug", TINY, "cpu"], ["debug", TINY, "wgpu"]]) {
      console.log(`| ${name} | desktop, ${device} | ${whole(onDesktop(run, device))} | – | – | – |`);
    }
    console.log();
  }
  if (wanted("tasks")) {
    console.log("| preset | steps | seconds | validation loss | exact match |\n| --- | --- | --- | --- | --- |");
    for (const preset of ["tiny-char", "copy", "reverse", "sort", "addition", "modular-addition", "parity", "dyck", "two-sum"]) {
      const page = await open({ preset, set: [] }, "cpu");
      await page.getByTestId("start").click();
      await page.waitForFunction(() => ["finished", "failed"].includes(window.kiln.state.run?.state), undefined, { timeout: 3_600_000 });
      const { finish, evaluations } = await page.evaluate(() => window.kiln.state.run);
      const last = evaluations.at(-1);
      const exact = last.exact_match === undefined ? "–" : `${(100 * last.exact_match).toFixed(1)} %`;
      console.log(`| ${preset} | ${whole(finish.step)} | ${whole(finish.seconds)} | ${last.val_loss.toFixed(4)} | ${exact} |`);
      await page.context().close();
    }
    console.log();
  }
  if (wanted("tinygpt")) {
    // tinygpt.pages.dev/roadmap: WASM SIMD with threads, Apple M-series; the layers follow from the parameters.
    const published = [["Small", 3, 96, 64, 16, 101], ["Medium", 4, 128, 96, 16, 357], ["Large", 6, 192, 128, 12, 1191], ["XL", 8, 256, 128, 8, 1851]];
    console.log("| TinyGPT's | parameters | context | batch | TinyGPT, ms a step (M-series, threads) | here, ms a step (one thread) |");
    console.log("| --- | --- | --- | --- | --- | --- |");
    for (const [name, layers, width, context, batch, theirs] of published) {
      const set = [...QUIET, `model.n_layer=${layers}`, "model.n_head=4", `model.n_embd=${width}`, `model.block_size=${context}`, "model.bias=true", `train.batch_size=${batch}`, "tokenizer.kind=byte", "train.max_steps=8", "train.log_interval=1"];
      const page = await open({ preset: "shakespeare-char-cpu", set }, "cpu");
      const { parameters, ours } = await page.evaluate(async (entries) => {
        const spec = { preset: "shakespeare-char-cpu", set: entries, text: null, device: "cpu" };
        const plan = await window.kiln.planner.call("plan", spec);
        const probe = await window.kiln.planner.call("probe", spec, "cpu");
        return { parameters: plan.parameters, ours: 1e3 * probe.step_seconds };
      }, set);
      console.log(`| ${name} | ${(parameters / 1e6).toFixed(2)}M | ${context} | ${batch} | ${theirs} | ${whole(ours)} |`);
      await page.context().close();
    }
  }
  if (wanted("memory")) {
    console.log("| path | step | WebAssembly | GPU buffers |\n| --- | --- | --- | --- |");
    for (const [device, checks] of [["cpu", [100, 1_000, 10_000]], ["webgpu", [100, 1_000, 10_000]]]) {
      const page = await open({ preset: "debug", set: [...QUIET, "train.max_steps=20000", "train.log_interval=10"] }, device);
      await page.getByTestId("start").click();
      for (const step of checks) {
        await until(page, step);
        const { wasm, gpu } = await page.evaluate(() => window.kiln.client.call("memory"));
        console.log(`| ${device} | ${whole(step)} | ${(wasm / 2 ** 20).toFixed(1)} MiB | ${gpu === null ? "–" : `${(gpu / 2 ** 20).toFixed(1)} MiB`} |`);
      }
      await page.context().close();
    }
    console.log();
  }
} finally {
  await browser.close();
  process.kill(-server.pid);
}
