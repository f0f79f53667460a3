// Bad input: each is refused with a message that says what and why, and the page stays usable.

import { type Page, expect, test } from "@playwright/test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { inPage } from "../page/hints";
import type { HintPart, Place } from "../page/protocol";
import { TINY, open, reaches, temporaryFolder } from "./page";

async function file(page: Page, name: string, bytes: Buffer): Promise<void> {
  const path = join(temporaryFolder(), name);
  writeFileSync(path, bytes);
  await page.getByRole("radio", { name: "File" }).check();
  await page.getByTestId("source-text").setInputFiles(path);
}

async function stillTrains(page: Page): Promise<void> {
  await open(page, [...TINY, "train.max_steps=3"]);
  await page.getByTestId("start").click();
  await reaches(page, "finished");
}

test("text that is empty, short, binary or too large", async ({ page }) => {
  await open(page, TINY);
  const problem = page.getByTestId("problem");
  await file(page, "empty.txt", Buffer.alloc(0));
  await expect(problem.first()).toContainText(/empty/i);
  await file(page, "short.txt", Buffer.from("abc"));
  await expect(problem.filter({ hasText: /split has \d+ tokens|one block needs/ }).first()).toBeVisible();
  await file(page, "image.png", Buffer.from([0x89, 0x50, 0x4e, 0x47, 0, 0, 0, 0xff]));
  await expect(problem.filter({ hasText: /binary|not (a )?text/i }).first()).toBeVisible();
  await file(page, "latin1.txt", Buffer.from("caf\xe9 ".repeat(100), "latin1"));
  await expect(problem.filter({ hasText: /UTF-8/ }).first()).toBeVisible();
  await file(page, "large.txt", Buffer.alloc(201_000_000, "x"));
  await expect(problem.filter({ hasText: /200 MB/ }).first()).toBeVisible();
  await stillTrains(page);
});

test("hints name the page's controls, not options of the command", async ({ page }) => {
  const choose = (key: string, value: string, isPlaceholder = false): HintPart => ({ kind: "settings", in_file: false, settings: [{ key, value, is_placeholder: isPlaceholder }] });
  const place = (place: Place, preposition: string | null, argument: string | null = null): HintPart => ({ kind: "place", place, argument, preposition });
  for (const [engine, shown] of [
    [["try again, or another device ", place("device", "with")], "try again, or another device under “Device”"],
    [["name files with text ", place("data", "through")], "name files with text under “Text”"],
    [[place("data", null), " takes text files"], "“Text” takes text files"],
    [["take another checkpoint of the run, for example ", place("resume", "with", "DIR")], "take another checkpoint of the run, for example under “Runs”"],
    [["raise ", { kind: "key", key: "train.warmup_steps" }, { kind: "command-line", parts: [{ kind: "text", text: "; " }, { kind: "command", command: "--resume best" }] }], "raise “Warmup steps”"],
    [["a tenth is usual: ", choose("train.min_lr", "0.0001")], "a tenth is usual: “Lowest learning rate” = `0.0001`"],
    [["go on with ", { kind: "settings", in_file: true, settings: [{ key: "train.stop_after", value: "0", is_placeholder: false }] }], "go on with “Stop after” = `0`"],
    [["a smaller ", choose("model.block_size", "N", true), ", or another ", choose("data.val_fraction", "F", true)], "a smaller “Context”, or another “Validation share”"],
    [["(", choose("tokenizer.kind", "byte"), " or `bpe`)"], "(“Tokens are” = `byte` or `bpe`)"],
    [[{ kind: "command", command: "kiln devices" }, " lists them"], "`kiln devices` lists them"],
    // A tab has neither of these.
    [["name a `tokenizer.json` with ", choose("tokenizer.path", "FILE", true)], "name a `tokenizer.json` with `--set tokenizer.path=FILE`"],
    [["choose a writable folder ", place("out", "with")], "choose a writable folder with `--out`"],
  ] satisfies [(string | HintPart)[], string][]) {
    expect(inPage(engine.map((part) => (typeof part === "string" ? { kind: "text", text: part } : part)))).toBe(shown);
  }
  await open(page, ["train.learning_rate=0.001", "train.min_lr=0.01"]);
  await expect(page.getByTestId("problem-hint").first()).toHaveText(/“Lowest learning rate” = 0\.0001/);
  await expect(page.getByTestId("field-problem-train.min_lr")).toHaveText(/“Lowest learning rate” = 0\.0001/);
});

test("a checkpoint that is damaged or of something else", async ({ page }) => {
  await open(page, TINY);
  await page.getByTestId("tab-runs").click();
  const problem = page.getByTestId("problem");
  const upload = async (name: string, bytes: Buffer): Promise<void> => {
    const path = join(temporaryFolder(), name);
    writeFileSync(path, bytes);
    await page.getByTestId("upload").setInputFiles(path);
  };
  await upload("noise.zip", Buffer.from("this is no zip file, whatever its name says"));
  await expect(problem.first()).toBeVisible();
  await upload("config.json", Buffer.from(JSON.stringify({ model_type: "gpt2", n_embd: 1e12 })));
  await expect(problem.filter({ hasText: /manifest|missing/ }).first()).toBeVisible();
  await stillTrains(page);
});

test("a model that the device cannot hold", async ({ page }) => {
  await open(page, [...TINY, "model.n_embd=16384", "model.n_layer=64", "model.n_head=16"]);
  await page.getByTestId("start").click();
  await expect(page.getByTestId("problem").filter({ hasText: /MiB/ }).first()).toBeVisible();
  await open(page, [...TINY, "model.block_size=8192", "train.batch_size=64"], "webgpu");
  await page.getByTestId("start").click();
  await expect(page.getByTestId("problem").filter({ hasText: /MiB|block_size/ }).first()).toBeVisible();
  await stillTrains(page);
});

test("a loss that is not finite ends the run, not the page", async ({ page }) => {
  await open(page, ["train.max_steps=200", "train.log_interval=1", "train.learning_rate=1e30", "train.warmup_steps=0", "train.grad_clip=0", "train.eval_interval=0"]);
  await page.getByTestId("start").click();
  await expect(page.getByTestId("problem").filter({ hasText: /the loss became|NaN|inf/ }).first()).toBeVisible();
  await stillTrains(page);
});
