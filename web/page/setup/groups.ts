// Which settings stand together, in which order, and under which words. Keys that are not named here
// still appear, at the end of their section's group, so that a new key of the engine needs no edit.

import type { Field } from "../protocol";

/** A group of the form. */
export interface Group {
  title: string;
  /** Shown at once, in this order. */
  common: string[];
  /** Whether a key that no group names belongs here. */
  takes(key: string): boolean;
}

const SCHEDULE = [
  "optimizer", "learning_rate", "schedule", "warmup_steps", "decay_steps", "min_lr", "beta1", "beta2", "epsilon",
  "momentum", "weight_decay", "grad_clip", "ema_decay",
].map((name) => `train.${name}`);

/** The groups from top to bottom. */
export const GROUPS: Group[] = [
  {
    title: "Model",
    common: ["architecture", "n_layer", "n_head", "n_embd", "block_size", "position", "norm", "activation", "dropout"].map((name) => `model.${name}`),
    takes: (key) => key.startsWith("model."),
  },
  {
    title: "Tokenizer",
    common: ["tokenizer.kind", "tokenizer.vocab_size"],
    takes: (key) => key.startsWith("tokenizer."),
  },
  {
    title: "Data",
    common: ["data.val_fraction", "data.layout", "data.order"],
    takes: (key) => key.startsWith("data."),
  },
  {
    title: "Training",
    common: ["batch_size", "max_steps", "seed", "eval_interval", "sample_interval"].map((name) => `train.${name}`),
    takes: (key) => key.startsWith("objective.") || (key.startsWith("train.") && !SCHEDULE.includes(key)),
  },
  {
    title: "Optimizer and schedule",
    common: ["optimizer", "learning_rate", "schedule", "warmup_steps", "weight_decay"].map((name) => `train.${name}`),
    takes: (key) => SCHEDULE.includes(key),
  },
  {
    title: "Sampling and the rest",
    common: ["sample.temperature", "sample.max_new_tokens", "sample.prompt"],
    takes: () => true,
  },
];

const OF_FILES = ["data.paths", "tokenizer.path", "objective.reference", "distill.teacher", "distill.logits"];

/** Settings of files, which a tab does not have, and of what only the command line measures. */
export function isHidden(key: string): boolean {
  const sections = ["eval.", "adapter."];
  return [...OF_FILES, "chat.role_weights", "data.canaries", "rollout.rewards", "train.memorization", "train.offload"].includes(key) || sections.some((section) => key.startsWith(section));
}

/** The fields of each group, common ones first. */
export function grouped(fields: Field[]): { group: Group; common: Field[]; more: Field[] }[] {
  const left = new Map(fields.filter((field) => !isHidden(field.key)).map((field) => [field.key, field]));
  return GROUPS.map((group) => {
    const common = group.common.flatMap((key) => left.get(key) ?? []);
    for (const field of common) left.delete(field.key);
    const more = [...left.values()].filter((field) => group.takes(field.key));
    for (const field of more) left.delete(field.key);
    return { group, common, more };
  });
}

const LABELS: Record<string, string> = {
  "model.n_layer": "Layers",
  "model.n_head": "Heads",
  "model.n_embd": "Width",
  "model.block_size": "Context",
  "model.n_kv_head": "Key and value heads",
  "model.n_inner": "MLP width",
  "model.vocab_size": "Vocabulary of the model",
  "model.norm_eps": "Norm epsilon",
  "model.init_std": "Initial spread",
  "model.init": "Initial weights",
  "model.rope.theta": "Rotary base",
  "model.rope.layout": "Rotary layout",
  "model.attention.qk_norm": "Query and key norms",
  "model.attention.qkv_bias": "Query, key and value biases",
  "model.attention.sliding_window": "Sliding window",
  "model.attention.full_attention_every": "Full attention every",
  "model.attention.full_attention_offset": "Full attention offset",
  "model.moe.n_experts": "Experts",
  "model.moe.experts_per_token": "Experts per token",
  "model.moe.shared_expert_inner": "Shared expert width",
  "model.moe.normalize": "Normalize expert weights",
  "model.moe.capacity": "Expert capacity",
  "model.moe.aux_loss": "Load-balancing loss",
  "model.moe.z_loss": "Router-z loss",
  "model.norm_position": "Norm position",
  "model.tie_embeddings": "Tied embeddings",
  "model.bias": "Biases",
  "tokenizer.kind": "Tokens are",
  "tokenizer.vocab_size": "Vocabulary size",
  "data.val_fraction": "Validation share",
  "train.max_steps": "Steps",
  "train.gradient_accumulation_steps": "Gradient accumulation",
  "train.min_lr": "Lowest learning rate",
  "train.grad_clip": "Gradient clipping",
  "train.ema_decay": "Weight average",
  "train.on_nan": "On NaN",
  "train.early_stopping_patience": "Patience",
  "train.early_stopping_min_delta": "Least improvement",
  "train.eval_interval": "Evaluate every",
  "train.sample_interval": "Sample every",
  "train.save_interval": "Save every",
  "train.log_interval": "Report every",
  "sample.max_new_tokens": "Sample length",
  "sample.top_k": "Top k",
  "sample.top_p": "Top p",
  "sample.min_p": "Min p",
};

/** A setting's name in words. */
export function label(key: string): string {
  const known = LABELS[key];
  if (known) return known;
  // Of the top section the group tells; of one inside it only the name does: "Rope factor", "Attention scale".
  const parts = key.split(".");
  const words = (parts.length > 1 ? parts.slice(1) : parts).join(" ").replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
