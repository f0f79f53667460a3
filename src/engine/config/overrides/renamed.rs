//! Keys that had another name in earlier versions. The earlier names still work in files, checkpoints,
//! `--set` and shared addresses of the page, and the user is told the new one.

use super::{get, insert, remove, shown};
use crate::error::{Error, Result};
use toml::Table;

/// Each earlier name of a key with its name now.
pub const RENAMED: [(&str, &str); 26] = [
    ("model.rope_layout", "model.rope.layout"),
    ("model.rope_theta", "model.rope.theta"),
    ("model.rope_scaling", "model.rope.scaling"),
    ("model.rope_factor", "model.rope.factor"),
    ("model.rope_original_context", "model.rope.original_context"),
    ("model.rope_low_freq_factor", "model.rope.low_freq_factor"),
    ("model.rope_high_freq_factor", "model.rope.high_freq_factor"),
    ("model.rope_local_theta", "model.rope.local_theta"),
    ("model.sliding_window", "model.attention.sliding_window"),
    ("model.global_every", "model.attention.full_attention_every"),
    ("model.global_offset", "model.attention.full_attention_offset"),
    ("model.prefix_attention", "model.attention.prefix"),
    ("model.sparse_block", "model.attention.sparse_block"),
    ("model.sparse_local_blocks", "model.attention.sparse_local_blocks"),
    ("model.sparse_global_tokens", "model.attention.sparse_global_tokens"),
    ("model.attention_scale", "model.attention.scale"),
    ("model.attention_softcap", "model.attention.softcap"),
    ("model.qk_norm", "model.attention.qk_norm"),
    ("model.qkv_bias", "model.attention.qkv_bias"),
    ("model.n_experts", "model.moe.n_experts"),
    ("model.experts_per_token", "model.moe.experts_per_token"),
    ("model.shared_expert_inner", "model.moe.shared_expert_inner"),
    ("model.normalize_experts", "model.moe.normalize"),
    ("model.expert_capacity", "model.moe.capacity"),
    ("model.router_aux_loss", "model.moe.aux_loss"),
    ("model.router_z_loss", "model.moe.z_loss"),
];

/// The present name of a key with this earlier name.
pub(super) fn current(key: &str) -> Option<&'static str> {
    RENAMED.iter().find(|(earlier, _)| *earlier == key).map(|(_, now)| *now)
}

/// The earlier name of a key.
pub(super) fn earlier(key: &str) -> Option<&'static str> {
    RENAMED.iter().find(|(_, now)| *now == key).map(|(earlier, _)| *earlier)
}

pub(super) fn note(earlier: &str, now: &str) -> String {
    format!("`{earlier}` is called `{now}` now")
}

/// Moves entries from earlier names to the present names of their keys; returns a note for each.
///
/// # Errors
/// The earlier name, with [`Error::InvalidValue`], if both names are set.
pub(super) fn rename(table: &mut Table) -> Result<Vec<String>, Box<(String, Error)>> {
    let mut notes = Vec::new();
    for (earlier, now) in RENAMED {
        let Some(value) = remove(table, earlier) else { continue };
        if get(table, now).is_some() {
            let error = Error::InvalidValue {
                key: earlier.into(),
                value: shown(&value),
                message: format!("it is called `{now}` now, which is set too"),
                hint: Some("leave the earlier name out".into()),
            };
            return Err(Box::new((earlier.into(), error)));
        }
        notes.push(note(earlier, now));
        insert(table, now, value);
    }
    Ok(notes)
}
