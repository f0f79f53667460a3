// Downloads of packages with the tools of their registries, for the scripts beside it.

import { execFileSync } from "node:child_process";

/** A mistake or a missing tool, said in one line and a hint, without a stack. */
export class Refused extends Error {
  constructor(message, hint) {
    super(message);
    this.hint = hint;
  }
}

/** Runs a command in a folder and gives what it prints; `hint` says what it needs. */
export function execute(cwd, command, commandArguments, hint) {
  const options = { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], shell: process.platform === "win32" };
  try {
    return execFileSync(command, commandArguments, options);
  } catch (error) {
    const reason = error.code === "ENOENT" ? "it is not installed" : (error.stderr || error.message).trim();
    throw new Refused(`\`${[command, ...commandArguments].join(" ")}\` failed: ${reason}`, hint);
  }
}

/** Runs `main` with a script's arguments, and says what it refuses. */
export function run(main, words) {
  try {
    main(words);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    console.error(`error: ${error.message}\n  hint: ${error.hint}`);
    process.exitCode = 1;
  }
}
