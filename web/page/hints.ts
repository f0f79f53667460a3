// The engine's hints are written for the command line. Here, what an option names has a control.

import { isHidden, label } from "./setup/groups";

/** The part of the page that an option stands for; options without one stay as they are. */
const PLACES: Record<string, string> = {
  "--data": "Text",
  "--device": "Device",
  "--resume": "Runs",
};

/** What the page cannot do: it goes on from the newest checkpoint only. */
const ABSENT = /(; )?`--resume best`[^;]*/;
/** For example "with `--device`"; of the option's own value the page has no use. */
const OPTION = /(\b(?:with|through) )?`(--[a-z-]+)[^`]*`/g;
/** For example `--set data.layout=stream`, with or without the option. */
const SETTING = /`(?:--set )?([a-z]+\.[a-z0-9_]+)=([^`\s]*)`/g;
/** Stands for a value that is the visitor's to choose: N, FILE. */
const PLACEHOLDER = /^[A-Z]+$/;

/** A hint in terms of the page's controls. */
export function inPage(hint: string): string {
  return hint
    .replace(ABSENT, "")
    .replace(OPTION, (whole, by: string | undefined, option: string) => (PLACES[option] ? `${by ? "under " : ""}“${PLACES[option]}”` : whole))
    .replace(SETTING, (whole, key: string, value: string) => {
      if (isHidden(key)) return whole;
      return PLACEHOLDER.test(value) ? `“${label(key)}”` : `“${label(key)}” = \`${value}\``;
    });
}
