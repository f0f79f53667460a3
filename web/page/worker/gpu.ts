// The browser's GPU: what there is, how much of it is used, and whether it is still there.

import type { DeviceInfo, Devices, GpuCounters, Target } from "../protocol";

// The part of WebGPU that is used here; TypeScript's own library does not describe it yet.
interface Adapter {
  features: { has(name: string): boolean };
  limits: { maxStorageBufferBindingSize: number; maxBufferSize: number };
  info?: { vendor: string; architecture: string; device: string; description: string; isFallbackAdapter?: boolean };
}
interface Gpu {
  requestAdapter(options?: { powerPreference?: string }): Promise<Adapter | null>;
}
interface LostDevice {
  lost: Promise<{ reason: string; message: string }>;
}
type Method = (...args: unknown[]) => unknown;

/** Most bytes of one buffer, and of all, that the engine may ask for. */
export type Limits = Pick<Target, "largest" | "available">;

/** Features of WebGPU without which the engine's streams and products cannot be made. */
const NEEDED = ["timestamp-query", "subgroups"];

/** WebAssembly has 32-bit addresses; what the engine itself needs is left free. */
const CPU_LIMITS: Limits = { largest: 2 ** 31, available: 3.5 * 2 ** 30 };

const counters: GpuCounters = { dispatches: 0, submits: 0 };

/** Counts the work given to the GPU, and hears of a lost device. Before the engine opens one. */
export function instrument(onLost: (message: string) => void): void {
  wrap("GPUAdapter", "requestDevice", (original) =>
    async function (this: unknown, given: unknown) {
      const descriptor = (given ?? {}) as { requiredFeatures?: Iterable<string> };
      // The engine's matrix-vector products add over subgroups, but wgpu does not ask for them yet.
      const requiredFeatures = [...(descriptor.requiredFeatures ?? []), "subgroups"];
      const device = (await original.call(this, { ...descriptor, requiredFeatures })) as LostDevice;
      // For tests, and for a look from the browser's console.
      Object.assign(self, { kilnDevice: device });
      void device.lost.then(({ reason, message }) => onLost(message || reason));
      return device;
    });
  wrap("GPUDevice", "createShaderModule", (original) => function (this: unknown, given: unknown) {
    const descriptor = given as { code: string };
    if (!descriptor.code.startsWith("enable subgroups;")) return original.call(this, descriptor);
    // Browsers want a proof that a subgroup reaches such operations together. In the engine's kernels it
    // does, through conditions that are the same for a whole subgroup, which the compiler cannot know.
    return original.call(this, { ...descriptor, code: `diagnostic(off, subgroup_uniformity);\n${descriptor.code}` });
  });
  wrap("GPUQueue", "submit", (original) => function (this: unknown, ...args: unknown[]) {
    counters.submits += 1;
    return original.apply(this, args);
  });
  for (const name of ["dispatchWorkgroups", "dispatchWorkgroupsIndirect"]) {
    wrap("GPUComputePassEncoder", name, (original) => function (this: unknown, ...args: unknown[]) {
      counters.dispatches += 1;
      return original.apply(this, args);
    });
  }
}

function wrap(type: string, method: string, wrapper: (original: Method) => Method): void {
  const { prototype } = (self as unknown as Record<string, { prototype: Record<string, Method> } | undefined>)[type] ?? {};
  const original = prototype?.[method];
  if (prototype && original) prototype[method] = wrapper(original);
}

/** The work counted so far. */
export function counted(): GpuCounters {
  return { ...counters };
}

/** The two devices of this tab, and which of them `auto` means. */
export async function devices(): Promise<Devices> {
  const { info: webgpu } = await look();
  const cpu: DeviceInfo = {
    name: "cpu",
    description: "WebAssembly with SIMD, one thread",
    available: true,
    software: false,
    reason: null,
  };
  const usable = webgpu.available && !webgpu.software;
  return {
    devices: [webgpu, cpu],
    chosen: usable ? "webgpu" : "cpu",
    why: usable
      ? "this browser reaches a GPU; a small model may still be faster on the CPU, which is measured at the start"
      : (webgpu.reason ?? "there is no GPU"),
  };
}

/** Limits that may be requested of a device. */
export async function limits(name: "webgpu" | "cpu"): Promise<Limits> {
  const { adapter } = name === "webgpu" ? await look() : { adapter: null };
  if (!adapter) return CPU_LIMITS;
  const { maxStorageBufferBindingSize, maxBufferSize } = adapter.limits;
  // What a GPU has in all, no browser tells.
  return { largest: Math.min(maxStorageBufferBindingSize, maxBufferSize), available: Number.MAX_SAFE_INTEGER };
}

async function look(): Promise<{ adapter: Adapter | null; info: DeviceInfo }> {
  const absent = (reason: string) => ({
    adapter: null,
    info: { name: "webgpu" as const, description: "WebGPU", available: false, software: false, reason },
  });
  if (!self.isSecureContext) return absent("browsers give WebGPU only to pages from https: or localhost");
  const gpu = (navigator as { gpu?: Gpu }).gpu;
  if (!gpu) return absent("this browser has no WebGPU");
  let adapter: Adapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (error) {
    return absent(`WebGPU failed: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!adapter) return absent("WebGPU finds no adapter on this machine");
  const missing = NEEDED.filter((feature) => !adapter.features.has(feature));
  if (missing.length > 0) return absent(`the adapter or the browser lacks ${missing.map((name) => `\`${name}\``).join(" and ")}, which the engine needs`);
  const { vendor = "", architecture = "", device = "", description = "", isFallbackAdapter = false } = adapter.info ?? {};
  const name = [vendor, architecture, device, description].filter((part) => part !== "").join(" ") || "unnamed adapter";
  const software = isFallbackAdapter || /swiftshader|llvmpipe|lavapipe|software|basic render/i.test(name);
  return {
    adapter,
    info: {
      name: "webgpu",
      description: software ? `${name} (software adapter)` : name,
      available: true,
      software,
      reason: software ? "it is a software adapter, emulated on the CPU, so the CPU path is faster" : null,
    },
  };
}
