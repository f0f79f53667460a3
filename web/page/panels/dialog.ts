// A question that has to be answered before something is lost.

import { el } from "../dom";

/** Asks; resolves with whether the answer was yes. */
export function confirmed(question: string, yes: string): Promise<boolean> {
  const accept = el("button", { type: "submit", value: "yes", class: "danger", testid: "confirm" }, yes);
  const refuse = el("button", { type: "submit", value: "no", testid: "cancel", autofocus: true }, "Cancel");
  const dialog = el("dialog", { "aria-labelledby": "dialog-question" }, el("form", { method: "dialog" }, el("p", { id: "dialog-question" }, question), el("div", { class: "actions" }, accept, refuse)));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}
