// RLHF from end to end on a small model, in minutes on two cores: pretraining, instruction tuning, a reward model, PPO
// against it, GRPO with a rule, and DPO on the pairs of the reward model beside them. The task is to add two numbers,
// so that every answer can be verified.
//
//     node examples/rlhf.mjs OUT [--seeds N] [--kiln PROGRAM] [--quick]
//
// writes data and runs to OUT, and prints for each seed how many sums of a held-out part are right, how often each
// model is right where the instruction-tuned one is wrong and the reverse, the reward at the beginning and the end,
// and the largest divergence from the instruction-tuned model. Needs Node 20.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** A mistake, said in one line and a hint, without a stack. */
class Refused extends Error {
  constructor(message, hint) {
    super(message);
    this.hint = hint;
  }
}

const USAGE = "node examples/rlhf.mjs OUT [--seeds N] [--kiln PROGRAM] [--quick]";

/** Number of sums of two numbers below 100 that are held out. */
const HELD_OUT = 500;

function options(words) {
  const found = { out: undefined, seeds: 1, kiln: "kiln", quick: false };
  for (let i = 0; i < words.length; i++) {
    if (words[i] === "--quick") found.quick = true;
    else if (words[i] === "--kiln") found.kiln = words[++i];
    else if (words[i] === "--seeds") found.seeds = Number(words[++i]);
    else if (words[i].startsWith("--") || found.out) throw new Refused(`unknown argument \`${words[i]}\``, USAGE);
    else found.out = words[i];
  }
  if (!found.out) throw new Refused("no folder is named", USAGE);
  if (!(Number.isInteger(found.seeds) && found.seeds > 0)) throw new Refused("--seeds takes a whole number", USAGE);
  if (!found.kiln) throw new Refused("--kiln takes a program", USAGE);
  return found;
}

/** Numbers in [0, 1) that depend on the seed alone (mulberry32). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A question and its answer, the digits of the sum from the lowest. */
function sum(a, b) {
  const digits = [a + b, Math.floor((a + b) / 10), Math.floor((a + b) / 100)].map((n) => n % 10);
  const two = (n) => String(n).padStart(2, "0");
  return { prompt: `${two(a)}+${two(b)}=`, answer: digits.join("") };
}

/** An answer with one wrong digit. */
function mistaken(answer, random) {
  const place = Math.floor(random() * answer.length);
  const digit = (Number(answer[place]) + 1 + Math.floor(random() * 9)) % 10;
  return answer.slice(0, place) + digit + answer.slice(place + 1);
}

function writeLines(path, records) {
  writeFileSync(path, records.map((record) => `${JSON.stringify(record)}\n`).join(""));
}

/** Writes sums to train on, pairs of a right and a wrong answer, and held-out prompts. */
function writeData(folder, seed) {
  const random = generator(seed);
  const sums = [];
  for (let a = 0; a < 100; a++) for (let b = 0; b < 100; b++) sums.push(sum(a, b));
  for (let last = sums.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [sums[last], sums[other]] = [sums[other], sums[last]];
  }
  const [heldOut, rest] = [sums.slice(0, HELD_OUT), sums.slice(HELD_OUT)];
  writeLines(join(folder, "sums.jsonl"), rest.map(({ prompt, answer }) => ({ text: `${prompt}${answer}\n` })));
  const pairs = rest.slice(0, 4000).map(({ prompt, answer }) => {
    return { prompt, chosen: `${answer}\n`, rejected: `${mistaken(answer, random)}\n` };
  });
  writeLines(join(folder, "pairs.jsonl"), pairs);
  writeLines(join(folder, "held-out.jsonl"), heldOut.map(({ prompt }) => ({ text: prompt })));
  return heldOut;
}

/** Runs a command of kiln and returns what it prints. */
function call(kiln, words) {
  try {
    return execFileSync(kiln, words, { encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "inherit"] });
  } catch (error) {
    if (error.code === "ENOENT") throw new Refused(`\`${kiln}\` is no program`, "name it with --kiln PROGRAM");
    throw new Refused(`\`${kiln} ${words.join(" ")}\` failed`, "its message is above");
  }
}

const settings = (values) => values.flatMap((value) => ["--set", value]);

/** Trains one stage, unless its run is there already. */
function train({ kiln, quick }, run, words, steps, values) {
  if (existsSync(join(run, "checkpoints", "latest"))) return run;
  const all = [`train.max_steps=${quick ? 4 : steps}`, ...values, ...(quick ? ["train.eval_interval=0"] : [])];
  call(kiln, ["train", "--quiet", "--device", "cpu", ...words, "--out", run, ...settings(all)]);
  return run;
}

/** Whether the most likely answer of a model to each held-out prompt is right. */
function solved({ kiln }, run, folder, heldOut) {
  const words = ["generate", run, "--device", "cpu", "--prompts", join(folder, "held-out.jsonl"), "--temperature", "0"];
  const lines = call(kiln, [...words, "--max-new-tokens", "8", "--stop", "\n", "--json"]).trim().split("\n");
  return lines.map((line, number) => JSON.parse(line).text.trim() === heldOut[number].answer);
}

/** Mean reward of the first and the last rollouts of a run, and its largest divergence from the reference. */
function course(run) {
  const lines = readFileSync(join(run, "log.jsonl"), "utf8").trim().split("\n");
  const metrics = lines.map((line) => JSON.parse(line)).filter(({ type }) => type === "step").map((step) => step.metrics);
  const rewards = metrics.map(({ reward }) => reward);
  const mean = (numbers) => numbers.reduce((total, number) => total + number, 0) / numbers.length;
  const tenth = Math.max(1, Math.floor(rewards.length / 10));
  const kl = metrics.map((step) => step.kl).filter(Number.isFinite);
  return { from: mean(rewards.slice(0, tenth)), to: mean(rewards.slice(-tenth)), kl: Math.max(...kl) };
}

/** Share of the decided prompts that a model wins, with its 95 % interval (Wilson). */
function winRate(own, other) {
  const wins = own.filter((right, number) => right && !other[number]).length;
  const losses = own.filter((right, number) => !right && other[number]).length;
  const [n, z] = [wins + losses, 1.96];
  if (n === 0) return "no difference";
  const [p, square] = [wins / n, (z * z) / n];
  const [middle, half] = [p + square / 2, z * Math.sqrt((p * (1 - p)) / n + square / (4 * n))];
  const percent = (x) => `${(100 * x).toFixed(0)}`;
  return `${percent(p)} % of ${n} (${percent((middle - half) / (1 + square))} to ${percent((middle + half) / (1 + square))})`;
}

/** One seed: all stages, then the table. */
function chain(given, seed) {
  const folder = join(given.out, `seed-${seed}`);
  mkdirSync(folder, { recursive: true });
  const heldOut = writeData(folder, seed);
  const at = (name) => join(folder, name);
  const data = ["--data", at("sums.jsonl")];
  const common = [`train.seed=${seed}`];
  const small = ["data.layout=documents", "model.block_size=24", "model.n_layer=2", "model.n_head=4", "model.n_embd=64"];
  const answers = ["data.answer_after=="];
  const rollouts = ["data.task=none", 'rollout.stop=["\\n"]', "rollout.max_new_tokens=8"];
  const shared = ["train.learning_rate=1e-3", "train.min_lr=1e-4", "train.batch_size=32"];

  const pretrained = train(given, at("pretrained"), ["--preset", "tiny-char", ...data], 300, [
    ...common, ...small, ...shared, "train.warmup_steps=30", "train.sample_interval=0",
  ]);
  const tuned = train(given, at("tuned"), ["--preset", "sft", "--init-from", pretrained, ...data], 300, [
    ...common, ...answers, ...shared, "data.packing=false",
  ]);
  const pairs = ["--data", at("pairs.jsonl")];
  const reward = train(given, at("reward"), ["--preset", "reward", "--init-from", tuned, ...pairs], 500, [
    ...common, ...shared,
  ]);
  const runs = {
    tuned,
    dpo: train(given, at("dpo"), ["--preset", "dpo", "--init-from", tuned, ...pairs], 300, [
      ...common, "train.learning_rate=1e-4", "train.min_lr=1e-5", "train.batch_size=32",
    ]),
    ppo: train(given, at("ppo"), ["--preset", "ppo", "--init-from", tuned, ...data], 400, [
      ...common, ...answers, ...rollouts, `rollout.rewards=[{kind="model", path="${reward.replaceAll("\\", "/")}"}]`,
    ]),
    grpo: train(given, at("grpo"), ["--preset", "grpo", "--init-from", tuned, ...data], 300, [
      ...common, ...answers, ...rollouts, 'rollout.rewards=[{kind="exact"}]', "grpo.kl_coefficient=0.02",
    ]),
  };

  const right = Object.fromEntries(Object.entries(runs).map(([name, run]) => [name, solved(given, run, folder, heldOut)]));
  console.log(`seed ${seed}`);
  for (const [name, found] of Object.entries(right)) {
    const share = (100 * found.filter(Boolean).length) / found.length;
    const columns = [`  ${name.padEnd(6)} ${share.toFixed(1).padStart(5)} % right`];
    if (name !== "tuned") columns.push(`wins ${winRate(found, right.tuned)}`);
    if (name === "ppo" || name === "grpo") {
      const { from, to, kl } = course(runs[name]);
      columns.push(`reward ${from.toFixed(3)} to ${to.toFixed(3)}`, `divergence at most ${kl.toFixed(2)} nats`);
    }
    console.log(columns.join(", "));
  }
}

try {
  const given = options(process.argv.slice(2));
  for (let seed = 1; seed <= given.seeds; seed++) chain(given, seed);
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  console.error(`error: ${error.message}\nhint: ${error.hint}`);
  process.exit(2);
}
