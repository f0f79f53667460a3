// Ways to run the same elsewhere: a link to this page, and the command of the desktop program.

import { el, setText } from "../dom";
import type { Store } from "../store";
import { toHash } from "../url";

/** The command box and the link. */
export function sharePanel(store: Store): HTMLElement {
  const command = el("code", { testid: "command" });
  const box = el("div", { class: "copy-box", role: "region", tabindex: 0, "aria-label": "Desktop command" }, command);
  const note = el("p", { class: "hint" }, "The link and the command do not carry your own text.");
  const copyCommand = copyButton("Copy command", () => command.textContent ?? "");
  const copyLink = copyButton("Copy link", () => new URL(toHash(store.state.setup), location.href).href);
  copyLink.dataset.testid = "link";
  store.watch(["plan"], () => {
    const { plan } = store.state;
    setText(command, plan?.command ?? "");
    box.hidden = plan === null;
    copyCommand.hidden = plan === null;
  });
  store.watch(["setup"], () => {
    note.hidden = store.state.setup.text === null;
    copyLink.dataset.link = toHash(store.state.setup);
  });
  return el("section", { class: "stack", "aria-label": "The same run elsewhere" }, el("h3", { class: "title" }, "The same run on a desktop"), box, el("div", { class: "actions" }, copyCommand, copyLink), note);
}

/** A button that copies and says so for a moment. */
function copyButton(name: string, text: () => string): HTMLButtonElement {
  const button = el("button", { type: "button", "aria-live": "polite" }, name);
  button.addEventListener("click", async () => {
    const done = await navigator.clipboard.writeText(text()).then(
      () => true,
      () => false,
    );
    setText(button, done ? "Copied" : "Copying is not allowed here");
    setTimeout(() => setText(button, name), 1500);
  });
  return button;
}
