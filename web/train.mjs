// Trains a configuration in the built page, in headless Chromium, and writes the run's log as `kiln train` does:
// a cell of `kiln compare --device browser,browser-cpu`.
//
//     node web/train.mjs --out RUN --device cpu|webgpu --preset NAME --set KEY=VALUE ... [--chromium FILE]
//
// Needs the built page (npm --prefix web run build) and Chromium, by default /usr/bin/chromium. Without a GPU, WebGPU is
// computed on the CPU by SwiftShader.

import { chromium } from "@playwright/test";
import { createReadStream, existsSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { parseArgs } from "node:util";

const DIST = join(import.meta.dirname, "dist");
const TYPES = { ".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".json": "application/json", ".svg": "image/svg+xml", ".wasm": "application/wasm" };

function fail(message, hint) {
  console.error(`error: ${message}`);
  if (hint) console.error(`hint: ${hint}`);
  process.exit(1);
}

function options() {
  const usage = "usage: node web/train.mjs --out RUN --device cpu|webgpu --preset NAME [--set KEY=VALUE ...] [--chromium FILE]";
  try {
    const { values } = parseArgs({
      options: {
        out: { type: "string" },
        device: { type: "string" },
        preset: { type: "string" },
        set: { type: "string", multiple: true, default: [] },
        chromium: { type: "string", default: "/usr/bin/chromium" },
      },
    });
    if (!values.out || !values.preset || !["cpu", "webgpu"].includes(values.device)) throw new Error("an option is missing");
    return values;
  } catch (error) {
    console.error(`${error.message}\n${usage}`);
    return process.exit(2);
  }
}

/** Serves the built page. */
function serve() {
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url, "http://localhost").pathname);
    const file = join(DIST, path.endsWith("/") ? `${path}index.html` : path);
    if (!existsSync(file)) {
      response.writeHead(404).end();
      return;
    }
    // What the page needs for threads and precise clocks.
    response.writeHead(200, {
      "content-type": TYPES[extname(file)] ?? "application/octet-stream",
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-embedder-policy": "require-corp",
    });
    createReadStream(file).pipe(response);
  });
  return new Promise((resolve) => {
    server.listen(0, "localhost", () => resolve(server));
  });
}

/** WebGPU as the machine has it: on its GPU or, on Linux without one, on the CPU by SwiftShader. */
function gpuArguments() {
  if (process.platform !== "linux") return [];
  if (!existsSync("/dev/dri")) return ["--use-webgpu-adapter=swiftshader"];
  return ["--use-angle=vulkan", "--enable-features=Vulkan", "--disable-vulkan-surface"];
}

/** Trains on the page until the run ends, and returns the run as the page has it. */
async function train(browser, origin) {
  const page = await browser.newPage();
  const crashed = new Promise((_, reject) => {
    page.on("crash", () => reject(new Error("the page crashed")));
  });
  const hash = new URLSearchParams({ preset, device });
  for (const entry of set) hash.append("set", entry);
  await page.goto(`${origin}/#${hash}`);
  await page.waitForFunction(() => document.documentElement.dataset.ready === "true", undefined, { timeout: 60_000 });
  // Parts of the address that the page left out.
  const refused = await page.getByTestId("problem").allTextContents();
  if (refused.length > 0) throw new Error(`the page refuses the configuration: ${refused.join(" ")}`);
  await page.getByTestId("start").click();
  const ended = page.waitForFunction(() => ["finished", "stopped", "failed"].includes(window.kiln.state.run?.state), undefined, { timeout: 0 });
  await Promise.race([ended, crashed]);
  const run = await page.evaluate(() => window.kiln.state.run);
  return { ...run, message: (await page.getByTestId("problem").allTextContents()).join(" ") };
}

/** The lines of a run's log. */
function events(run) {
  const events = [
    { type: "started", ...run.info },
    ...run.steps.map((report) => ({ type: "step", ...report })),
    ...run.evaluations.map((report) => ({ type: "evaluation", ...report })),
    ...run.samples.map((report) => ({ type: "sample", ...report })),
  ];
  if (run.state === "finished") events.push({ type: "finished", ...run.finish });
  const time = Date.now() / 1e3;
  return events.map((event) => `${JSON.stringify({ time, ...event })}\n`).join("");
}

const { out, device, preset, set, chromium: executablePath } = options();
if (!existsSync(executablePath)) fail(`there is no Chromium at \`${executablePath}\``, "name it with --chromium");
// Whoever started this may be killed, and the run with it.
const parent = process.ppid;
setInterval(() => process.ppid === parent || process.exit(1), 1000).unref();
const server = await serve();
try {
  const browser = await chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--enable-unsafe-webgpu", "--disable-background-networking", "--no-first-run", ...gpuArguments()],
    // Vulkan's layers are for devices outside of the browser.
    env: { ...process.env, VK_INSTANCE_LAYERS: "" },
  });
  const run = await train(browser, `http://localhost:${server.address().port}`);
  if (run.info) writeFileSync(join(out, "log.jsonl"), events(run));
  await browser.close();
  if (run.state !== "finished") fail(`the page ended with \`${run.state}\`: ${run.message || "no message"}`);
} catch (error) {
  fail(error.message.split("\n")[0]);
}
server.close();
