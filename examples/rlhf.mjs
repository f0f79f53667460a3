// RLHF from end to end on a small model, in minutes on two cores: pretraining, instruction tuning, a reward model from
// pairs of the tuned model's own answers, PPO against that reward model, GRPO with a rule, and DPO on the same pairs.
// The task is to put six digits in order, so that every answer can be verified.
//
//     node examples/rlhf.mjs OUT [--seeds N] [--kiln PROGRAM] [--quick]
//
// writes data and runs to OUT, a new folder, for three seeds unless --seeds says otherwise. It prints a line for each
// stage, and at the end how many held-out questions each model answers right. Needs Node 20.

import { run } from "./packages.mjs";
import { Stages, generator, mean, options, spread, table } from "./stages.mjs";

const USAGE = "node examples/rlhf.mjs OUT [--seeds N] [--kiln PROGRAM] [--quick]";

/** Questions that are held out, and others to train on. */
const HELD_OUT = 1000;
const TRAINED = 20000;

/** Prompts whose answers are compared, and answers to each. */
const COMPARED = 3000;
const ANSWERS = 4;

/** Digits of a question. */
const DIGITS = 6;

/** Makes questions with their answers: as many different ones as asked for. */
function draw(count, seed) {
  const random = generator(seed);
  const questions = new Set();
  while (questions.size < count) {
    questions.add(Array.from({ length: DIGITS }, () => Math.floor(10 * random())).join(""));
  }
  return [...questions].map((digits) => ({ prompt: `${digits}=`, answer: [...digits].toSorted().join("") }));
}

/** Writes questions with answers to train on, and draws held-out ones. */
function writeData(stages) {
  const all = draw(HELD_OUT + TRAINED, stages.seed);
  const [heldOut, rest] = [all.slice(0, stages.quick ? 32 : HELD_OUT), all.slice(HELD_OUT)];
  const path = stages.write("text.jsonl", rest.map(({ prompt, answer }) => ({ text: `${prompt}${answer}\n` })));
  return { heldOut, rest, path };
}

/** Samples an answer to each question, at temperature 1 as rewards see it, with the line break that ends an answer. */
function answers(stages, model, questions) {
  const prompts = stages.write("prompts.jsonl", questions.map(({ prompt }) => ({ text: prompt })));
  const words = ["generate", model, "--prompts", prompts, "--max-new-tokens", "8", "--stop", "\n"];
  const found = stages.lines([...words, "--temperature", "1", "--seed", String(stages.seed)]);
  return found.map(({ text, reason }) => (reason === "stop_text" ? `${text}\n` : text));
}

const isRight = (text, { answer }) => text === `${answer}\n`;

/** Number of digits of an answer that are right. */
const rightDigits = (text, { answer }) => [...answer].filter((digit, place) => text[place] === digit).length;

/** Samples answers of a model, and prefers the best answer to a question to all worse ones, by right digits. */
function writePairs(stages, model, questions) {
  const asked = questions.flatMap((question) => Array(ANSWERS).fill(question));
  const found = answers(stages, model, asked);
  const pairs = questions.flatMap((question, number) => {
    const own = found.slice(number * ANSWERS, (number + 1) * ANSWERS);
    const [chosen, ...others] = own.toSorted((a, b) => rightDigits(b, question) - rightDigits(a, question));
    const worse = others.filter((other) => other !== "" && rightDigits(other, question) < rightDigits(chosen, question));
    return worse.map((rejected) => ({ prompt: question.prompt, chosen, rejected }));
  });
  const right = found.filter((text, number) => isRight(text, asked[number])).length / found.length;
  return { path: stages.write("pairs.jsonl", pairs), count: pairs.length, right };
}

/** Wins and losses of a model against another one: prompts that it alone answers right, and that the other does. */
function compare(own, other) {
  const wins = own.filter((right, number) => right && !other[number]).length;
  return { wins, losses: own.filter((right, number) => !right && other[number]).length };
}

/** Share of the decided prompts that are won, with its 95 % interval (Wilson). */
function winRate({ wins, losses }) {
  const [n, z] = [wins + losses, 1.96];
  if (n === 0) return "no prompt is decided";
  const [p, square] = [wins / n, (z * z) / n];
  const [middle, half] = [p + square / 2, z * Math.sqrt((p * (1 - p)) / n + square / (4 * n))];
  const percent = (share) => (100 * share).toFixed(1);
  const ends = [middle - half, middle + half].map((end) => percent(end / (1 + square)));
  return `${percent(p)} % of ${n} (${ends.join(" to ")})`;
}

/** Mean reward of the first and the last tenth of the steps, and the largest divergence of a rollout. */
function course(stages, run) {
  const metrics = stages.events(run, "step").map((step) => step.metrics);
  const rewards = metrics.map(({ reward }) => reward);
  const tenth = Math.max(1, Math.floor(rewards.length / 10));
  const kl = Math.max(...metrics.map((step) => step.kl));
  return { from: mean(rewards.slice(0, tenth)), to: mean(rewards.slice(-tenth)), kl };
}

const percent = (list) => (100 * list.filter(Boolean).length) / list.length;

/** One seed: all stages, and what is measured of each model. */
function chain(given, seed) {
  const stages = new Stages(given, seed);
  const { heldOut, rest, path } = writeData(stages);
  const data = ["--data", path];
  const onAnswers = ["data.answer_after=="];
  const unseen = ["train.eval_interval=0", "train.sample_interval=0"];
  const batches = ["train.batch_size=32", "train.min_lr=1e-4"];
  const rollouts = [...onAnswers, ...unseen, "data.task=none"];
  const measured = {};
  /** Answers the held-out questions, and says how many are right. */
  const measure = (name, model, more = {}) => {
    const found = answers(stages, model, heldOut);
    const right = found.map((text, number) => isRight(text, heldOut[number]));
    measured[name] = { ...more, found, right };
    return `${percent(right).toFixed(1)} % of ${right.length} held-out answers right`;
  };

  const pretrained = stages.stage("pretraining", () => {
    const shape = ["data.layout=documents", "model.block_size=16", "model.n_layer=2", "model.n_embd=64"];
    const settings = [...shape, ...batches, ...unseen, "train.learning_rate=1e-3", "train.warmup_steps=30"];
    const model = stages.train("pretrained", ["--preset", "tiny-char", ...data], 100, settings);
    return [`loss ${stages.evaluate([model]).loss.toFixed(3)}`, model];
  });
  const tuned = stages.stage("instruction tuning", () => {
    // It ends when about half of the answers are right, so that something is left to learn from rewards.
    const settings = [...onAnswers, ...batches, ...unseen, "train.learning_rate=1e-3"];
    const model = stages.train("tuned", ["--preset", "sft", "--init-from", pretrained, ...data], 170, settings);
    return [measure("tuned", model), model];
  });
  const pairs = stages.stage("pairs of answers", () => {
    const found = writePairs(stages, tuned, rest.slice(0, stages.quick ? 64 : COMPARED));
    return [`${found.count} pairs, ${(100 * found.right).toFixed(1)} % of the sampled answers right`, found.path];
  });
  const reward = stages.stage("reward model", () => {
    const words = ["--preset", "reward", "--init-from", tuned, "--data", pairs];
    const model = stages.train("reward", words, 600, [...batches, ...unseen, "train.learning_rate=1e-3", "reward.center=0.01"]);
    const { metrics } = stages.evaluate([model]);
    const [accuracy, gap] = [metrics["rewards/accuracy"], metrics["rewards/calibration_error"]];
    return [`${(100 * accuracy).toFixed(1)} % of held-out pairs in order, calibration error ${gap.toFixed(3)}`, model];
  });
  const learned = (name, model) => {
    const { from, to, kl } = course(stages, model);
    const said = measure(name, model, { from, to, kl });
    return [`reward ${from.toFixed(3)} to ${to.toFixed(3)}, divergence at most ${kl.toFixed(2)} nats, ${said}`, model];
  };
  stages.stage("PPO", () => {
    const settings = [...rollouts, "ppo.value_clip=1", `rollout.rewards=[{kind="model", path="${reward}"}]`];
    // With less, the answers please the reward model more and more while fewer of them are right.
    settings.push("ppo.kl_coefficient=0.5");
    return learned("ppo", stages.train("ppo", ["--preset", "ppo", "--init-from", tuned, ...data], 600, settings));
  });
  stages.stage("GRPO with a rule", () => {
    const settings = [...rollouts, 'rollout.rewards=[{kind="exact"}]', "grpo.kl_coefficient=0.02"];
    return learned("grpo", stages.train("grpo", ["--preset", "grpo", "--init-from", tuned, ...data], 300, settings));
  });
  stages.stage("DPO", () => {
    const words = ["--preset", "dpo", "--init-from", tuned, "--data", pairs];
    // Both answers are nearly the same: without the likelihood of the better one, it falls with that of the other.
    const settings = [...unseen, "preference.sft_weight=1", "train.batch_size=32", "train.learning_rate=1e-4", "train.min_lr=1e-5"];
    const model = stages.train("dpo", words, 150, settings);
    return [measure("dpo", model), model];
  });
  stages.stage("rewards of all answers", () => {
    const models = Object.values(measured);
    const texts = models.flatMap(({ found }) => found.map((text, number) => ({ text: heldOut[number].prompt + text })));
    const scores = stages.lines(["classify", reward, "--file", stages.write("answers.jsonl", texts)]);
    models.forEach((model, place) => {
      const own = scores.slice(place * heldOut.length, (place + 1) * heldOut.length);
      model.score = mean(own.map(({ prediction }) => prediction.value));
    });
    return [models.map(({ score }) => score.toFixed(2)).join(", ")];
  });
  return measured;
}

function main(words) {
  const given = options(words, USAGE);
  const seeds = [];
  for (let seed = 1; seed <= given.seeds; seed++) seeds.push(chain(given, seed));
  const names = { tuned: "instruction tuning", dpo: "DPO", ppo: "PPO", grpo: "GRPO" };
  const rows = Object.entries(names).map(([name, title]) => {
    const of = (figure) => seeds.map((models) => figure(models[name], models.tuned));
    const row = [title, spread(of(({ right }) => percent(right)), 1), spread(of(({ score }) => score), 2)];
    if (name === "tuned") return [...row, "", "", "", ""];
    const all = of(({ right }, tuned) => compare(right, tuned.right));
    const total = (key) => all.reduce((count, own) => count + own[key], 0);
    row.push(winRate({ wins: total("wins"), losses: total("losses") }));
    if (name === "dpo") return [...row, "", "", ""];
    const course = ["from", "to", "kl"].map((key) => spread(of((model) => model[key]), 2));
    return [...row, ...course];
  });
  console.log(`\nheld-out answers, ${given.seeds === 1 ? "one seed" : `mean of ${given.seeds} seeds (lowest to highest)`}`);
  table([["", "right, %", "reward model", "wins, all seeds", "reward at first", "at last", "divergence, nats"], ...rows]);
  console.log(
    "\nEach model answers each held-out question once, sampled at temperature 1. It wins where its answer is right and\n" +
      "that of the instruction-tuned model is wrong; where both are right or both are wrong, nothing is decided, and\n" +
      "nothing counted. Intervals are Wilson's, 95 %. The rewards at first and at last are those of training, a tenth of\n" +
      "the steps each: the reward model's for PPO, the rule's for GRPO.",
  );
}

run(main, process.argv.slice(2));
