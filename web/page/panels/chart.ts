// A line chart in the colours of the page, over uPlot, with its newest or pointed-at values beside
// the title.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { el, fill, setText, type Child } from "../dom";

/** Style of a curve. */
export interface Curve {
  name: string;
  /** A custom property of the style sheet, for example `--train`. */
  color: string;
  width?: number;
  dash?: number[];
  /** Only points, with a thin line between: for values that come now and then. */
  points?: boolean;
}

/** Data of a chart. */
export interface ChartOptions {
  title: Child;
  /** The title as text, for readers. */
  name: string;
  curves: Curve[];
  format(value: number): string;
  /** Of the axis; the same as the values' without it. */
  tick?(value: number): string;
  /** Fixed limits of the y axis. */
  range?: [number, number];
}

const HEIGHT = 176;

/** A chart; `set` gives it new data. */
export class Chart {
  readonly element: HTMLElement;
  private readonly readout: HTMLElement;
  private readonly host: HTMLElement;
  private plot: uPlot | null = null;
  private data: uPlot.AlignedData = [[]];
  private values: HTMLElement[] = [];

  constructor(private readonly options: ChartOptions) {
    this.readout = el("span", { class: "chart-values" });
    this.host = el("div", { class: "chart-host", "aria-hidden": "true" });
    this.element = el("figure", { class: "chart" }, el("figcaption", {}, el("span", { class: "chart-title" }, options.title), this.readout), this.host);
    new ResizeObserver(() => this.fit()).observe(this.host);
    // Colours are read at each drawing, so that a drawing is enough.
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.plot?.redraw());
    this.setCurves(options.curves);
  }

  /** Number of curves. */
  get curveCount(): number {
    return this.options.curves.length;
  }

  /** Exchanges the curves. */
  setCurves(curves: Curve[]): void {
    this.options.curves = curves;
    this.plot?.destroy();
    this.plot = null;
    this.data = [[], ...curves.map(() => [])];
    this.values = curves.map(() => el("b", {}));
    fill(this.readout, ...curves.map((curve, i) => el("span", { class: "chart-value" }, el("i", { style: `background: var(${curve.color})`, class: curve.dash ? "dashed" : "" }), `${curve.name} `, this.values[i])));
  }

  /** Shows data: x values and one column per curve. Nothing is drawn while out of view. */
  set(data: uPlot.AlignedData): void {
    this.data = data;
    this.read(null);
    this.fit();
  }

  private fit(): void {
    const width = Math.floor(this.host.clientWidth);
    if (width < 40 || (this.data[0]?.length ?? 0) === 0) return;
    if (!this.plot) this.plot = new uPlot(this.uplotOptions(width), this.data, this.host);
    else {
      if (this.plot.width !== width) this.plot.setSize({ width, height: HEIGHT });
      this.plot.setData(this.data);
    }
  }

  private read(at: number | null): void {
    this.values.forEach((element, i) => {
      const column = this.data[i + 1] ?? [];
      const value = at === null ? lastValue(column) : nearestValue(column, at);
      setText(element, value === null ? "–" : this.options.format(value));
    });
  }

  private uplotOptions(width: number): uPlot.Options {
    const axis = { stroke: () => color("--muted"), grid: { stroke: () => color("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const { range, format, tick, curves } = this.options;
    return {
      width,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: true, y: false }, points: { size: 6 } },
      scales: { x: { time: false }, y: range ? { range } : {} },
      axes: [
        { ...axis, size: 28, gap: 4 },
        { ...axis, size: 56, gap: 4, values: (_, ticks) => ticks.map((value) => (tick ?? format)(value)) },
      ],
      series: [
        {},
        ...curves.map((curve): uPlot.Series => ({
          label: curve.name,
          stroke: () => color(curve.color),
          width: curve.width ?? 2,
          spanGaps: true,
          points: { show: curve.points ?? false, size: 5, fill: () => color(curve.color) },
          ...(curve.dash ? { dash: curve.dash } : {}),
        })),
      ],
      hooks: { setCursor: [(plot) => this.read(plot.cursor.idx ?? null)] },
    };
  }
}

function color(property: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(property).trim();
}

type Column = ArrayLike<number | null | undefined>;

function lastValue(column: Column): number | null {
  return nearestValue(column, column.length - 1);
}

function nearestValue(column: Column, at: number): number | null {
  for (let i = at; i >= 0; i -= 1) {
    const value = column[i];
    if (value !== null && value !== undefined) return value;
  }
  return null;
}
