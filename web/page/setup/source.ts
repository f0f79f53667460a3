// The text to train on: what the preset brings, pasted, from a file, or from an address.

import { asProblem } from "../client";
import { el, fill, setText } from "../dom";
import { short, whole } from "../format";
import { ProblemBox, sentence } from "../problem";
import type { Store } from "../store";
import { fileText, pastedText, urlText, type NamedText } from "../text";

const WAYS = { builtin: "Built in", paste: "Paste", file: "File", url: "Address" } as const;
type Way = keyof typeof WAYS;

/** The choice of the text. Nothing changes until a text has been read and found good. */
export function sourcePanel(store: Store): HTMLElement {
  const problem = new ProblemBox("text");
  const inUse = el("p", { class: "in-use", testid: "text-in-use", "aria-live": "polite" });
  let way: Way = "builtin";

  const take = async (read: () => NamedText | Promise<NamedText>): Promise<void> => {
    problem.show(null);
    try {
      const text = await read();
      store.change(["setup"], ({ setup }) => void (setup.text = text));
    } catch (error) {
      problem.show(asProblem(error));
    }
  };
  const parts: Record<Way, HTMLElement> = {
    builtin: builtin(store),
    paste: paste(take),
    file: file(take),
    url: address(take),
  };
  const radios = (Object.keys(WAYS) as Way[]).map((name) => {
    const radio = el("input", { type: "radio", name: "source", value: name, id: `source-${name}`, testid: `source-${name}`, checked: name === way });
    radio.addEventListener("change", () => {
      way = name;
      problem.show(null);
      if (name === "builtin") store.change(["setup"], ({ setup }) => void (setup.text = null));
      render();
    });
    return radio;
  });
  const render = (): void => {
    for (const name of Object.keys(parts) as Way[]) parts[name].hidden = name !== way;
    radios.forEach((radio) => (radio.checked = radio.value === way));
    const { text } = store.state.setup;
    inUse.hidden = way === "builtin" && text === null;
    setText(inUse, text ? `In use: ${text.name}, ${short(text.characters)} characters` : "In use: the built-in text, until you give another");
  };
  store.watch(["setup"], () => {
    // A run that was opened again brings its text along.
    if (store.state.setup.text && way === "builtin") way = "paste";
    render();
  });
  dropAnywhere((dropped) => {
    way = "file";
    render();
    void take(() => fileText(dropped));
  });
  return el(
    "fieldset",
    { class: "stack", testid: "text-source" },
    el("legend", { class: "title" }, "Text"),
    el("div", { class: "segments" }, ...radios.map((radio) => el("span", {}, radio, el("label", { for: radio.id }, WAYS[radio.value as Way])))),
    ...Object.values(parts),
    problem.element,
    inUse,
  );
}

function builtin(store: Store): HTMLElement {
  const element = el("div", { class: "hint" });
  store.watch(["setup", "catalogue"], () => {
    const task = store.state.catalogue?.tasks.find((known) => known.name === store.preset?.task);
    if (task) fill(element, el("p", {}, sentence(task.description)), el("p", {}, "For example ", el("code", {}, task.example)));
    else fill(element, el("p", {}, "The works of Shakespeare that come with Kiln, about a million characters."));
  });
  return element;
}

type Take = (read: () => NamedText | Promise<NamedText>) => Promise<void>;

function paste(take: Take): HTMLElement {
  const area = el("textarea", { id: "paste", rows: 6, testid: "paste-text", spellcheck: "false" });
  const button = el("button", { type: "button", testid: "use-text", onclick: () => void take(() => pastedText(area.value)) }, "Use this text");
  const count = el("span", { class: "hint" });
  area.addEventListener("input", () => setText(count, `${whole(area.value.length)} characters`));
  return el("div", { class: "stack" }, el("label", { for: "paste" }, "Your text"), area, el("div", { class: "actions" }, button, count));
}

function file(take: Take): HTMLElement {
  const input = el("input", { type: "file", id: "text-file", testid: "source-text" });
  input.addEventListener("change", () => {
    const chosen = input.files?.[0];
    if (chosen) void take(() => fileText(chosen));
    // So that the same file can be chosen again after it was corrected.
    input.value = "";
  });
  return el("div", { class: "stack" }, el("label", { for: "text-file" }, "A text file; it can also be dropped anywhere on the page"), input);
}

function address(take: Take): HTMLElement {
  const input = el("input", { type: "url", id: "text-url", testid: "text-url", placeholder: "https://", autocomplete: "off" });
  const button = el("button", { type: "submit", testid: "fetch-text" }, "Fetch");
  const form = el("form", { class: "stack", novalidate: true }, el("label", { for: "text-url" }, "Address of a plain text"), el("div", { class: "actions" }, input, button));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    setText(button, "Fetching…");
    await take(() => urlText(input.value));
    button.disabled = false;
    setText(button, "Fetch");
  });
  return form;
}

function dropAnywhere(take: (file: File) => void): void {
  const carriesFile = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
  addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) document.body.classList.remove("dropping");
  });
  addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!carriesFile(event)) return;
    event.preventDefault();
    const dropped = event.dataTransfer?.files[0];
    if (dropped) take(dropped);
  });
}
