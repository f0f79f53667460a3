// The about tab: the purpose of the page, and its glossary.

import { el } from "../dom";
import { TERMS } from "../glossary";
import type { Store } from "../store";
import type { Tab } from "./tabs";

/** The about tab. */
export function aboutTab(store: Store): Tab {
  const version = el("span", {});
  store.watch(["catalogue"], () => {
    version.textContent = store.state.catalogue ? `Version ${store.state.catalogue.version}.` : "";
  });
  const terms = Object.values(TERMS).sort((a, b) => a.name.localeCompare(b.name, "en", { sensitivity: "base" }));
  const element = el(
    "div",
    { class: "prose" },
    el("h2", {}, "About Kiln"),
    el("p", {}, "Kiln trains transformers, the kind of model behind chat assistants, from nothing. Here it does so inside this browser tab: on your graphics card through WebGPU, or on the processor where there is none. Nothing is installed, and nothing leaves your machine: text, weights and runs stay in this browser."),
    el("p", {}, "The page runs the same Rust code as the desktop program: model, optimizers, tokenizers, training loop and file formats. A checkpoint downloaded here goes on there, on one or many graphics cards, and the other way round. ", version),
    el("h3", {}, "A first run"),
    el("ol", {}, el("li", {}, "Choose a preset, such as one of the small tasks, and press Start."), el("li", {}, "Watch the loss fall below the line of uniform guessing, and the samples become right."), el("li", {}, "Change one thing, start anew, and compare both under Runs.")),
    el("h3", {}, "Nothing is lost"),
    el("p", {}, "Runs are saved in the browser's storage as they train. After a reload, a crash or a lost graphics device, they go on from the last save. To keep a run for good, download its checkpoint: browsers may clear storage that is not used."),
    el("h2", {}, "Words"),
    el("dl", { class: "glossary" }, ...terms.map(({ name, meaning }) => el("div", {}, el("dt", {}, name), el("dd", {}, meaning)))),
  );
  return { name: "About", element };
}
