// The runs in the browser's storage: open, compare, rename, delete; checkpoints down and up.

import { asProblem, type Client } from "../client";
import { el, fill, setText } from "../dom";
import { bytes, measure, moment, whole } from "../format";
import { History } from "../history";
import { term } from "../popover";
import { ProblemBox } from "../problem";
import type { StoredRun } from "../protocol";
import { downloadCheckpoint, saveCheckpoint, uploadedFiles } from "../checkpoint-files";
import { setUpLike, type Session } from "../session";
import { refusedName } from "../specs";
import type { Store } from "../store";
import { namedText } from "../text";
import { Comparison, MOST_COMPARED, runColor } from "./compare";
import { asked, confirmed } from "./dialog";
import type { Tab } from "./tabs";

/** The runs tab. */
export function runsTab(store: Store, session: Session, planner: Client): Tab {
  const problem = new ProblemBox("runs");
  const list = el("ul", { class: "plain stack", testid: "runs-list" });
  const empty = el("p", { class: "hint" }, "Runs are saved in this browser as they train, and can be gone on with after a reload.");
  const comparison = new Comparison();
  const chosen: string[] = [];
  const histories = new Map<string, { saved: number; history: History }>();

  const attempt = async (work: () => Promise<unknown>): Promise<void> => {
    problem.show(null);
    try {
      await work();
    } catch (error) {
      problem.show(asProblem(error));
    }
  };
  const compare = async (): Promise<void> => {
    const runs = chosen.flatMap((id) => store.state.runs.find((run) => run.id === id) ?? []);
    const compared = await Promise.all(runs.map(async (run) => ({ run, history: await historyOf(run) })));
    if (store.state.catalogue) comparison.show(compared, store.state.catalogue);
  };
  const historyOf = async (run: StoredRun): Promise<History> => {
    if (store.state.run?.id === run.id) return store.state.run.history;
    const known = histories.get(run.id);
    if (known && known.saved === run.saved_at) return known.history;
    const history = new History();
    for (const event of (await planner.call("read_run", run.id)).events) history.add(event);
    histories.set(run.id, { saved: run.saved_at, history });
    return history;
  };
  const open = async (run: StoredRun): Promise<void> => {
    if (store.busy && store.state.run?.state !== "paused" && !(await confirmed("Another run is training. Stop it and open this one?", "Stop and open"))) return;
    if (store.state.run?.state === "running") await session.stop();
    const { text } = await planner.call("read_run", run.id);
    setUpLike(store, run, text && namedText(run.text_name ?? "text", await text.text()));
    await session.open(run);
  };
  const remove = async (run: StoredRun): Promise<void> => {
    if (!(await confirmed(`Delete “${run.name}” for good?`, "Delete"))) return;
    if (store.state.run?.id === run.id) session.clear();
    await planner.call("delete_run", run.id);
    await session.refreshRuns();
  };
  const rename = async (run: StoredRun): Promise<void> => {
    const name = await asked("Name of the run", run.name, "Rename", (text) => (text === run.name ? null : refusedName(text)));
    // The list may have been drawn anew behind the dialog.
    focusOn(run.id, "rename-run");
    if (name === null || name === run.name) return;
    await session.rename(run.id, name);
    await compare();
  };
  const item = (run: StoredRun): HTMLElement => {
    const here = store.state.run?.id === run.id && session.client !== null;
    const at = chosen.indexOf(run.id);
    const box = el("input", { type: "checkbox", id: `compare-${run.id}`, checked: at >= 0, disabled: at < 0 && chosen.length >= MOST_COMPARED, testid: "compare" });
    box.addEventListener("change", () => {
      if (box.checked) chosen.push(run.id);
      else chosen.splice(chosen.indexOf(run.id), 1);
      render();
      document.getElementById(box.id)?.focus();
      void attempt(compare);
    });
    const facts = [`step ${whole(run.step)} of ${whole(run.last_step)}`, run.val_loss === null ? `loss ${measure(run.loss)}` : `validation loss ${measure(run.val_loss)}`, bytes(run.bytes), moment(run.saved_at)];
    return el(
      "li",
      { class: "run-item", testid: "run-item", "data-id": run.id },
      el("div", { class: "run-name" }, el("h3", {}, run.name), here && el("span", { class: "badge" }, "on the page")),
      el("p", { class: "hint" }, facts.join(" · ")),
      el(
        "div",
        { class: "actions" },
        el("button", { type: "button", testid: "open-run", disabled: here, onclick: () => void attempt(() => open(run)), "aria-label": `Open ${run.name}` }, "Open"),
        el("button", { type: "button", testid: "download-run", onclick: () => void attempt(async () => saveCheckpoint((await planner.call("read_run", run.id)).files, run.name, run.step)), "aria-label": `Download ${run.name}` }, "Download"),
        el("button", { type: "button", testid: "rename-run", disabled: here && store.state.run?.state === "preparing", onclick: () => void attempt(() => rename(run)), "aria-label": `Rename ${run.name}` }, "Rename"),
        el("button", { type: "button", testid: "delete-run", onclick: () => void attempt(() => remove(run)), "aria-label": `Delete ${run.name}` }, "Delete"),
        el("span", { class: "check" }, box, el("label", { for: box.id }, "Compare", at >= 0 && el("i", { class: "swatch", style: `background: var(${runColor(at)})` }))),
      ),
    );
  };
  const focusOn = (id: string, testid: string): void => list.querySelector<HTMLElement>(`[data-id="${CSS.escape(id)}"] [data-testid="${testid}"]`)?.focus();
  const render = (): void => {
    const { runs } = store.state;
    empty.hidden = runs.length > 0;
    for (const id of chosen.filter((known) => !runs.some((run) => run.id === known))) chosen.splice(chosen.indexOf(id), 1);
    const focused = document.activeElement instanceof HTMLElement && list.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && ([focused.closest("li")?.dataset.id ?? "", focused.dataset.testid ?? ""] as const);
    fill(list, ...runs.map(item));
    if (place) focusOn(...place);
  };
  const shown = (): void => {
    render();
    void session.refreshRuns();
    void attempt(compare);
  };
  const element = el("div", { class: "stack" }, files(store, session, attempt), problem.element, el("h2", {}, "In this browser"), empty, list, comparison.element);
  store.watch(["runs", "run"], () => {
    if (element.offsetParent !== null) render();
  });
  return { name: "Runs", element, shown };
}

function files(store: Store, session: Session, attempt: (work: () => Promise<unknown>) => Promise<void>): HTMLElement {
  const download = el("button", { type: "button", testid: "download" }, "Download checkpoint");
  download.addEventListener("click", () => void attempt(() => downloadCheckpoint(store, session)));
  const upload = el("input", { type: "file", id: "upload", testid: "upload", multiple: true });
  const status = el("span", { class: "hint", role: "status" });
  upload.addEventListener("change", () => {
    const chosen = [...(upload.files ?? [])];
    upload.value = "";
    if (chosen.length === 0) return;
    setText(status, "Reading…");
    void attempt(async () => {
      const { name, files: found } = await uploadedFiles(chosen);
      await session.load(name, found);
    }).then(() => setText(status, ""));
  });
  store.watch(["run"], () => {
    download.disabled = !store.state.run || (session.client === null && store.state.run.savedStep === null) || store.state.run.state === "preparing";
  });
  return el(
    "div",
    { class: "stack" },
    el("p", { class: "hint" }, "A ", term("checkpoint"), " is in the desktop program's format: unpack it there and go on with ", el("code", {}, "kiln train --resume"), ", or bring one from there."),
    el("div", { class: "actions" }, download, status),
    el("label", { for: "upload" }, "Upload a checkpoint: its zip file, or all of its files at once"),
    upload,
  );
}
