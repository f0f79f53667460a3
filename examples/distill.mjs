// Distillation on a small model, in minutes on two cores: a teacher learns the characters of nine plays, and a student
// with a quarter of its parameters is trained three times for the same steps: on the text alone, with the teacher beside
// it, and with the teacher's most likely characters, which were saved once.
//
//     node examples/distill.mjs OUT [--seeds N] [--kiln PROGRAM] [--quick]
//
// writes data and runs to OUT, a new folder, for three seeds unless --seeds says otherwise. It prints a line for each
// stage, and at the end the losses on the last tenth of the text, which nobody was trained on. Needs Node 20.

import { readFileSync } from "node:fs";

import { Stages, mean, options, table } from "./stages.mjs";
import { run } from "./packages.mjs";

const USAGE = "node examples/distill.mjs OUT [--seeds N] [--kiln PROGRAM] [--quick]";

/** Longest row, in characters. */
const LONGEST = 64;

const STEPS = 1000;
const TEACHER = ["model.n_layer=4", "model.n_embd=96"];
const STUDENT = ["model.n_layer=2", "model.n_embd=64"];
const SHARED = [
  "data.layout=documents", "data.order=shuffled", `model.block_size=${LONGEST}`, "model.n_head=4", "train.batch_size=16",
  "train.warmup_steps=50", "train.min_lr=1e-4", "train.eval_interval=0", "train.sample_interval=0",
];
const RATE = ["train.learning_rate=3e-3"];
const DISTILL = ["distill.temperature=2", "distill.weight=0.5"];
const TOP_K = 16;

/** Cuts a text into records of whole lines, as many as fit into a row. */
function rows(text) {
  const records = [""];
  for (const line of text.split(/(?<=\n)/)) {
    if (records.at(-1).length + line.length > LONGEST) records.push("");
    records[records.length - 1] += line;
  }
  return records.filter((text) => text.trim() !== "").map((text) => ({ text }));
}

/** One seed: all stages, and the losses of the models. */
function chain(given, seed) {
  const stages = new Stages(given, seed);
  const corpus = readFileSync(new URL("../assets/corpus.txt", import.meta.url), "utf8");
  const data = ["--data", stages.write("text.jsonl", rows(given.quick ? corpus.slice(0, 20000) : corpus))];
  const trained = (title, name, preset, settings) =>
    stages.stage(title, () => {
      const model = stages.train(name, ["--preset", preset, ...data], STEPS, [...SHARED, ...RATE, ...settings]);
      const { parameters } = stages.events(model, "started")[0];
      const { loss } = stages.evaluate([model]);
      return [`${(parameters / 1e6).toFixed(2)}M parameters, held-out loss ${loss.toFixed(4)}`, { model, parameters, loss }];
    });
  const teacher = trained("teacher", "teacher", "shakespeare-char-cpu", TEACHER);
  const student = (title, name, settings) => trained(title, name, "distill", [...STUDENT, ...settings]);
  const alone = student("student, text alone", "alone", ["objective.kind=causal-lm"]);
  const distilled = student("student, distilled", "distilled", [...DISTILL, `distill.teacher=${teacher.model}`]);
  const logits = stages.stage("saving logits", () => {
    const settings = [...SHARED, ...DISTILL, `distill.top_k=${TOP_K}`].flatMap((setting) => ["--set", setting]);
    const said = stages.call(["distill", "--save-logits", teacher.model, ...data, "--out", stages.at("logits"), ...settings]);
    return [said.split("\n")[0], stages.at("logits")];
  });
  const saved = student("student, saved logits", "saved", [...DISTILL, `distill.logits=${logits}`]);
  return { teacher, alone, distilled, saved };
}

function main(words) {
  const given = options(words, USAGE);
  const seeds = [];
  for (let seed = 1; seed <= given.seeds; seed++) seeds.push(chain(given, seed));
  const names = {
    teacher: "teacher",
    alone: "student, text alone",
    distilled: "student, distilled",
    saved: `student, from the ${TOP_K} most likely characters`,
  };
  const rows = Object.entries(names).map(([name, title]) => {
    const losses = seeds.map((models) => models[name].loss);
    const gain = mean(seeds.map(({ alone }, seed) => alone.loss - losses[seed]));
    const share = seeds[0][name].parameters / seeds[0].teacher.parameters;
    const last = name === "distilled" || name === "saved" ? gain.toFixed(4) : "";
    return [title, share.toFixed(3), ...losses.map((loss) => loss.toFixed(4)), mean(losses).toFixed(4), last];
  });
  console.log("\nheld-out loss in nats a character");
  const head = ["", "parameters", ...seeds.map((_, number) => `seed ${number + 1}`), "mean", "less than text alone"];
  table([head, ...rows]);
}

run(main, process.argv.slice(2));
