// The choice of a preset and what it is.

import { el, fill, setText } from "../dom";
import { sentence } from "../problem";
import type { Preset } from "../protocol";
import type { Store } from "../store";

/** The preset select with its description. */
export function presetPanel(store: Store): HTMLElement {
  const select = el("select", { id: "preset", testid: "preset", "aria-describedby": "preset-description" });
  const description = el("p", { id: "preset-description", class: "hint" });
  const changes = el("button", { type: "button", class: "quiet", testid: "reset-all" });

  select.addEventListener("change", () => {
    store.change(["setup"], ({ setup }) => {
      setup.preset = select.value;
      // What was changed was changed against another preset.
      setup.overrides = {};
    });
  });
  changes.addEventListener("click", () => {
    store.change(["setup"], ({ setup }) => void (setup.overrides = {}));
    select.focus();
  });

  store.watch(["catalogue"], () => {
    const presets = store.state.catalogue?.presets ?? [];
    fill(select, choices("Made for a tab", presets.filter((preset) => preset.browser)), choices("For the desktop", presets.filter((preset) => !preset.browser)));
  });
  store.watch(["setup", "catalogue"], () => {
    const { preset, overrides } = store.state.setup;
    if (select.value !== preset) select.value = preset;
    setText(description, store.preset ? sentence(store.preset.description) : "");
    const count = Object.keys(overrides).length;
    changes.hidden = count === 0;
    setText(changes, `Undo ${count === 1 ? "1 change" : `all ${count} changes`}`);
  });
  return el("div", { class: "stack" }, el("label", { for: "preset", class: "title" }, "Preset"), select, description, changes);
}

function choices(label: string, presets: Preset[]): HTMLElement | null {
  if (presets.length === 0) return null;
  return el("optgroup", { label }, ...presets.map((preset) => el("option", { value: preset.name }, preset.name)));
}
