//! Names of tensors in a file and in transformers' checkpoints.

use super::{Architecture, config::Heads};

/// Form of a tensor in a file, compared with Hugging Face's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Equal,
    /// In each of these heads, rows that rotate together are adjacent, but half a head apart in Hugging
    /// Face's.
    Rotary {
        heads: usize,
    },
    /// A matrix `[out, in]`, which is `[in, out]` in Hugging Face's (GPT-2).
    Transposed,
}

/// Names of an architecture without `.weight` and `.bias`: in a file, and in transformers' checkpoints.
struct Names {
    whole: &'static [(&'static str, &'static str)],
    /// Prefix of a layer's number in transformers' names.
    layers: &'static str,
    parts: &'static [(&'static str, &'static str)],
}

const LLAMA: Names = Names {
    whole: &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")],
    layers: "model.layers",
    parts: &[
        ("attn_norm", "input_layernorm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("attn_q_norm", "self_attn.q_norm"),
        ("attn_k_norm", "self_attn.k_norm"),
        ("ffn_norm", "post_attention_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
    ],
};

const GPT2: Names = Names {
    whole: &[
        ("token_embd", "transformer.wte"),
        ("position_embd", "transformer.wpe"),
        ("output_norm", "transformer.ln_f"),
        ("output", "lm_head"),
    ],
    layers: "transformer.h",
    parts: &[
        ("attn_norm", "ln_1"),
        ("attn_qkv", "attn.c_attn"),
        ("attn_output", "attn.c_proj"),
        ("ffn_norm", "ln_2"),
        ("ffn_up", "mlp.c_fc"),
        ("ffn_down", "mlp.c_proj"),
    ],
};

/// Name of layers in a file.
const LAYERS: &str = "blk";

impl Architecture {
    fn names(self) -> &'static Names {
        match self {
            Self::Llama | Self::Qwen2 | Self::Qwen3 => &LLAMA,
            Self::Gpt2 => &GPT2,
        }
    }
}

/// Name of a file's tensor in transformers' checkpoints; `None` if the architecture does not have it.
pub(super) fn from_gguf(architecture: Architecture, name: &str) -> Option<String> {
    let names = architecture.names();
    let (stem, kind) = name.rsplit_once('.')?;
    let find = |list: &[(&str, &'static str)], wanted: &str| {
        list.iter().find(|(own, _)| *own == wanted).map(|(_, theirs)| *theirs)
    };
    match layer(stem, LAYERS) {
        Some((number, part)) => {
            Some(format!("{}.{number}.{}.{kind}", names.layers, find(names.parts, part)?))
        }
        None => Some(format!("{}.{kind}", find(names.whole, stem)?)),
    }
}

/// Name in a file of a tensor of transformers' checkpoints; `None` if the architecture does not have it.
pub fn to_gguf(architecture: Architecture, name: &str) -> Option<String> {
    let names = architecture.names();
    let (stem, kind) = name.rsplit_once('.')?;
    let find = |list: &[(&'static str, &str)], wanted: &str| {
        list.iter().find(|(_, theirs)| *theirs == wanted).map(|(own, _)| *own)
    };
    match layer(stem, names.layers) {
        Some((number, part)) => Some(format!("{LAYERS}.{number}.{}.{kind}", find(names.parts, part)?)),
        None => Some(format!("{}.{kind}", find(names.whole, stem)?)),
    }
}

/// Splits `blk.7.attn_q` into the layer's number and the rest.
fn layer<'a>(stem: &'a str, layers: &str) -> Option<(usize, &'a str)> {
    let (digits, part) = stem.strip_prefix(layers)?.strip_prefix('.')?.split_once('.')?;
    // As it is written again: `07` and `+7` are no numbers of layers.
    let number: usize = digits.parse().ok().filter(|number: &usize| number.to_string() == digits)?;
    Some((number, part))
}

impl Form {
    /// Form of the tensor with a name in transformers' checkpoints.
    pub(super) fn of(architecture: Architecture, name: &str, heads: Heads) -> Self {
        let ends = |stems: &[&str], kinds: &[&str]| {
            let (stem, kind) = name.rsplit_once('.').unwrap_or_default();
            kinds.contains(&kind) && stems.iter().any(|wanted| stem.ends_with(wanted))
        };
        match architecture {
            Architecture::Llama if ends(&[".q_proj"], &["weight", "bias"]) => {
                Self::Rotary { heads: heads.queries }
            }
            Architecture::Llama if ends(&[".k_proj"], &["weight", "bias"]) => {
                Self::Rotary { heads: heads.keys }
            }
            Architecture::Gpt2 if ends(&[".c_attn", ".c_proj", ".c_fc"], &["weight"]) => Self::Transposed,
            _ => Self::Equal,
        }
    }

    /// Shape in the one form of a tensor that has `shape` in the other.
    ///
    /// # Errors
    /// A description of the shape that a tensor of this form should have, if it cannot have the given one.
    pub fn shape(self, shape: &[usize]) -> Result<Vec<usize>, String> {
        match (self, shape) {
            (Self::Equal, _) => Ok(shape.into()),
            (Self::Transposed, &[rows, columns]) => Ok(vec![columns, rows]),
            (Self::Rotary { heads }, &[rows] | &[rows, _])
                if rows.is_multiple_of(heads.max(1).saturating_mul(2)) =>
            {
                Ok(shape.into())
            }
            (Self::Rotary { heads }, _) => Err(format!("{heads} heads whose halves rotate")),
            (Self::Transposed, _) => Err("a matrix".into()),
        }
    }

    /// Converts a tensor from Hugging Face's form, in which it has `shape`, to that in a file.
    pub fn store(self, shape: &[usize], values: Vec<f32>) -> Vec<f32> {
        match (self, shape) {
            (Self::Transposed, &[rows, columns]) => (0..columns)
                .flat_map(|c| (0..rows).map(move |r| (r, c)))
                .map(|(r, c)| values[r * columns + c])
                .collect(),
            (Self::Rotary { heads }, &[rows] | &[rows, _]) => {
                let (width, head) = (values.len() / rows.max(1), rows / heads.max(1));
                let places = (0..rows).map(|row| place(row, head));
                places.flat_map(|from| &values[from * width..(from + 1) * width]).copied().collect()
            }
            _ => values,
        }
    }
}

/// Row in Hugging Face's form of a row in a file, where heads have `head` rows.
pub(super) fn place(row: usize, head: usize) -> usize {
    let (start, within) = (row / head * head, row % head);
    start + within % 2 * (head / 2) + within / 2
}
