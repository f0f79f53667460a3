//! One line of help for every key, and the tree written out with them (`kiln config show`). A test
//! holds the table to the fields of [`Config`].

use super::{super::Config, check_value, variants};
use crate::error::Result;
use serde::Serialize;
use std::fmt::Write;
use toml::Value;

/// A dotted key and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHelp {
    /// For example `train.learning_rate`.
    pub key: &'static str,
    /// One line, without a full stop.
    pub help: &'static str,
}

const fn entry(key: &'static str, help: &'static str) -> KeyHelp {
    KeyHelp { key, help }
}

/// Every key of [`Config`], in the order of its fields.
pub const KEYS: &[KeyHelp] = &[
    entry("data.paths", "text, JSON, CSV or token files, or folders of them; empty: the embedded corpus"),
    entry(
        "data.task",
        "a procedural task instead of text: copy, reverse, sort, addition, modular-addition, parity, dyck or two-sum; none: text",
    ),
    entry("data.answer_after", "only what follows this text in a row counts as target; empty: everything"),
    entry("data.val_fraction", "share of the tokens, from the end, held out for validation"),
    entry("data.layout", "stream: rows cut anywhere; documents: one document a row"),
    entry("data.order", "random: rows drawn with replacement; shuffled: every row once per epoch"),
    entry("data.lossy", "replace invalid UTF-8 instead of refusing the file"),
    entry("data.text_field", "field of a record, or column of a table, that holds the text"),
    entry("data.label_field", "field that holds the class of the text, a list of classes, or a number"),
    entry("data.target_field", "field that holds the text that an encoder-decoder is to write"),
    entry("tokenizer.kind", "char, byte, bpe (trained on the text) or file (a tokenizer.json)"),
    entry("tokenizer.vocab_size", "tokens that a bpe tokenizer is trained to"),
    entry("tokenizer.path", "the tokenizer.json of kind file"),
    entry("model.architecture", "decoder (GPT), encoder (BERT) or encoder-decoder (T5)"),
    entry("model.head", "language-model, sequence-classification, token-classification or regression"),
    entry("model.labels", "names of a classifier's classes; empty: those of the data"),
    entry("model.pooling", "a classifier of sequences reads the first token or the mean of all"),
    entry("model.vocab_size", "tokens that the model knows; 0: as many as the tokenizer has"),
    entry("model.block_size", "longest context in tokens"),
    entry("model.n_layer", "blocks, of the encoder where there are both"),
    entry("model.n_decoder_layer", "blocks of a decoder beside an encoder; 0: n_layer"),
    entry("model.n_head", "query heads"),
    entry("model.n_kv_head", "key and value heads; 0: n_head"),
    entry("model.n_embd", "width of the residual stream"),
    entry("model.head_dim", "width of one head; 0: n_embd / n_head"),
    entry("model.n_inner", "width inside the MLP; 0: 4 n_embd, or 8/3 n_embd for gated activations"),
    entry("model.position", "learned, sinusoidal, rotary, relative (T5) or alibi"),
    entry("model.rope_layout", "components that rotate together: half (Hugging Face) or interleaved (Meta)"),
    entry("model.rope_theta", "base of the rotary wavelengths"),
    entry("model.rope_scaling", "none, linear or llama3: how rotary wavelengths are stretched"),
    entry("model.rope_factor", "by how much rotary wavelengths are stretched"),
    entry("model.rope_original_context", "llama3 scaling: the context that wavelengths were made for"),
    entry("model.rope_low_freq_factor", "llama3 scaling: context / this and longer is stretched whole"),
    entry("model.rope_high_freq_factor", "llama3 scaling: context / this and shorter is left alone"),
    entry("model.rope_local_theta", "base of the wavelengths in layers with a window; 0: rope_theta"),
    entry("model.relative_buckets", "relative positions: distances that are told apart"),
    entry("model.relative_max_distance", "relative positions: distances from this on are one"),
    entry("model.sliding_window", "tokens that a position sees, itself included; 0: all"),
    entry("model.global_every", "with a sliding window, each so-manieth layer sees everything; 0: none"),
    entry("model.global_offset", "with a sliding window, the first layer that sees everything"),
    entry("model.prefix_attention", "what precedes the answer, or the prompt, sees itself whole"),
    entry("model.sparse_block", "block-sparse attention: tokens of a block; 0: attention is not sparse"),
    entry("model.sparse_local_blocks", "block-sparse attention: blocks seen on each side of its own"),
    entry("model.sparse_global_tokens", "block-sparse attention: first tokens that see and are seen by all"),
    entry("model.attention_scale", "multiplies queries times keys; 0: 1/sqrt(head width)"),
    entry("model.attention_softcap", "bends attention scores to within this; 0: does not"),
    entry("model.logit_softcap", "bends logits to within this; 0: does not"),
    entry("model.qk_norm", "normalize each head's queries and keys"),
    entry("model.norm", "layernorm or rmsnorm"),
    entry("model.embedding_norm", "normalize embeddings (BERT)"),
    entry("model.skip_first_norm", "the first attention reads embeddings as they are (ModernBERT)"),
    entry("model.norm_position", "pre (GPT-2, Llama), post (the original transformer) or both (Gemma 2)"),
    entry("model.norm_eps", "added to the variance before its root"),
    entry("model.norm_offset", "norms multiply by 1 + weight (Gemma)"),
    entry("model.activation", "relu, gelu, gelu-tanh, swiglu, geglu or geglu-exact"),
    entry("model.bias", "biases in linear layers and LayerNorm"),
    entry("model.qkv_bias", "biases of queries, keys and values even without bias"),
    entry("model.n_experts", "experts per layer (mixture of experts); 0: one plain MLP"),
    entry("model.experts_per_token", "experts that each token is sent to"),
    entry("model.shared_expert_inner", "width inside the expert that all tokens pass; 0: none"),
    entry("model.normalize_experts", "scale the chosen experts' weights to add up to 1"),
    entry("model.expert_capacity", "tokens an expert takes at most, in equal shares; 0: any number"),
    entry("model.router_aux_loss", "weight of the load-balancing loss"),
    entry("model.router_z_loss", "weight of the router-z loss"),
    entry("model.scale_embeddings", "multiply embeddings by sqrt(n_embd)"),
    entry("model.token_types", "kinds of segments that tokens may belong to (BERT); 0: none"),
    entry("model.tie_embeddings", "use the token embedding as the output projection"),
    entry("model.scale_logits", "multiply what the output projection reads by 1/sqrt(n_embd) (T5)"),
    entry("model.decoder_start_token", "what a decoder beside an encoder reads first"),
    entry("model.dropout", "probability of zeroing an activation, in training only"),
    entry("model.init", "gpt2: residual projections start smaller; llama: all alike"),
    entry("model.init_std", "standard deviation of the initial weights"),
    entry(
        "objective.mask_fraction",
        "share of the tokens that are hidden (encoder) or cut out (encoder-decoder)",
    ),
    entry("objective.whole_words", "hide words with all their tokens"),
    entry("objective.mean_span_length", "mean length of what is cut out, in tokens"),
    entry("objective.label_smoothing", "share of the probability that a target leaves to all tokens evenly"),
    entry("objective.z_loss", "weight of the square of the logarithm of what probabilities are divided by"),
    entry("train.freeze", "names of parameters that are not trained; * stands for any characters"),
    entry("train.batch_size", "rows per micro-batch"),
    entry("train.gradient_accumulation_steps", "micro-batches per optimizer step"),
    entry("train.max_steps", "optimizer steps of the whole schedule"),
    entry("train.stop_after", "end at this step although the schedule goes on; 0: do not"),
    entry("train.optimizer", "adamw, adam, sgd, lion or muon"),
    entry("train.learning_rate", "highest learning rate"),
    entry("train.schedule", "constant, linear, cosine, wsd or inverse-sqrt"),
    entry("train.warmup_steps", "steps of linear warmup from 0"),
    entry("train.decay_steps", "steps until min_lr, 0: max_steps; wsd: length of the decay, 0: a fifth"),
    entry("train.min_lr", "lowest learning rate that a decaying schedule reaches"),
    entry("train.beta1", "decay of the mean of gradients"),
    entry("train.beta2", "decay of the mean of squared gradients"),
    entry("train.epsilon", "added to the root of the squared gradients"),
    entry("train.momentum", "momentum of sgd and muon"),
    entry("train.weight_decay", "decay of matrices and embeddings"),
    entry("train.grad_clip", "largest global gradient norm; 0: no clipping"),
    entry("train.ema_decay", "decay of the moving average of the weights; 0: none is kept"),
    entry("train.eval_interval", "steps between evaluations; 0: none"),
    entry("train.eval_batches", "batches per evaluation; 0: the whole split"),
    entry("train.log_interval", "steps between reads of the loss from the device"),
    entry("train.save_interval", "steps between checkpoints; 0: at evaluations and at the end"),
    entry("train.keep_checkpoints", "checkpoints kept besides the best one"),
    entry("train.sample_interval", "steps between samples of text; 0: only at the end"),
    entry("train.early_stopping_patience", "evaluations without improvement until the run stops; 0: never"),
    entry("train.early_stopping_min_delta", "decrease of the validation loss that counts as improvement"),
    entry("train.on_nan", "stop or skip when the loss is NaN or infinite"),
    entry("train.seed", "decides initial weights, data order and dropout"),
    entry("sample.prompt", "text to continue; empty: a line break, or the tokenizer's first token"),
    entry("sample.max_new_tokens", "tokens to add"),
    entry("sample.temperature", "divides the logits; 0: the most likely token each time"),
    entry("sample.top_k", "keep the k most likely tokens; 0: all"),
    entry("sample.top_p", "keep the smallest set of tokens that reaches this probability; 1: all"),
    entry("sample.min_p", "drop tokens less likely than this share of the most likely one; 0: none"),
    entry("sample.repetition_penalty", "divides the logits of tokens that occurred; 1: none"),
    entry("sample.num_beams", "candidates of beam search, the most likely text; 1: tokens are drawn"),
    entry("sample.length_penalty", "beam search: log-probability over length to this power"),
    entry("sample.stop", "texts at which to stop"),
    entry("sample.seed", "decides which tokens are drawn"),
    entry("kernels.fused", "compute by Kiln's fused kernels, where there are some"),
];

/// A key as a form shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Field {
    pub key: &'static str,
    pub help: &'static str,
    pub kind: FieldKind,
    /// What a [`FieldKind::Choice`] takes.
    pub choices: Vec<String>,
}

/// What kind of value a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum FieldKind {
    /// A whole number, 0 or more.
    Integer,
    Number,
    Boolean,
    Choice,
    Text,
    /// Of texts.
    List,
}

impl KeyHelp {
    fn kind(&self) -> FieldKind {
        let takes = |value: Value| check_value(self.key, &value).is_ok();
        if variants(self.key).is_some() {
            FieldKind::Choice
        } else if takes(Value::Boolean(true)) {
            FieldKind::Boolean
        } else if takes(Value::Float(0.5)) {
            FieldKind::Number
        } else if takes(Value::Integer(1)) {
            FieldKind::Integer
        } else if takes(Value::Array(Vec::new())) {
            FieldKind::List
        } else {
            FieldKind::Text
        }
    }
}

impl Config {
    /// Every key with its kind, for forms.
    pub fn fields() -> Vec<Field> {
        let fields = KEYS.iter().map(|entry| Field {
            key: entry.key,
            help: entry.help,
            kind: entry.kind(),
            choices: variants(entry.key).unwrap_or_default(),
        });
        fields.collect()
    }

    /// [`Config::to_toml`] with the help of each key behind it as a comment. Optional keys without a
    /// value are comments as a whole.
    ///
    /// # Errors
    /// As [`Config::to_toml`].
    pub fn to_annotated_toml(&self) -> Result<String> {
        let table = self.to_table()?;
        let mut text = String::new();
        let mut section = "";
        for KeyHelp { key, help } in KEYS {
            let Some((head, name)) = key.split_once('.') else { continue };
            if head != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                section = head;
                // Writing into a String cannot fail.
                let _ = writeln!(text, "{gap}[{section}]");
            }
            let value = table.get(head).and_then(|entries| entries.get(name));
            let line = value.map_or_else(|| format!("# {name} ="), |value| format!("{name} = {value}"));
            let _ = writeln!(text, "{line:<36} # {help}");
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When this fails, a field was added to or removed from the configuration: edit [`KEYS`] likewise.
    #[test]
    fn the_table_has_exactly_the_keys_of_the_tree() {
        let mut config = Config::default();
        config.tokenizer.path = Some("x".into());
        let tree = serde_json::to_value(&config).unwrap();
        let mut found: Vec<String> = Vec::new();
        for (section, entries) in tree.as_object().unwrap() {
            found.extend(entries.as_object().unwrap().keys().map(|name| format!("{section}.{name}")));
        }
        let mut listed = Config::keys();
        found.sort();
        listed.sort();
        assert_eq!(found, listed);
    }

    #[test]
    fn fields_know_what_they_take() {
        let kind = |key| Config::fields().into_iter().find(|field| field.key == key).unwrap().kind;
        assert_eq!(kind("train.seed"), FieldKind::Integer);
        assert_eq!(kind("train.learning_rate"), FieldKind::Number);
        assert_eq!(kind("model.bias"), FieldKind::Boolean);
        assert_eq!(kind("model.norm"), FieldKind::Choice);
        assert_eq!(kind("sample.prompt"), FieldKind::Text);
        assert_eq!(kind("sample.stop"), FieldKind::List);
        let norm = Config::fields().into_iter().find(|field| field.key == "model.norm").unwrap();
        assert_eq!(norm.choices, ["layernorm", "rmsnorm"]);
    }

    #[test]
    fn help_is_one_line_without_a_full_stop() {
        for KeyHelp { key, help } in KEYS {
            assert!(!help.is_empty() && !help.contains('\n') && !help.ends_with('.'), "{key}");
        }
    }

    #[test]
    fn the_annotated_tree_reads_back() {
        let mut config = Config::default();
        config.sample.prompt = "a # \"b\"\nc".into();
        config.data.paths = vec!["x".into(), "y # z".into()];
        let text = config.to_annotated_toml().unwrap();
        assert!(text.contains("\n# path ="), "{text}");
        assert_eq!(Config::from_toml(&text, "here").unwrap(), config);
    }
}
