// Every parameter of the model: size, spread, and the gradient that the next batch would give it.

import { asProblem } from "../client";
import { el, fill, setText, type Child } from "../dom";
import { measure, whole } from "../format";
import { term } from "../popover";
import { ProblemBox } from "../problem";
import type { Distribution, ParameterReport } from "../protocol";
import type { Session } from "../session";
import type { Store } from "../store";
import type { Tab } from "./tabs";

/** The parameters tab. */
export function parametersTab(store: Store, session: Session): Tab {
  const button = el("button", { type: "button", class: "primary", testid: "refresh-parameters" }, "Look inside");
  const status = el("span", { class: "hint", role: "status" });
  const problem = new ProblemBox("parameters");
  const table = el("table", { class: "data parameters", testid: "parameters-table" });
  const scroll = el("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Parameters", hidden: true }, table);
  const element = el(
    "div",
    { class: "stack" },
    el("p", { class: "hint" }, "The weights of each ", term("parameter"), " matrix and the ", term("gradient"), " of the next batch. Gradients of zero mean that nothing is learned there; much larger ones than elsewhere, that training is unsteady."),
    el("div", { class: "actions" }, button, status),
    problem.element,
    scroll,
  );
  let reports: ParameterReport[] = [];
  const refresh = async (): Promise<void> => {
    const { client } = session;
    if (!client) return;
    button.disabled = true;
    problem.show(null);
    setText(status, "Computing…");
    try {
      reports = await client.call("parameters");
      scroll.hidden = false;
      render();
      setText(status, `As of step ${whole(store.state.run?.history.last?.step ?? store.state.run?.info?.first_step ?? 0)}`);
      setText(button, "Refresh");
    } catch (error) {
      setText(status, "");
      problem.show(asProblem(error));
    }
    button.disabled = session.client === null;
  };
  button.addEventListener("click", () => void refresh());
  const render = (): void => {
    fill(
      table,
      el("thead", {}, el("tr", {}, ...["Name", "Shape", "Weight norm", "Weight std", "Weights", "Gradient norm", "Gradient std", "Gradients"].map((name) => el("th", { scope: "col" }, name)))),
      el(
        "tbody",
        {},
        ...reports.map(({ name, shape, weights, gradients }) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, el("code", {}, ...breakable(name))),
            el("td", {}, shape.join(" × ")),
            el("td", {}, measure(weights.norm)),
            el("td", {}, measure(weights.std)),
            el("td", {}, histogram(weights, "--train")),
            el("td", {}, measure(gradients.norm)),
            el("td", {}, measure(gradients.std)),
            el("td", {}, histogram(gradients, "--validation")),
          ),
        ),
      ),
    );
  };
  let shownRun = "";
  store.watch(["run"], () => {
    const { run } = store.state;
    button.disabled = session.client === null || !run?.info;
    if (!run || run.id === shownRun) return;
    shownRun = run.id;
    reports = [];
    scroll.hidden = true;
    setText(button, "Look inside");
    setText(status, "");
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
  const shown = (): void => {
    if (reports.length === 0 && !button.disabled && store.state.run?.state !== "preparing") void refresh();
  };
  return { name: "Parameters", element, shown };
}

/** A dotted name that may be broken behind its dots. */
function breakable(name: string): Child[] {
  return name.split(/(?<=\.)/).flatMap((part) => [part, el("wbr")]);
}

const WIDTH = 72;
const HEIGHT = 28;

function histogram({ histogram: counts, min, max, mean }: Distribution, color: string): HTMLCanvasElement {
  const canvas = el("canvas", { role: "img", "aria-label": `from ${measure(min)} to ${measure(max)}, mean ${measure(mean)}`, title: `${measure(min)} to ${measure(max)}, mean ${measure(mean)}` });
  const ratio = window.devicePixelRatio || 1;
  canvas.width = WIDTH * ratio;
  canvas.height = HEIGHT * ratio;
  canvas.style.width = `${WIDTH}px`;
  canvas.style.height = `${HEIGHT}px`;
  const context = canvas.getContext("2d");
  if (!context) return canvas;
  context.scale(ratio, ratio);
  context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(color);
  const most = Math.max(1, ...counts);
  counts.forEach((count, i) => {
    const height = (count / most) * HEIGHT;
    context.fillRect((i * WIDTH) / counts.length, HEIGHT - height, WIDTH / counts.length - 0.5, height);
  });
  return canvas;
}
