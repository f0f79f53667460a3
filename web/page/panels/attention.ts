// Attention maps: attention of a chosen layer and head on a chosen text.

import { asProblem } from "../client";
import { el, fill, setText, throttled } from "../dom";
import { percent, visible } from "../format";
import { term } from "../popover";
import { ProblemBox } from "../problem";
import type { AttentionMaps } from "../protocol";
import type { Session } from "../session";
import type { Store } from "../store";
import { drawHeat } from "./heat";
import type { Tab } from "./tabs";

/** The attention tab. */
export function attentionTab(store: Store, session: Session): Tab {
  const text = el("input", { id: "attention-text", type: "text", testid: "attention-text", spellcheck: "false", autocomplete: "off" });
  const layer = el("select", { id: "attention-layer", testid: "attention-layer" });
  const head = el("select", { id: "attention-head", testid: "attention-head" });
  const button = el("button", { type: "submit", class: "primary", testid: "attention-show" }, "Show");
  const problem = new ProblemBox("attention");
  const canvas = el("canvas", { testid: "attention-canvas", tabindex: 0, role: "application", "aria-label": "Attention map; the arrow keys move from cell to cell", "aria-describedby": "attention-cell" });
  const readout = el("p", { id: "attention-cell", class: "cell-readout", "aria-live": "polite", testid: "attention-cell" });
  const grid = el("div", { class: "head-grid", testid: "attention-heads" });
  const table = el("table", { class: "data" });
  const words = el("details", { class: "minor" }, el("summary", {}, "In words"), el("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Strongest attention of each token" }, table));
  const form = el(
    "form",
    { class: "inline-fields", novalidate: true },
    el("div", { class: "wide" }, el("label", { for: text.id }, "Text"), text),
    el("div", {}, el("label", { for: layer.id }, "Layer"), layer),
    el("div", {}, el("label", { for: head.id }, "Head"), head),
    button,
  );
  const result = el("div", { class: "stack", hidden: true }, readout, canvas, grid, words);
  const about = el("p", { class: "hint" }, "Each row is a token that asks; the stronger the colour of a column, the more it takes from there. See ", term("attention"), " and ", term("head"), ".");
  const empty = el("p", { class: "hint" }, "Start or open a run first.");
  const element = el("div", { class: "stack" }, form, about, empty, problem.element, result);

  let maps: AttentionMaps | null = null;
  let selected: [number, number] | null = null;
  let geometry = { cell: 1, margin: 0 };

  const chosenHead = (): number | null => (head.value === "all" ? null : Number(head.value));
  const draw = (): void => {
    if (!maps || element.offsetParent === null) return;
    const one = chosenHead();
    canvas.hidden = one === null;
    readout.hidden = one === null;
    words.hidden = one === null;
    grid.hidden = one !== null;
    if (one !== null) {
      geometry = drawHeat(canvas, maps.weights[one] ?? [], maps.tokens, selected, result.clientWidth);
      setText(readout, selected ? describe(maps, one, selected) : "Point at a cell, or focus the map and use the arrow keys");
      fillWords(table, maps, one);
    } else {
      const current = maps;
      fill(
        grid,
        ...current.weights.map((weights, i) => {
          const small = el("canvas", { "aria-hidden": "true" });
          drawHeat(small, weights, null, null, 112);
          const open = (): void => {
            head.value = String(i);
            draw();
            canvas.focus();
          };
          return el("button", { type: "button", onclick: open }, small, `Head ${i + 1}`);
        }),
      );
    }
  };
  const select = (query: number, key: number): void => {
    const last = (maps?.tokens.length ?? 1) - 1;
    selected = [Math.max(0, Math.min(last, query)), Math.max(0, Math.min(last, key))];
    draw();
  };
  canvas.addEventListener("pointermove", (event) => {
    const at = (offset: number): number => Math.floor((offset - geometry.margin) / geometry.cell);
    const [query, key] = [at(event.offsetY), at(event.offsetX)];
    if (query >= 0 && key >= 0 && (query !== selected?.[0] || key !== selected[1])) select(query, key);
  });
  canvas.addEventListener("focus", () => selected ?? select((maps?.tokens.length ?? 1) - 1, 0));
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    select((selected?.[0] ?? 0) + move[0]!, (selected?.[1] ?? 0) + move[1]!);
  });
  head.addEventListener("change", draw);
  const ask = async (): Promise<void> => {
    if (!session.client) return;
    button.disabled = true;
    problem.show(null);
    try {
      maps = await session.client.call("attention", text.value, Number(layer.value));
      selected = null;
      result.hidden = false;
      const before = head.value;
      fill(head, el("option", { value: "all" }, "all"), ...maps.weights.map((_, i) => el("option", { value: i }, String(i + 1))));
      head.value = before !== "" && [...head.options].some((option) => option.value === before) ? before : "0";
      draw();
    } catch (error) {
      problem.show(asProblem(error));
    }
    button.disabled = session.client === null;
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void ask();
  });
  layer.addEventListener("change", () => maps && void ask());

  let shownRun = "";
  store.watch(["run"], () => {
    const { run } = store.state;
    const ready = session.client !== null && run?.info != null;
    button.disabled = !ready;
    empty.hidden = ready || maps !== null;
    if (!run || run.id === shownRun) return;
    shownRun = run.id;
    maps = null;
    result.hidden = true;
    fill(layer, ...Array.from({ length: run.layers }, (_, i) => el("option", { value: i }, String(i + 1))));
    fill(head, el("option", { value: "0" }, "1"));
    text.value = exampleText(store);
  });
  new ResizeObserver(throttled(100, draw)).observe(element);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  const shown = (): void => {
    if (maps === null && session.client && store.state.run?.info && store.state.run.state !== "preparing") void ask();
    else draw();
  };
  return { name: "Attention", element, shown };
}

/** Something that the run knows: an example of its task, or the beginning of its text. */
function exampleText(store: Store): string {
  const { catalogue, run, setup } = store.state;
  const preset = catalogue?.presets.find((known) => known.name === run?.spec.preset);
  const task = catalogue?.tasks.find((known) => known.name === preset?.task);
  return setup.text ? setup.text.beginning.trimEnd().replaceAll("\n", " ") : (task?.example ?? "First Citizen");
}

function describe(maps: AttentionMaps, head: number, [query, key]: [number, number]): string {
  const name = (i: number): string => `“${visible(maps.tokens[i] ?? "")}” (${i + 1})`;
  if (key > query) return `${name(query)} cannot attend to the later ${name(key)}`;
  return `${name(query)} → ${name(key)}: ${percent(maps.weights[head]?.[query]?.[key] ?? 0)}`;
}

function fillWords(table: HTMLElement, maps: AttentionMaps, head: number): void {
  const strongest = (row: number[]): string =>
    row
      .map((weight, key) => ({ weight, key }))
      .sort((a, b) => b.weight - a.weight)
      .slice(0, 3)
      .filter(({ weight }) => weight > 0.005)
      .map(({ weight, key }) => `“${visible(maps.tokens[key] ?? "")}” (${key + 1}) ${percent(weight)}`)
      .join(", ");
  fill(
    table,
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Token"), el("th", { scope: "col" }, "Attends most to"))),
    el("tbody", {}, ...(maps.weights[head] ?? []).map((row, i) => el("tr", {}, el("th", { scope: "row" }, `“${visible(maps.tokens[i] ?? "")}” (${i + 1})`), el("td", {}, strongest(row))))),
  );
}
