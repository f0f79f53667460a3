// Puts the page together: state, workers, set-up on the left, what happens on the right.

import "./style/base.css";
import "./style/layout.css";
import "./style/controls.css";
import "./style/panels.css";
import { asProblem, makeClient } from "./client";
import { el, fill } from "./dom";
import { aboutTab } from "./panels/about";
import { attentionTab } from "./panels/attention";
import { metricsTab } from "./panels/metrics";
import { noticesPanel } from "./panels/notices";
import { parametersTab } from "./panels/parameters";
import { runsTab } from "./panels/runs";
import { samplesTab } from "./panels/samples";
import { Tabs } from "./panels/tabs";
import { transportPanel } from "./panels/transport";
import { Planning } from "./planning";
import { sentence } from "./problem";
import { Session } from "./session";
import { devicePanel } from "./setup/device";
import { fieldsPanel } from "./setup/fields";
import { planPanel } from "./setup/plan";
import { presetPanel } from "./setup/preset";
import { sharePanel } from "./setup/share";
import { sourcePanel } from "./setup/source";
import { Store } from "./store";
import { exposeToTests } from "./testing";
import { fromHash } from "./url";

const store = new Store();
const planner = makeClient(true);
const session = new Session(store, planner, makeClient);
const planning = new Planning(store, planner, makeClient);
exposeToTests(store, session, planner);
planner.listen((message) => {
  if (message.kind === "problem") store.change(["problem"], (state) => void (state.problem = message.problem));
});

const tabs = new Tabs([
  metricsTab(store),
  samplesTab(store, session),
  attentionTab(store, session),
  parametersTab(store, session),
  runsTab(store, session, planner),
  aboutTab(store),
]);
fill(
  document.getElementById("page")!,
  el("a", { class: "skip", href: "#results", onclick: (event: Event) => (event.preventDefault(), document.getElementById("results")?.focus()) }, "Skip to the results"),
  el("header", { class: "top" }, el("h1", {}, "Kiln"), el("p", { class: "tagline" }, "Train a transformer in this tab"), transportPanel(store, session)),
  noticesPanel(store, session, () => tabs.open("Runs")),
  el(
    "div",
    { class: "columns" },
    el(
      "aside",
      { class: "setup", "aria-label": "Set up" },
      el("h2", {}, "Set up"),
      presetPanel(store),
      sourcePanel(store),
      devicePanel(store),
      planPanel(store, planning),
      fieldsPanel(store),
      sharePanel(store),
    ),
    el("main", { id: "results", tabindex: -1 }, tabs.element),
  ),
);

// How much of the window the bar covers, for what must stay clear of it.
const bar = document.querySelector<HTMLElement>(".top")!;
new ResizeObserver(() => document.documentElement.style.setProperty("--top", `${bar.offsetHeight}px`)).observe(bar);

// On a phone the curves are below the set-up: whoever starts a run wants to see them.
let shownRun: string | null = null;
store.watch(["run"], () => {
  const { run } = store.state;
  if (run && run.id !== shownRun && innerWidth <= 800) document.getElementById("results")?.scrollIntoView();
  shownRun = run?.id ?? null;
});

/** Takes the set-up from the address, and says what in it could not be used. */
function readAddress(): void {
  const { catalogue, setup } = store.state;
  if (!catalogue) return;
  const first = catalogue.presets.find((preset) => preset.browser) ?? catalogue.presets[0];
  const start = { ...setup, preset: setup.preset || (first?.name ?? ""), overrides: {}, device: "auto" as const };
  const { setup: read, refused, notes } = fromHash(location.hash, catalogue, start);
  const problem = refused.length === 0 ? null : { message: `Part of the address was left out: ${refused.slice(0, 5).join("; ")}`, hint: "the rest of the set-up is in place", fatal: false };
  store.change(["setup", "problem"], (state) => Object.assign(state, { setup: read, problem: problem ?? state.problem, note: notes.length > 0 ? notes.map(sentence).join(" ") : state.note }));
}

try {
  const [catalogue, devices] = await Promise.all([
    planner.call("catalogue"),
    planner.call("devices").catch((error: unknown) => {
      store.change(["problem"], (state) => void (state.problem = asProblem(error)));
      return null;
    }),
  ]);
  store.change(["catalogue", "devices"], (state) => Object.assign(state, { catalogue, devices }));
  readAddress();
  addEventListener("hashchange", readAddress);
  await planning.follow();
  await session.refreshRuns();
} catch (error) {
  const { message } = asProblem(error);
  store.change(["problem"], (state) => void (state.problem = { message: `The engine did not start: ${message}`, hint: "a current Chrome, Edge, Firefox or Safari runs it", fatal: true }));
}
document.documentElement.dataset.ready = "true";
