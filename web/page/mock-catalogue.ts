// The catalogue of the imitation: the engine's keys with their kinds, three presets, one task.

import type { Catalogue, Config, Field, Preset } from "./protocol";

type Entry = [key: string, value: unknown, help: string, choices?: string[]];

const ENTRIES: Entry[] = [
  ["data.paths", [], "text, JSONL or token files, or folders of them; empty: the embedded corpus"],
  ["data.val_fraction", 0.1, "share of the tokens, from the end, held out for validation"],
  ["data.layout", "stream", "stream: rows cut anywhere; documents: one document a row", ["stream", "documents"]],
  ["data.order", "random", "random: rows drawn with replacement; shuffled: every row once per epoch", ["random", "shuffled"]],
  ["data.lossy", false, "replace invalid UTF-8 instead of refusing the file"],
  ["data.text_field", "text", "field of a JSONL record that holds the text"],
  ["tokenizer.kind", "char", "char, byte, bpe (trained on the text) or file (a tokenizer.json)", ["char", "byte", "bpe", "file"]],
  ["tokenizer.vocab_size", 1024, "tokens that a bpe tokenizer is trained to"],
  ["model.vocab_size", 0, "tokens that the model knows; 0: as many as the tokenizer has"],
  ["model.block_size", 64, "longest context in tokens"],
  ["model.n_layer", 4, "blocks"],
  ["model.n_head", 4, "query heads"],
  ["model.n_kv_head", 0, "key and value heads; 0: n_head"],
  ["model.n_embd", 128, "width of the residual stream"],
  ["model.n_inner", 0, "width inside the MLP; 0: 4 n_embd, or 8/3 n_embd for gated activations"],
  ["model.position", "learned", "learned, sinusoidal or rotary", ["learned", "sinusoidal", "rotary"]],
  ["model.rope_layout", "half", "components that rotate together: half (Hugging Face) or interleaved (Meta)", ["half", "interleaved"]],
  ["model.rope_theta", 10000, "base of the rotary wavelengths"],
  ["model.norm", "layernorm", "layernorm or rmsnorm", ["layernorm", "rmsnorm"]],
  ["model.norm_position", "pre", "pre (GPT-2, Llama) or post (the original transformer)", ["pre", "post"]],
  ["model.norm_eps", 1e-5, "added to the variance before its root"],
  ["model.activation", "gelu", "relu, gelu, gelu-tanh, swiglu or geglu", ["relu", "gelu", "gelu-tanh", "swiglu", "geglu"]],
  ["model.bias", false, "biases in linear layers and LayerNorm"],
  ["model.tie_embeddings", true, "use the token embedding as the output projection"],
  ["model.dropout", 0, "probability of zeroing an activation, in training only"],
  ["model.init", "gpt2", "gpt2: residual projections start smaller; llama: all alike", ["gpt2", "llama"]],
  ["model.init_std", 0.02, "standard deviation of the initial weights"],
  ["train.batch_size", 12, "rows per micro-batch"],
  ["train.gradient_accumulation_steps", 1, "micro-batches per optimizer step"],
  ["train.max_steps", 2000, "optimizer steps of the whole schedule"],
  ["train.stop_after", 0, "end at this step although the schedule goes on; 0: do not"],
  ["train.optimizer", "adamw", "adamw, adam, sgd, lion or muon", ["adamw", "adam", "sgd", "lion", "muon"]],
  ["train.learning_rate", 0.001, "highest learning rate"],
  ["train.schedule", "cosine", "constant, linear, cosine, wsd or inverse-sqrt", ["constant", "linear", "cosine", "wsd", "inverse-sqrt"]],
  ["train.warmup_steps", 100, "steps of linear warmup from 0"],
  ["train.decay_steps", 0, "steps until min_lr, 0: max_steps; wsd: length of the decay, 0: a fifth"],
  ["train.min_lr", 0.0001, "lowest learning rate that a decaying schedule reaches"],
  ["train.beta1", 0.9, "decay of the mean of gradients"],
  ["train.beta2", 0.99, "decay of the mean of squared gradients"],
  ["train.weight_decay", 0.1, "decay of matrices and embeddings"],
  ["train.grad_clip", 1, "largest global gradient norm; 0: no clipping"],
  ["train.eval_interval", 250, "steps between evaluations; 0: none"],
  ["train.sample_interval", 500, "steps between samples of text; 0: only at the end"],
  ["train.on_nan", "stop", "stop or skip when the loss is NaN or infinite", ["stop", "skip"]],
  ["train.seed", 1337, "decides initial weights, data order and dropout"],
  ["sample.prompt", "", "text to continue; empty: a line break, or the tokenizer's first token"],
  ["sample.max_new_tokens", 200, "tokens to add"],
  ["sample.temperature", 0.8, "divides the logits; 0: the most likely token each time"],
  ["sample.top_k", 0, "keep the k most likely tokens; 0: all"],
  ["sample.stop", [], "texts at which to stop"],
  ["sample.seed", 1337, "decides which tokens are drawn"],
];

const INTEGERS = /(size|layer|head|embd|inner|steps|after|interval|tokens|top_k|seed)$/;

function kind([key, value, , choices]: Entry): Field["kind"] {
  if (choices) return "choice";
  if (Array.isArray(value)) return "list";
  if (typeof value === "boolean") return "boolean";
  if (typeof value === "string") return "text";
  return INTEGERS.test(key) ? "integer" : "number";
}

function config(set: Record<string, unknown>): Config {
  const tree: Config = {};
  for (const [key, value] of ENTRIES) {
    const [section = "", name = ""] = key.split(".");
    (tree[section] ??= {})[name] = set[key] ?? value;
  }
  return tree;
}

function preset(name: string, description: string, browser: boolean, task: string | null, set: Record<string, unknown>): Preset {
  return { name, description, browser, task, config: config(set) };
}

/** What the imitation answers to `catalogue`. */
export const MOCK_CATALOGUE: Catalogue = {
  version: "0.1.0-mock",
  fields: ENTRIES.map((entry) => ({ key: entry[0], help: entry[2], kind: kind(entry), choices: entry[3] ?? [] })),
  presets: [
    preset("addition", "Sums of two numbers, 0.1M parameters: right answers within a minute", true, "addition", { "model.n_layer": 2, "model.n_embd": 64, "model.block_size": 16, "train.batch_size": 64, "train.max_steps": 600, "train.eval_interval": 50, "train.sample_interval": 100, "data.layout": "documents" }),
    preset("shakespeare-tiny", "Characters of Shakespeare, 0.4M parameters, a few minutes", true, null, { "train.eval_interval": 100, "train.sample_interval": 100 }),
    preset("shakespeare-char", "10.7M parameters on characters, for a GPU: nanoGPT's train_shakespeare_char", false, null, { "model.n_layer": 6, "model.n_head": 6, "model.n_embd": 384, "model.block_size": 256, "model.dropout": 0.2, "train.batch_size": 64, "train.max_steps": 5000 }),
  ],
  tasks: [{ name: "addition", description: "Two numbers of up to two digits and their sum; scored by exact answers.", example: "12+34=46" }],
};
