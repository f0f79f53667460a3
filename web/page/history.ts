// History of a run: every step in columns, and curves that stay short enough to draw.

import type { EvaluationReport, MetricValue, OverfittingReport, SampleReport, StepReport, TrainEvent } from "./protocol";

/** Points that a curve has at most; beyond, neighbours are merged. */
export const LONGEST_CURVE = 2_000;
/** Steps whose full reports are kept; beyond, the oldest half goes, so that memory stays flat. */
const MOST_REPORTS = 65_536;
/** Samples that are kept. */
const MOST_SAMPLES = 200;
/** Skipped steps that are kept. */
const MOST_SKIPPED = 200;
const COLUMNS = [
  "step", "loss", "grad_norm", "learning_rate", "tokens", "tokens_per_second", "mfu", "epoch", "seconds",
] as const satisfies readonly (keyof StepReport)[];

/** A step that changed nothing. */
export type SkippedStep = Extract<TrainEvent, { type: "skipped" }>;

/** Way in which neighbours merge: peaks must stay visible in a gradient norm, not in a loss. */
type Merge = "mean" | "max" | "last";

/** A curve family over one x axis that halves its resolution whenever it becomes too long. */
export class Curves {
  xs: number[] = [];
  channels: (number | null)[][];
  private stride = 1;
  private bucket: number[][] = [];

  constructor(private readonly merges: readonly Merge[]) {
    this.channels = merges.map(() => []);
  }

  /** Adds a point; NaN is a gap. */
  push(x: number, values: number[]): void {
    this.bucket.push([x, ...values]);
    if (this.bucket.length < this.stride) return;
    const points = this.bucket;
    this.bucket = [];
    this.xs.push(x);
    this.merges.forEach((merge, i) => this.channels[i]!.push(merged(merge, points.map((point) => point[i + 1]!))));
    if (this.xs.length >= LONGEST_CURVE) this.halve();
  }

  /** Drops all points. */
  clear(): void {
    this.xs = [];
    this.channels = this.merges.map(() => []);
    this.stride = 1;
    this.bucket = [];
  }

  /** Drops what came after `x`. */
  rewind(x: number): void {
    const kept = this.xs.filter((at) => at <= x).length;
    this.xs = this.xs.slice(0, kept);
    this.channels = this.channels.map((channel) => channel.slice(0, kept));
    this.bucket = this.bucket.filter(([at]) => at! <= x);
  }

  private halve(): void {
    this.stride *= 2;
    this.xs = this.xs.filter((_, i) => i % 2 === 1);
    this.channels = this.channels.map((channel, c) =>
      this.xs.map((_, i) => merged(this.merges[c]!, [channel[2 * i] ?? NaN, channel[2 * i + 1] ?? NaN])),
    );
  }
}

/** Everything that the charts and the timeline of one run show. */
export class History {
  /** Per step: loss, smoothed loss, gradient norm, learning rate, tokens per second. */
  readonly curves = new Curves(["mean", "last", "max", "last", "mean"]);
  /** WebAssembly and GPU bytes by step. */
  readonly memory = new Curves(["max", "max"]);
  /** Dispatches and submits for each step; nothing on the CPU path. */
  readonly gpuWork = new Curves(["mean", "mean"]);
  /** The objective's metrics by name: the number, or of several numbers the largest, the least and the mean. */
  readonly metrics = new Map<string, Curves>();
  evaluations: EvaluationReport[] = [];
  samples: SampleReport[] = [];
  skipped: SkippedStep[] = [];
  /** The warning of overfitting, if there was one. */
  overfitting: OverfittingReport | null = null;
  private table = new Float64Array(COLUMNS.length * 1024);
  private rows = 0;
  private average = 0;
  private weight = 0;

  /** Takes what a worker or a stored log says. A run that resumes repeats steps: the old ones go. */
  add(event: TrainEvent): void {
    if (event.type === "started") this.rewind(event.first_step);
    else if (event.type === "step") this.addStep(event);
    else if (event.type === "evaluation") this.evaluations.push(event);
    else if (event.type === "tasks") {
      for (const [name, value] of Object.entries(event.metrics)) this.addMetric(event.step, name, value);
    } else if (event.type === "sample") this.samples = [...this.samples, event].slice(-MOST_SAMPLES);
    else if (event.type === "overfitting") this.overfitting = event;
    else if (event.type === "skipped") this.skipped = [...this.skipped, event].slice(-MOST_SKIPPED);
  }

  /** Drops what came after `step`. */
  rewind(step: number): void {
    this.evaluations = this.evaluations.filter((report) => report.step <= step);
    this.samples = this.samples.filter((report) => report.step <= step);
    this.skipped = this.skipped.filter((report) => report.step <= step);
    if (this.overfitting && this.overfitting.step > step) this.overfitting = null;
    this.metrics.forEach((curves) => curves.rewind(step));
    const last = this.last;
    if (!last || last.step <= step) return;
    const kept = this.steps.filter((report) => report.step <= step);
    this.rows = 0;
    this.average = 0;
    this.weight = 0;
    this.curves.clear();
    for (const report of kept) this.addStep(report);
  }

  /** All step reports kept, oldest first. */
  get steps(): StepReport[] {
    return Array.from({ length: this.rows }, (_, row) => this.row(row));
  }

  /** The last `count` step reports, newest first. */
  newest(count: number): StepReport[] {
    return Array.from({ length: Math.min(count, this.rows) }, (_, i) => this.row(this.rows - 1 - i));
  }

  /** The newest step report. */
  get last(): StepReport | null {
    return this.rows === 0 ? null : this.row(this.rows - 1);
  }

  /** The newest evaluation. */
  get lastEvaluation(): EvaluationReport | null {
    return this.evaluations.at(-1) ?? null;
  }

  private addStep(report: StepReport): void {
    if (this.rows > 0 && report.step <= this.row(this.rows - 1).step) this.rewind(report.step - 1);
    this.makeRoom();
    COLUMNS.forEach((name, column) => {
      this.table[this.rows * COLUMNS.length + column] = report[name] ?? NaN;
    });
    this.rows += 1;
    if (Number.isFinite(report.loss)) {
      this.average = 0.9 * this.average + 0.1 * report.loss;
      this.weight = 0.9 * this.weight + 0.1;
    }
    const smooth = this.weight > 0 ? this.average / this.weight : NaN;
    const { loss, grad_norm, learning_rate, tokens_per_second } = report;
    // In a stored log, a number that is not finite is null.
    this.curves.push(report.step, [loss ?? NaN, smooth, grad_norm ?? NaN, learning_rate, tokens_per_second]);
    // A log without metrics has no field for them.
    for (const [name, value] of Object.entries(report.metrics ?? {})) this.addMetric(report.step, name, value);
  }

  private addMetric(step: number, name: string, value: MetricValue): void {
    const isOne = !Array.isArray(value);
    let curves = this.metrics.get(name);
    if (!curves) this.metrics.set(name, (curves = new Curves(isOne ? ["mean"] : ["mean", "mean", "mean"])));
    // In a stored log, a number that is not finite is null.
    const numbers = [value].flat().map((number) => number ?? NaN);
    const mean = numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
    curves.push(step, isOne ? numbers : [Math.max(...numbers), Math.min(...numbers), mean]);
  }

  private makeRoom(): void {
    if (this.rows === MOST_REPORTS) {
      this.table.copyWithin(0, (MOST_REPORTS / 2) * COLUMNS.length);
      this.rows = MOST_REPORTS / 2;
    } else if ((this.rows + 1) * COLUMNS.length > this.table.length) {
      const larger = new Float64Array(this.table.length * 2);
      larger.set(this.table);
      this.table = larger;
    }
  }

  private row(row: number): StepReport {
    const report: Record<string, number | null> = {};
    COLUMNS.forEach((name, column) => {
      report[name] = this.table[row * COLUMNS.length + column]!;
    });
    if (Number.isNaN(report.mfu)) report.mfu = null;
    return report as unknown as StepReport;
  }
}

function merged(merge: Merge, values: (number | null)[]): number | null {
  const finite = values.filter((value): value is number => value !== null && Number.isFinite(value));
  if (finite.length === 0) return null;
  if (merge === "max") return Math.max(...finite);
  if (merge === "last") return finite.at(-1)!;
  return finite.reduce((sum, value) => sum + value, 0) / finite.length;
}
