// One setting: its name, its input, an explanation behind "?", its way back to the preset, and what
// the engine has against its value.

import { el } from "../dom";
import { shown } from "../format";
import { TERM_OF_KEY, TERMS } from "../glossary";
import { FieldProblem, sentence, withCode, type Refusal } from "../problem";
import type { Field } from "../protocol";
import type { Store } from "../store";
import { label } from "./groups";

type Control = HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement;

/** A row of the form. */
export interface FieldRow {
  key: string;
  element: HTMLElement;
  /** Shows the state of the store. */
  render(): void;
  /** Shows or clears a refusal of this setting. */
  refuse(problem: Refusal | null): void;
}

/** Builds the row of a field. */
export function fieldRow(store: Store, field: Field): FieldRow {
  const { key } = field;
  const id = `field-${key}`;
  const name = label(key);
  const control = controlOf(field, id);
  const helpId = `${id}-help`;
  const help = el("div", { id: helpId, class: "field-help", hidden: true }, el("p", {}, ...withCode(sentence(field.help))), explanation(key), el("p", {}, el("code", {}, key)));
  const problem = new FieldProblem(control, `field-problem-${key}`);
  const question = el("button", { type: "button", class: "icon", "aria-expanded": "false", "aria-controls": helpId, "aria-label": `Explain ${name}` }, "?");
  const reset = el("button", { type: "button", class: "icon reset", testid: `reset-${key}`, hidden: true }, "↺");
  const element = el("div", { class: `field ${field.kind}` }, el("label", { for: id }, name), question, control, reset, help, problem.element);

  question.addEventListener("click", () => {
    help.hidden = !help.hidden;
    question.setAttribute("aria-expanded", String(!help.hidden));
  });
  reset.addEventListener("click", () => {
    store.change(["setup"], ({ setup }) => void delete setup.overrides[key]);
    control.focus();
  });
  control.addEventListener(field.kind === "choice" || field.kind === "boolean" ? "change" : "input", () => {
    const text = encoded(field, typed(control));
    store.change(["setup"], ({ setup }) => {
      if (same(field, text, encoded(field, shown(store.presetValue(key))))) delete setup.overrides[key];
      else setup.overrides[key] = text;
    });
  });

  const render = (): void => {
    const changed = store.state.setup.overrides[key];
    const preset = store.presetValue(key);
    const text = changed === undefined ? shown(preset) : read(field, changed);
    // What the visitor is typing is not rewritten under the cursor.
    if (document.activeElement !== control || changed === undefined) put(control, text);
    reset.hidden = changed === undefined;
    element.classList.toggle("changed", changed !== undefined);
    const back = `Reset ${name} to ${shown(preset) || "nothing"}`;
    reset.title = back;
    reset.setAttribute("aria-label", back);
  };
  return { key, element, render, refuse: (refusal) => problem.show(refusal) };
}

function explanation(key: string): HTMLElement | null {
  const name = TERM_OF_KEY[key];
  return name ? el("p", {}, TERMS[name].meaning) : null;
}

function controlOf(field: Field, id: string): Control {
  const common = { id, testid: id, autocomplete: "off" };
  if (field.kind === "boolean") return el("input", { ...common, type: "checkbox" });
  if (field.kind === "list") return el("textarea", { ...common, rows: 2, spellcheck: "false", placeholder: "one per line" });
  if (field.kind === "choice") {
    // A tab has no files, so no tokenizer of one.
    const choices = field.choices.filter((choice) => field.key !== "tokenizer.kind" || choice !== "file");
    return el("select", common, ...choices.map((choice) => el("option", { value: choice }, choice)));
  }
  const inputmode = field.kind === "integer" ? "numeric" : field.kind === "number" ? "decimal" : "text";
  return el("input", { ...common, type: "text", inputmode, spellcheck: "false", placeholder: field.optional ? "none" : "" });
}

function put(control: Control, text: string): void {
  if (control instanceof HTMLInputElement && control.type === "checkbox") {
    control.checked = text === "true";
    return;
  }
  if (control instanceof HTMLSelectElement && ![...control.options].some((option) => option.value === text)) {
    // A value from the address that is no choice: the engine refuses it, and here it can be seen.
    control.append(el("option", { value: text }, text));
  }
  if (control.value !== text) control.value = text;
}

/** A text as the engine reads it in `key=value`: quoted only where it would be taken for something else. */
function encoded(field: Field, text: string): string {
  if (field.kind === "list") return JSON.stringify(text.split("\n").filter((line) => line !== ""));
  if (field.kind === "text") return /^\s*["'[{]|[\n\r\t\\]/.test(text) ? JSON.stringify(text) : text;
  return text.trim();
}

function same(field: Field, text: string, other: string): boolean {
  const numeric = field.kind === "integer" || field.kind === "number";
  return text === other || (numeric && text !== "" && other !== "" && Number(text) === Number(other) && Number.isSafeInteger(Math.trunc(Number(text))));
}

function typed(control: Control): string {
  return control instanceof HTMLInputElement && control.type === "checkbox" ? String(control.checked) : control.value;
}

/** The reverse of `encoded`, for what may come from an address. */
function read(field: Field, text: string): string {
  if (field.kind !== "list" && !(field.kind === "text" && text.startsWith('"'))) return text;
  try {
    return shown(JSON.parse(text));
  } catch {
    return text;
  }
}
