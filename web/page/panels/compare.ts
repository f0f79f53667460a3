// Several stored runs in one chart, and what was different about them.

import uPlot from "uplot";
import { el, fill } from "../dom";
import { measure, tick } from "../format";
import type { History } from "../history";
import type { Catalogue, StoredRun } from "../protocol";
import { values } from "../specs";
import { Chart, type Curve } from "./chart";

/** A run with its reports. */
export interface Compared {
  run: StoredRun;
  history: History;
}

/** Curves of this many runs can be told apart. */
export const MOST_COMPARED = 6;

/** The colour of the n-th compared run. */
export function runColor(index: number): string {
  return `--run-${index + 1}`;
}

/** Chart and table of the compared runs. */
export class Comparison {
  readonly element = el("div", { class: "stack", testid: "comparison", hidden: true });
  private readonly chart = new Chart({ title: "Loss", name: "Loss of the chosen runs", curves: [], format: measure, tick });
  private readonly table = el("table", { class: "data" });

  constructor() {
    this.element.append(el("h2", {}, "Compared"), this.chart.element, el("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Differences between the runs" }, this.table));
  }

  /** Shows these runs. */
  show(compared: Compared[], catalogue: Catalogue): void {
    this.element.hidden = compared.length === 0;
    if (compared.length === 0) return;
    this.chart.setCurves(compared.map(({ run }, i): Curve => ({ name: run.name, color: runColor(i) })));
    this.chart.set(uPlot.join(compared.map(({ history }) => [history.curves.xs, history.curves.channels[1]!] as uPlot.AlignedData)));
    const settings = compared.map(({ run }) => values(catalogue, run.spec));
    const keys = [...new Set(settings.flatMap((map) => [...map.keys()]))].filter((key) => new Set(settings.map((map) => map.get(key))).size > 1);
    const rows: [string, (string | undefined)[]][] = [
      ["preset", compared.map(({ run }) => run.spec.preset)],
      ["text", compared.map(({ run }) => run.text_name ?? "built in")],
      ...keys.map((key): [string, (string | undefined)[]] => [key, settings.map((map) => map.get(key))]),
      ["loss", compared.map(({ run }) => measure(run.loss))],
      ["validation loss", compared.map(({ run }) => measure(run.val_loss))],
    ];
    fill(
      this.table,
      el("caption", {}, keys.length === 0 ? "The settings are the same" : "Settings that differ, and results"),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Setting"), ...compared.map(({ run }) => el("th", { scope: "col" }, run.name)))),
      el("tbody", {}, ...rows.map(([name, cells]) => el("tr", {}, el("th", { scope: "row" }, name.includes(".") ? el("code", {}, name) : name), ...cells.map((cell) => el("td", {}, cell || "–"))))),
    );
  }
}
