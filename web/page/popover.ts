// A word that explains itself: a button that opens one small popover beside it. The browser's own
// popover gives Escape, the click outside, and the way back of the focus.

import { el, fill } from "./dom";
import { TERMS, type TermName } from "./glossary";

let shared: HTMLElement | null = null;

/** A button with the term's name, or with `text`, that explains the term. */
export function term(name: TermName, text?: string): HTMLButtonElement {
  const button = el("button", { type: "button", class: "term", "aria-haspopup": "dialog" }, text ?? TERMS[name].name);
  button.addEventListener("click", () => explain(name, button));
  return button;
}

function explain(name: TermName, anchor: HTMLElement): void {
  shared ??= document.body.appendChild(
    el("div", { class: "popover", popover: "auto", role: "dialog", tabindex: -1, "aria-labelledby": "popover-title" }),
  );
  const { name: title, meaning } = TERMS[name];
  fill(shared, el("h2", { id: "popover-title" }, title), el("p", {}, meaning));
  shared.hidePopover?.();
  shared.showPopover?.();
  const at = anchor.getBoundingClientRect();
  const size = shared.getBoundingClientRect();
  const below = at.bottom + 8 + size.height <= innerHeight;
  shared.style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 8))}px`;
  shared.style.top = `${Math.max(8, below ? at.bottom + 8 : at.top - size.height - 8)}px`;
  shared.focus({ preventScroll: true });
}
