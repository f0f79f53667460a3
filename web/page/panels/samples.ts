// Generated text: on request, and samples as the model learns.

import { asProblem } from "../client";
import { el, fill, setText, throttled } from "../dom";
import { whole } from "../format";
import { term } from "../popover";
import { ProblemBox } from "../problem";
import type { SampleReport } from "../protocol";
import type { Session } from "../session";
import type { Store } from "../store";
import { values } from "../specs";
import type { Tab } from "./tabs";

/** The samples tab. */
export function samplesTab(store: Store, session: Session): Tab {
  const timeline = el("ol", { class: "timeline", testid: "samples", reversed: true });
  const empty = el("p", { class: "hint" });
  let shownList: SampleReport[] | null = null;
  const render = (): void => {
    const run = store.state.run;
    const samples = run?.history.samples ?? [];
    empty.hidden = samples.length > 0;
    const setting = run && store.state.catalogue ? values(store.state.catalogue, run.spec) : null;
    const every = setting?.get("train.sample_interval");
    const generates = setting?.get("model.architecture") !== "encoder";
    setText(empty, !generates ? "An encoder fills masks, and generates no text." : every && every !== "0" ? `The first sample comes at step ${every}.` : "Samples that the model generates during a run are kept here.");
    if (samples === shownList) return;
    shownList = samples;
    fill(timeline, ...[...samples].reverse().map((sample) => el("li", {}, el("h3", {}, `Step ${whole(sample.step)}`), el("pre", {}, sample.text || "(nothing)"))));
  };
  store.watch(["run", "history", "catalogue"], throttled(250, render));
  return { name: "Samples", element: el("div", { class: "stack" }, generator(store, session), el("h2", {}, "As it learned"), empty, timeline), shown: render };
}

function generator(store: Store, session: Session): HTMLElement {
  const prompt = el("textarea", { id: "prompt", rows: 2, testid: "prompt", spellcheck: "false" });
  const temperature = number("generate-temperature", "0.8", "decimal");
  const topK = number("generate-top-k", "0", "numeric");
  const length = number("generate-length", "200", "numeric");
  const button = el("button", { type: "submit", class: "primary", testid: "generate" }, "Generate");
  const output = el("pre", { class: "generated", testid: "generated", "aria-live": "polite", tabindex: 0, role: "region", "aria-label": "Generated text" });
  const problem = new ProblemBox("generate");
  const form = el(
    "form",
    { class: "stack generator", novalidate: true },
    el("label", { for: "prompt", class: "title" }, "Text to continue"),
    prompt,
    el(
      "div",
      { class: "inline-fields" },
      el("div", {}, el("label", { for: temperature.id }, "Temperature"), temperature),
      el("div", {}, el("label", { for: topK.id }, "Top k"), topK),
      el("div", {}, el("label", { for: length.id }, "Tokens"), length),
      button,
    ),
    el("p", { class: "hint" }, "What is ", term("temperature"), "? What is ", term("top_k"), "?"),
    problem.element,
    output,
  );
  let working = false;
  const render = (): void => {
    button.disabled = working || session.client === null || !store.state.run?.info;
    output.hidden = output.textContent === "";
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!session.client || working) return;
    working = true;
    setText(button, "Generating…");
    problem.show(null);
    render();
    try {
      output.textContent = await session.client.call("generate", prompt.value, checked(length, "Tokens"), checked(temperature, "Temperature"), checked(topK, "Top k"));
    } catch (error) {
      problem.show(asProblem(error));
    }
    working = false;
    setText(button, "Generate");
    render();
  });
  // A task is best tried on one of its own prompts.
  let shownPreset = "";
  store.watch(["run", "catalogue"], () => {
    render();
    const { run, catalogue } = store.state;
    if (!run || !catalogue || run.id === shownPreset) return;
    shownPreset = run.id;
    const set = values(catalogue, run.spec);
    temperature.value = set.get("sample.temperature") ?? temperature.value;
    topK.value = set.get("sample.top_k") ?? topK.value;
    length.value = set.get("sample.max_new_tokens") ?? length.value;
    output.textContent = "";
    render();
  });
  return form;
}

function number(id: string, value: string, inputmode: string): HTMLInputElement {
  return el("input", { id, testid: id, type: "text", inputmode, value, autocomplete: "off" });
}

function checked(input: HTMLInputElement, name: string): number {
  const value = Number(input.value);
  if (input.value.trim() !== "" && Number.isFinite(value) && value >= 0) return value;
  input.focus();
  throw new Error(`${name} \`${input.value}\` is not a number from 0 on`);
}
