// The curves of the run on the page.

import uPlot from "uplot";
import { el, fill, throttled } from "../dom";
import { bytes, duration, measure, percent, short, tick, whole } from "../format";
import type { SkippedStep } from "../history";
import { term } from "../popover";
import type { EvaluationReport, OverfittingReport } from "../protocol";
import type { Run, Store } from "../store";
import { Chart } from "./chart";
import type { Tab } from "./tabs";

/** The metrics tab. */
export function metricsTab(store: Store): Tab {
  const loss = new Chart({
    title: term("loss", "Loss"),
    name: "Loss",
    curves: [
      { name: "each step", color: "--train-raw", width: 1 },
      { name: "smoothed", color: "--train" },
      { name: "validation", color: "--validation", points: true },
      { name: "uniform guess", color: "--muted", width: 1, dash: [5, 5] },
    ],
    format: measure,
    tick,
  });
  const perplexity = new Chart({
    title: term("perplexity", "Perplexity"),
    name: "Perplexity",
    curves: [
      { name: "training", color: "--train" },
      { name: "validation", color: "--validation", points: true },
    ],
    format: measure,
    tick,
  });
  const gradient = new Chart({ title: term("gradient_norm", "Gradient norm"), name: "Gradient norm", curves: [{ name: "", color: "--train", width: 1.5 }], format: measure, tick });
  const rate = new Chart({ title: term("learning_rate", "Learning rate"), name: "Learning rate", curves: [{ name: "", color: "--train" }], format: measure, tick });
  const speed = new Chart({ title: term("tokens_per_second", "Tokens per second"), name: "Tokens per second", curves: [{ name: "", color: "--train", width: 1.5 }], format: short, tick });
  const memory = new Chart({
    title: "Memory",
    name: "Memory",
    curves: [
      { name: "WebAssembly", color: "--train" },
      { name: "GPU", color: "--validation" },
    ],
    format: bytes,
  });
  const gpuWork = new Chart({
    title: el("span", {}, term("dispatch", "Dispatches"), " and ", term("submit", "submits"), " a step"),
    name: "Dispatches and submits a step",
    curves: [
      { name: "dispatches", color: "--train" },
      { name: "submits", color: "--validation" },
    ],
    format: short,
    tick,
  });
  const accuracy = new Chart({ title: term("accuracy", "Task accuracy"), name: "Task accuracy", curves: [{ name: "", color: "--validation", points: true }], format: percent, tick: (value) => `${Math.round(value * 100)} %`, range: [0, 1] });
  const f1 = new Chart({ title: term("macro_f1", "Macro F1"), name: "Macro F1", curves: [{ name: "", color: "--validation", points: true }], format: measure, tick, range: [0, 1] });
  // One for each metric that the objective reports, whatever it is.
  const metrics = new Map<string, Chart>();

  const charts = el("div", { class: "charts", testid: "charts" }, loss.element, accuracy.element, f1.element, perplexity.element, gradient.element, rate.element, speed.element, memory.element, gpuWork.element);
  const empty = el("div", { class: "empty" }, el("p", {}, "Press Start to train. The curves appear here as the model learns."));
  const table = el("table", { class: "data" });
  const details = el("details", { class: "minor" }, el("summary", {}, "The newest values as a table"), el("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Newest values" }, table));
  const skippedList = el("ul", { class: "hint", testid: "skipped" });
  const skipped = el("details", { class: "minor" }, el("summary", {}, "Skipped steps, newest first"), skippedList);
  let skippedShown: SkippedStep[] | null = null;
  const overfitting = el("p", { class: "hint", role: "status", testid: "overfitting" });
  const element = el("div", { class: "stack" }, empty, overfitting, charts, skipped, details);

  const render = (): void => {
    const run = store.state.run;
    const history = run?.history;
    const some = history !== undefined && (history.curves.xs.length > 0 || history.evaluations.length > 0);
    empty.hidden = some;
    charts.hidden = !some;
    details.hidden = !some;
    overfitting.hidden = !history?.overfitting;
    if (history?.overfitting) fill(overfitting, whyOverfitting(history.overfitting));
    skipped.hidden = !history || history.skipped.length === 0;
    if (history && history.skipped !== skippedShown) {
      skippedShown = history.skipped;
      fill(skippedList, ...[...skippedShown].reverse().map((step) => el("li", {}, whySkipped(step))));
    }
    if (!run || !history || !some) return;
    accuracy.element.hidden = !history.evaluations.some((report) => report.exact_match != null);
    f1.element.hidden = !history.evaluations.some((report) => report.macro_f1 != null);
    perplexity.element.hidden = run.info?.has_perplexity === false;
    memory.element.hidden = history.memory.xs.length === 0;
    gpuWork.element.hidden = history.gpuWork.xs.length === 0;
    if (element.offsetParent === null) return;
    drawLosses(run, loss, perplexity);
    const { xs, channels } = history.curves;
    gradient.set([xs, channels[2]!]);
    rate.set([xs, channels[3]!]);
    speed.set([xs, channels[4]!]);
    memory.set([history.memory.xs, ...history.memory.channels]);
    gpuWork.set([history.gpuWork.xs, ...history.gpuWork.channels]);
    accuracy.set([history.evaluations.map((report) => report.step), history.evaluations.map((report) => report.exact_match)]);
    f1.set([history.evaluations.map((report) => report.step), history.evaluations.map((report) => report.macro_f1)]);
    drawMetrics(run, metrics, charts);
    if (details.open) fillTable(table, run);
  };
  // At most four times a second: drawing must never be what the machine is busy with.
  const soon = throttled(250, render);
  details.addEventListener("toggle", soon);
  store.watch(["run", "history"], soon);
  return { name: "Metrics", element, shown: soon };
}

function drawLosses(run: Run, loss: Chart, perplexity: Chart): void {
  const { xs, channels } = run.history.curves;
  const at = run.history.evaluations.map((report) => report.step);
  const validation = run.history.evaluations.map((report) => report.val_loss);
  const joined = uPlot.join([
    [xs, channels[0]!, channels[1]!],
    [at, validation],
  ]);
  const uniform = run.info?.uniform_loss ?? null;
  loss.set([...joined, Array.from(joined[0], () => uniform)] as uPlot.AlignedData);
  const choices = (values: ArrayLike<number | null | undefined> | undefined) =>
    Array.from(values ?? [], (value) => (value === null || value === undefined ? value : Math.exp(Math.min(value, 20))));
  perplexity.set([joined[0], choices(joined[2]), choices(joined[3])] as uPlot.AlignedData);
}

/** A chart for each metric of the run, made when the metric first comes. */
function drawMetrics(run: Run, charts: Map<string, Chart>, into: HTMLElement): void {
  const { metrics } = run.history;
  for (const [name, chart] of charts) chart.element.hidden = !metrics.has(name);
  for (const [name, curves] of metrics) {
    let chart = charts.get(name);
    if (!chart) {
      chart = new Chart({ title: METRICS[name] ?? name, name, curves: [], format: measure, tick });
      charts.set(name, chart);
      into.append(chart.element);
    }
    const isOne = curves.channels.length === 1;
    if (chart.curveCount !== curves.channels.length) chart.setCurves(isOne ? [{ name: "", color: "--train" }] : SEVERAL);
    chart.set([curves.xs, ...curves.channels]);
  }
}

/** Style of a metric of several numbers. */
const SEVERAL = [
  { name: "largest", color: "--train" },
  { name: "least", color: "--validation" },
  { name: "mean", color: "--muted", width: 1, dash: [5, 5] },
];

/** Titles with an explanation, of metrics that have one; others go by their name. */
const METRICS: Record<string, HTMLElement> = {
  "router/expert": el("span", {}, "Use of the ", term("expert", "experts")),
};

/** The warning of overfitting, with what helps. */
function whyOverfitting(report: OverfittingReport): string {
  return (
    `The model overfits: its validation loss, ${measure(report.val_loss)}, is above the best, ${measure(report.best_val_loss)} ` +
    `at step ${whole(report.best_step)}, while the training loss fell from ${measure(report.train_loss_at_best)} to ` +
    `${measure(report.train_loss)}. Train on more text, raise the dropout, or stop earlier.`
  );
}

/** Why a step changed nothing, as the desktop says it. */
function whySkipped({ step, loss, grad_norm, batch }: SkippedStep): string {
  // In a stored log, a number that is not finite is null.
  const said = (value: number | null): string => (value === null ? "not finite" : String(value));
  const why = Number.isFinite(loss) ? `the gradient norm is ${said(grad_norm)}, with a loss of ${measure(loss)}` : `the loss is ${said(loss)}`;
  return `Step ${whole(step)}: ${why} (batch of ${batch})`;
}

/** An evaluation in words. */
function evaluated({ step, val_loss, perplexity, macro_f1, exact_match, metrics }: EvaluationReport): string {
  const numbers = [
    `Validation loss ${measure(val_loss)}`,
    perplexity != null && `perplexity ${measure(perplexity)}`,
    macro_f1 != null && `macro F1 ${measure(macro_f1)}`,
    exact_match != null && `accuracy ${percent(exact_match)}`,
    ...Object.entries(metrics ?? {}).map(([name, value]) => `${name} ${[value].flat().map(measure).join(", ")}`),
  ];
  return `${numbers.filter(Boolean).join(", ")} at step ${whole(step)}`;
}

/** The charts for those who do not see them. */
function fillTable(table: HTMLElement, run: Run): void {
  const steps = run.history.newest(10);
  const evaluation = run.history.lastEvaluation;
  const head = ["Step", "Loss", "Gradient norm", "Learning rate", "Tokens per second", "Time"];
  fill(
    table,
    el("caption", {}, evaluation ? evaluated(evaluation) : "No evaluation yet"),
    el("thead", {}, el("tr", {}, ...head.map((name) => el("th", { scope: "col" }, name)))),
    el(
      "tbody",
      {},
      ...steps.map((report) =>
        el("tr", {}, ...[whole(report.step), measure(report.loss), measure(report.grad_norm), measure(report.learning_rate), short(report.tokens_per_second), duration(report.seconds)].map((text) => el("td", {}, text))),
      ),
    ),
  );
}
