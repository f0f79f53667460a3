// Questions that have to be answered before anything else: whether to lose something, and a name.

import { el, type Child } from "../dom";
import { FieldProblem, type Refusal } from "../problem";

/** Asks; resolves with whether the answer was yes. */
export function confirmed(question: string, yes: string): Promise<boolean> {
  const accept = el("button", { type: "submit", value: YES, class: "danger", testid: "confirm" }, yes);
  return answered(modal(accept, el("p", { id: TITLE }, question)));
}

/** Asks for a text; resolves with it, trimmed, or with null if there is to be none. */
export async function asked(title: string, before: string, yes: string, refuse: (text: string) => Refusal | null): Promise<string | null> {
  const input = el("input", { id: "dialog-text", type: "text", testid: "dialog-text", value: before, autocomplete: "off", autofocus: true });
  const problem = new FieldProblem(input, "dialog-problem");
  const accept = el("button", { type: "submit", value: YES, class: "primary", testid: "confirm" }, yes);
  const dialog = modal(accept, el("label", { id: TITLE, for: input.id }, title), input, el("div", { role: "alert" }, problem.element));
  dialog.addEventListener("submit", (event) => {
    const refusal = event.submitter === accept ? refuse(input.value.trim()) : null;
    if (!refusal) return;
    event.preventDefault();
    problem.show(refusal);
    input.focus();
  });
  input.select();
  return (await answered(dialog)) ? input.value.trim() : null;
}

const TITLE = "dialog-title";
const YES = "yes";

/** Opens a dialog that can be left without an answer. That is where the focus is, unless there is something to write. */
function modal(accept: HTMLButtonElement, ...children: Child[]): HTMLDialogElement {
  const refuse = el("button", { type: "submit", value: "no", testid: "cancel", autofocus: true }, "Cancel");
  const dialog = el("dialog", { "aria-labelledby": TITLE }, el("form", { method: "dialog" }, ...children, el("div", { class: "actions" }, accept, refuse)));
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

function answered(dialog: HTMLDialogElement): Promise<boolean> {
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === YES);
    });
  });
}
