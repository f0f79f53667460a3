// A problem as people read it: what happened, and what to do about it.

import { el, fill, type Child } from "./dom";
import { inPage } from "./hints";
import type { Problem } from "./protocol";

/** A problem, and what to do about it. */
export type Refusal = Pick<Problem, "message" | "hint">;

/** Text in which what stands between backticks is set as code. */
export function withCode(text: string): Child[] {
  return text.split("`").map((part, i) => (i % 2 === 1 ? el("code", {}, part) : part));
}

/** A box for one kind of problem; hidden while there is none. It is announced when it appears. */
export class ProblemBox {
  readonly element: HTMLElement;
  private shownText = "";

  /** `about` says what the box is for, as `data-about`. */
  constructor(about: string, private readonly kind: "problem" | "note" = "problem") {
    this.element = el("div", { class: `notice ${kind}`, role: kind === "problem" ? "alert" : "status", "data-about": about, hidden: true });
  }

  /** Shows a problem with buttons, or nothing. */
  show(problem: Refusal | null, ...actions: Child[]): void {
    const hint = inPage(problem?.hint ?? "");
    const text = problem ? `${problem.message}\n${hint}\n${actions.length}` : "";
    this.element.hidden = problem === null;
    // Tests look for problems that are shown, wherever they are.
    if (problem) this.element.dataset.testid = this.kind;
    else delete this.element.dataset.testid;
    if (text === this.shownText) return;
    this.shownText = text;
    if (!problem) return fill(this.element);
    const buttons = actions.filter(Boolean);
    fill(
      this.element,
      el("p", { class: "notice-message" }, ...withCode(sentence(problem.message))),
      hint && el("p", { class: "notice-hint", testid: `${this.kind}-hint` }, ...withCode(sentence(hint))),
      buttons.length > 0 && el("div", { class: "actions" }, ...buttons),
    );
  }
}

/** Problem of the value of a control, shown beside it. */
export class FieldProblem {
  readonly element: HTMLElement;

  constructor(private readonly control: HTMLElement, testid: string) {
    this.element = el("p", { id: `${control.id}-problem`, class: "field-problem", testid, hidden: true });
  }

  /** Shows a refusal, or nothing. */
  show(refusal: Refusal | null): void {
    this.element.hidden = refusal === null;
    fill(this.element, ...(refusal ? withCode([refusal.message, inPage(refusal.hint ?? "")].filter(Boolean).map(sentence).join(" ")) : []));
    if (refusal) {
      this.control.setAttribute("aria-invalid", "true");
      this.control.setAttribute("aria-describedby", this.element.id);
    } else {
      this.control.removeAttribute("aria-invalid");
      this.control.removeAttribute("aria-describedby");
    }
  }
}

/** The engine's messages begin small and end without a full stop, as a terminal wants them. */
export function sentence(text: string): string {
  const trimmed = text.trim();
  const ended = /[.!?:]$/.test(trimmed) ? trimmed : `${trimmed}.`;
  return ended.charAt(0).toUpperCase() + ended.slice(1);
}
