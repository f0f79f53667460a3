// Trains models stage by stage with the commands of kiln, for the scripts beside it: a line a stage, and a table over
// seeds.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { Refused } from "./packages.mjs";

/** Arguments of a script: OUT [--seeds N] [--kiln PROGRAM] [--quick]. */
export function options(words, usage) {
  const found = { out: undefined, seeds: 3, kiln: "kiln", quick: false };
  for (let i = 0; i < words.length; i++) {
    if (words[i] === "--quick") found.quick = true;
    else if (words[i] === "--kiln") found.kiln = words[++i];
    else if (words[i] === "--seeds") found.seeds = Number(words[++i]);
    else if (words[i].startsWith("--") || found.out) throw new Refused(`unknown argument \`${words[i]}\``, usage);
    else found.out = words[i];
  }
  if (!found.out) throw new Refused("no folder is named", usage);
  if (!(Number.isInteger(found.seeds) && found.seeds > 0)) throw new Refused("--seeds takes a whole number", usage);
  if (!found.kiln) throw new Refused("--kiln takes a program", usage);
  if (existsSync(found.out)) throw new Refused(`\`${found.out}\` is there already`, "name a new folder");
  return found;
}

/** Numbers in [0, 1) that depend on the seed alone (mulberry32). */
export function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The folder of a seed, in which its stages run one after the other. */
export class Stages {
  constructor({ out, seeds, kiln, quick }, seed) {
    Object.assign(this, { kiln, quick, seed, folder: join(out, `seed-${seed}`) });
    try {
      mkdirSync(this.folder, { recursive: true });
    } catch (error) {
      throw new Refused(`cannot make the folder \`${this.folder}\`: ${error.message}`, "choose a writable folder");
    }
    console.log(`seed ${seed} of ${seeds}`);
  }

  /** Path in the folder, as a configuration writes it. */
  at(name) {
    return join(this.folder, name).replaceAll("\\", "/");
  }

  /** Writes records as JSON lines, and gives their path. */
  write(name, records) {
    writeFileSync(this.at(name), records.map((record) => `${JSON.stringify(record)}\n`).join(""));
    return this.at(name);
  }

  /** Runs a stage, and says how long it took and what `body` gives: a text and a result. */
  stage(name, body) {
    const start = Date.now();
    process.stdout.write(`  ${name.padEnd(22)}`);
    try {
      const [said, result] = body();
      console.log(`${((Date.now() - start) / 1000).toFixed(0).padStart(5)} s  ${said}`);
      return result;
    } catch (error) {
      process.stdout.write("\n");
      throw error;
    }
  }

  /** Runs a command of kiln and gives what it prints. */
  call(words) {
    try {
      const options = { encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "pipe"] };
      return execFileSync(this.kiln, [...words, "--device", "cpu"], options);
    } catch (error) {
      if (error.code === "ENOENT") throw new Refused(`\`${this.kiln}\` is no program`, "name it with --kiln PROGRAM");
      throw new Refused(`\`kiln ${words.join(" ")}\` failed`, (error.stderr || error.message).trim());
    }
  }

  /** JSON lines that a command of kiln prints. */
  lines(words) {
    return this.call([...words, "--json"]).trim().split("\n").map((line) => JSON.parse(line));
  }

  /** What `kiln eval` finds. */
  evaluate(words) {
    return JSON.parse(this.call(["eval", ...words, "--json"]));
  }

  /** Trains a model, and gives its folder. */
  train(name, words, steps, settings) {
    const all = [...settings, `train.max_steps=${this.quick ? 4 : steps}`, `train.seed=${this.seed}`];
    const shown = all.flatMap((setting) => ["--set", setting]);
    this.call(["train", "--quiet", ...words, "--out", this.at(name), ...shown]);
    return this.at(name);
  }

  /** Events of one type in the log of a run. */
  events(run, wanted) {
    const events = readFileSync(join(run, "log.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line));
    return events.filter(({ type }) => type === wanted);
  }
}

export const mean = (numbers) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;

/** Mean and range of a figure over seeds. */
export function spread(numbers, digits) {
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const text = mean(numbers).toFixed(digits);
  return numbers.length > 1 ? `${text} (${low.toFixed(digits)} to ${high.toFixed(digits)})` : text;
}

/** Prints rows of texts in columns, the first of them the head. */
export function table(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  for (const row of rows) {
    console.log(`  ${row.map((text, column) => (text ?? "").padEnd(widths[column])).join("  ")}`.trimEnd());
  }
}
