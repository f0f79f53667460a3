// The form of all settings, generated from the engine's own list.

import { el, fill } from "../dom";
import type { Store } from "../store";
import { fieldRow, type FieldRow } from "./field";
import { grouped } from "./groups";

/** The groups of settings; a refusal by the engine opens the group of the setting that it names. */
export function fieldsPanel(store: Store): HTMLElement {
  const element = el("div", { class: "groups" });
  let rows: FieldRow[] = [];
  store.watch(["catalogue"], () => {
    rows = [];
    const build = (fields: Parameters<typeof fieldRow>[1][]): HTMLElement[] =>
      fields.map((field) => {
        const row = fieldRow(store, field);
        rows.push(row);
        return row.element;
      });
    const groups = grouped(store.state.catalogue?.fields ?? []).filter(({ common, more }) => common.length + more.length > 0);
    fill(
      element,
      ...groups.map(({ group, common, more }, i) => {
        const shown = common.length > 0 ? common : more;
        const rest = common.length > 0 ? more : [];
        return el(
          "details",
          { class: "group", open: i === 0 && innerWidth > 720 },
          el("summary", {}, el("span", {}, group.title), el("span", { class: "changed-count" })),
          ...build(shown),
          rest.length > 0 && el("details", { class: "more" }, el("summary", {}, "More"), ...build(rest)),
        );
      }),
    );
  });
  store.watch(["setup", "catalogue"], () => {
    for (const row of rows) row.render();
    for (const group of element.querySelectorAll(".group")) {
      const count = group.querySelectorAll(".field.changed").length;
      group.querySelector(".changed-count")!.textContent = count === 0 ? "" : `${count} changed`;
    }
  });
  store.watch(["plan", "catalogue"], () => {
    const { planProblem, planning } = store.state;
    if (planning) return;
    const named = planProblem && namedKey(planProblem.message, rows.map((row) => row.key));
    for (const row of rows) {
      const refusal = row.key === named ? planProblem : null;
      row.refuse(refusal);
      for (let at: Element | null = row.element; refusal && at; at = at.parentElement) if (at instanceof HTMLDetailsElement) at.open = true;
    }
  });
  return element;
}

/** The setting that a refusal is about: messages name it in backticks, after the value. */
export function namedKey(message: string, keys: string[]): string | null {
  const quoted = message.split("`").filter((_, i) => i % 2 === 1);
  const about = /for `([^`]+)`/.exec(message)?.[1];
  if (about && keys.includes(about)) return about;
  return quoted.find((text) => keys.includes(text)) ?? null;
}
