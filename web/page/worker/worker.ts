// The worker that the page talks to. The same one plans (a long-lived one) and trains (a fresh one
// for each run); which it is, its calls decide.

import type { Calls, KernelDifference, Message, Probe, Request, RunSpec } from "../protocol";
import { Run, catalogue, kernel_differences, plan } from "./wasm/kiln_web";
import { loadEngine } from "./engine";
import { devices, instrument } from "./gpu";
import { Runner, asProblem, open } from "./runner";
import { RunStore, deleteRun, storedRuns } from "./storage";
import { readSpec, readText } from "./text";

const send = (message: Message): void => self.postMessage(message);
const runner = new Runner(send);

/** Nothing of the engine is to be trusted after this; the page begins a new worker. */
function end(message: string, hint: string): void {
  runner.abandon();
  send({ kind: "problem", problem: { message, hint, fatal: true } });
}

instrument((reason) => end(`the GPU was lost: ${reason}`, "resume from the last save; if it happens again, train a smaller model or on the CPU"));
const loaded = loadEngine((message) => {
  const memory = /memory|alloc|capacity/i.test(message);
  end(`the engine stopped: ${message}`, memory ? "a smaller model, batch or context needs less memory" : "resume from the last save, or try the other device");
});

type Handlers = { [K in keyof Calls]: (...args: Parameters<Calls[K]>) => ReturnType<Calls[K]> | Promise<ReturnType<Calls[K]>> };

const handlers: Handlers = {
  catalogue: () => catalogue(),
  devices,
  plan: async (spec) => plan(await readSpec(spec)),
  probe,
  kernel_differences: async (device) => {
    await open(device);
    return (await kernel_differences(device)) as KernelDifference[];
  },
  stored_runs: storedRuns,
  delete_run: (id) => deleteRun(id).then(() => null),
  rename_run: async (id, name) => {
    if (!(await runner.rename(id, name))) await (await RunStore.open(id)).rename(name);
    return null;
  },
  read_run: async (id) => {
    const store = await RunStore.open(id);
    const newest = await store.newest();
    return { files: newest?.files ?? {}, events: await store.events(newest?.step ?? 0), text: await store.text() };
  },
  start: async (id, name, spec) => runner.start(id, name, await readSpec(spec)),
  resume: (id, device) => runner.resume(id, device),
  load: async (id, name, files, text, device) => runner.load(id, name, files, await readText(text), device),
  run: () => {
    runner.go();
    return null;
  },
  pause: () => runner.pause().then(() => null),
  step: () => runner.step().then(() => null),
  generate: (prompt, count, temperature, topK) => runner.generate(prompt, count, temperature, topK),
  attention: (text, layer) => runner.attention(text, layer),
  parameters: () => runner.parameters(),
  checkpoint: () => runner.checkpoint(),
  memory: () => runner.memory(),
  counters: () => runner.counters(),
};

/** Times the steps of a plan without training anything. */
async function probe(spec: RunSpec, device: "webgpu" | "cpu"): Promise<Probe> {
  const target = await open(device);
  const own = await readSpec(spec);
  const started = performance.now();
  const run = Run.start(own, target, () => undefined);
  try {
    await run.time_step();
    const first_step_seconds = (performance.now() - started) / 1e3;
    const step_seconds = Math.min(await run.time_step(), await run.time_step());
    return { device, first_step_seconds, step_seconds };
  } finally {
    run.free();
  }
}

self.onmessage = async ({ data: { id, call, args } }: MessageEvent<Request>) => {
  try {
    await loaded;
    const handler = handlers[call] as (...args: unknown[]) => unknown;
    send({ kind: "response", id, value: await handler(...args) });
  } catch (error) {
    send({ kind: "refusal", id, problem: asProblem(error) });
  }
};
