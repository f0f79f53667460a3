// Tabs with the usual keys: arrows move, Home and End jump. A panel hears when it is shown.

import { el } from "../dom";

/** One tab. */
export interface Tab {
  name: string;
  element: HTMLElement;
  /** Called whenever the tab comes into view. */
  shown?(): void;
}

/** The tab bar with its panels. */
export class Tabs {
  readonly element: HTMLElement;
  private readonly buttons: HTMLButtonElement[];
  private readonly panels: HTMLElement[];

  constructor(private readonly tabs: Tab[]) {
    this.buttons = tabs.map(({ name }, i) => {
      const id = name.toLowerCase();
      return el("button", { type: "button", role: "tab", id: `tab-${id}`, testid: `tab-${id}`, "aria-controls": `panel-${id}`, onclick: () => this.select(i) }, name);
    });
    this.panels = tabs.map(({ name, element }) => {
      const id = name.toLowerCase();
      return el("div", { role: "tabpanel", id: `panel-${id}`, "aria-labelledby": `tab-${id}`, tabindex: 0, class: "panel" }, element);
    });
    const list = el("div", { role: "tablist", "aria-label": "Views", class: "tabs" }, ...this.buttons);
    list.addEventListener("keydown", (event) => this.key(event));
    this.element = el("div", { class: "tabbed" }, list, ...this.panels);
    this.select(0);
  }

  /** Shows the tab of that name. */
  open(name: string): void {
    const i = this.tabs.findIndex((tab) => tab.name === name);
    this.select(Math.max(0, i));
    this.buttons[i]?.focus();
  }

  /** Whether the tab of that name is in view. */
  isOpen(name: string): boolean {
    return this.panels[this.tabs.findIndex((tab) => tab.name === name)]?.hidden === false;
  }

  private select(chosen: number): void {
    this.buttons.forEach((button, i) => {
      button.setAttribute("aria-selected", String(i === chosen));
      button.tabIndex = i === chosen ? 0 : -1;
    });
    this.panels.forEach((panel, i) => (panel.hidden = i !== chosen));
    this.tabs[chosen]?.shown?.();
  }

  private key(event: KeyboardEvent): void {
    const count = this.buttons.length;
    const now = this.buttons.findIndex((button) => button.tabIndex === 0);
    const next = { ArrowRight: (now + 1) % count, ArrowLeft: (now + count - 1) % count, Home: 0, End: count - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.select(next);
    this.buttons[next]?.focus();
  }
}
