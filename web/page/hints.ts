// Hints of the engine come in parts (`src/error/hint.rs`). Here, what a part names is said as the page's control for it;
// what has none is said as on the command line.

import type { Hint, HintPart, Place, Setting } from "./protocol";
import { isHidden, label } from "./setup/groups";

/** The section of the page where the same is chosen. */
const SECTIONS: Record<Place, string | null> = { data: "Text", device: "Device", resume: "Runs", out: null };

/** A hint in terms of the page's controls; those of the page itself are text. */
export function inPage(hint: Hint | string): string {
  return typeof hint === "string" ? hint : hint.map(said).join("");
}

function said(part: HintPart): string {
  switch (part.kind) {
    case "text":
      return part.text;
    case "key":
      return isHidden(part.key) ? `\`${part.key}\`` : `“${label(part.key)}”`;
    case "settings":
      return part.settings.map((setting) => settingSaid(setting, part.in_file)).join(" and ");
    case "place": {
      const section = SECTIONS[part.place];
      if (section !== null) return part.preposition === null ? `“${section}”` : `under “${section}”`;
      const option = [`--${part.place}`, part.argument].filter(Boolean).join(" ");
      return [part.preposition, `\`${option}\``].filter(Boolean).join(" ");
    }
    case "command":
      return `\`${part.command}\``;
    case "command-line":
      return "";
  }
}

function settingSaid({ key, value, is_placeholder }: Setting, inFile: boolean): string {
  if (isHidden(key)) return `\`${inFile ? "" : "--set "}${key}=${value}\``;
  return is_placeholder ? `“${label(key)}”` : `“${label(key)}” = \`${value}\``;
}
