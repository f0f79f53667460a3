// The choice of the device, and the reason for what `auto` means here.

import { el, fill, setText } from "../dom";
import { term } from "../popover";
import type { DeviceInfo, RunSpec } from "../protocol";
import type { Store } from "../store";

const NAMES = { auto: "Automatic", webgpu: "WebGPU (graphics card)", cpu: "CPU (WebAssembly)" } as const;

/** The device select with an explanation. */
export function devicePanel(store: Store): HTMLElement {
  const select = el("select", { id: "device", testid: "device", "aria-describedby": "device-why" });
  const why = el("p", { id: "device-why", class: "hint", testid: "device-why" });
  const list = el("ul", { class: "hint plain" });
  select.addEventListener("change", () => {
    store.change(["setup"], ({ setup }) => void (setup.device = select.value as RunSpec["device"]));
  });
  store.watch(["devices", "setup"], () => {
    const { devices, setup } = store.state;
    const known = devices?.devices ?? [];
    const options = (["auto", "webgpu", "cpu"] as const).map((name) => {
      const missing = known.find((device) => device.name === name)?.available === false;
      return el("option", { value: name, disabled: missing }, missing ? `${NAMES[name]}: not available` : NAMES[name]);
    });
    if (select.childElementCount === 0 || store.state.devices !== shownDevices) fill(select, ...options);
    shownDevices = devices;
    select.value = setup.device;
    setText(why, devices ? explanation(setup.device, devices.chosen, devices.why) : "Looking at the machine…");
    fill(list, ...known.map((device) => el("li", {}, line(device))));
  });
  return el(
    "div",
    { class: "stack" },
    el("div", { class: "title-row" }, el("label", { for: "device", class: "title" }, "Device"), term("webgpu", "What is WebGPU?")),
    select,
    why,
    el("details", { class: "minor" }, el("summary", {}, "Devices of this browser"), list),
  );
}

let shownDevices: unknown = null;

function explanation(asked: RunSpec["device"], chosen: "webgpu" | "cpu", why: string): string {
  if (asked !== "auto") return `Runs on ${NAMES[asked]}, as chosen.`;
  return `Runs on ${NAMES[chosen]}: ${why.replace(/\.$/, "")}.`;
}

function line(device: DeviceInfo): string {
  const notes = [device.software ? "emulated in software" : null, device.available ? null : "not available", device.reason].filter(Boolean);
  return `${device.description}${notes.length > 0 ? ` (${notes.join("; ")})` : ""}`;
}
