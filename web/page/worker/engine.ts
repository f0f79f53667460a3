// The engine: the WebAssembly module that `web/src` is compiled to.

import init, { on_panic } from "./wasm/kiln_web";

let memory: WebAssembly.Memory | null = null;

/** Loads the module; `onPanic` hears why it ended, should it. */
export async function loadEngine(onPanic: (message: string) => void): Promise<void> {
  const loaded = await init();
  memory = loaded.memory;
  on_panic(onPanic);
}

/** Bytes of the module's memory. */
export function wasmMemory(): number {
  return memory?.buffer.byteLength ?? 0;
}
