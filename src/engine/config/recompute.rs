//! Choice of the activations that are computed again in the backward pass.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Activations that are computed again in the backward pass instead of saved. In a file it is `none`, `selective`,
/// `blocks` or `every N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recompute {
    /// All activations are saved.
    #[default]
    None,
    /// Those of the feed-forward layer of every block, the MLP or the experts, which are the most for what they cost.
    Selective,
    /// Those of every block, of which only the input is saved.
    Blocks,
    /// Those of every n-th block, the first one included.
    Every(usize),
}

/// Part of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartOfBlock {
    Whole,
    FeedForward,
}

impl Recompute {
    /// The part of block `index` that is computed again.
    pub fn part_of(self, index: usize) -> Option<PartOfBlock> {
        match self {
            Self::None => None,
            Self::Selective => Some(PartOfBlock::FeedForward),
            Self::Blocks => Some(PartOfBlock::Whole),
            Self::Every(n) => index.is_multiple_of(n).then_some(PartOfBlock::Whole),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "selective" => Some(Self::Selective),
            "blocks" => Some(Self::Blocks),
            _ => {
                let n = text.strip_prefix("every ")?.trim().parse().ok()?;
                (n > 0).then_some(Self::Every(n))
            }
        }
    }
}

impl Serialize for Recompute {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Selective => serializer.serialize_str("selective"),
            Self::Blocks => serializer.serialize_str("blocks"),
            Self::Every(n) => serializer.collect_str(&format_args!("every {n}")),
        }
    }
}

impl<'de> Deserialize<'de> for Recompute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Forms offer these values, and messages name them.
        let known = &["none", "selective", "blocks", "every 2"];
        Self::parse(&text).ok_or_else(|| D::Error::unknown_variant(&text, known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_value_reads_back_and_others_are_refused() {
        let values = [Recompute::None, Recompute::Selective, Recompute::Blocks, Recompute::Every(3)];
        for (text, value) in ["none", "selective", "blocks", "every 3"].into_iter().zip(values) {
            let mut config = Config::default();
            config.apply(&[format!("train.recompute={text}")]).unwrap();
            assert_eq!(config.train.recompute, value);
            let saved = config.to_toml().unwrap();
            assert!(saved.contains(&format!("recompute = \"{text}\"")), "{saved}");
            assert_eq!(Config::from_toml(&saved, "`saved`").unwrap(), config);
        }
        for text in ["all", "every", "every 0", "every -1", "every two", "2", "true"] {
            let error = Config::default().apply(&[format!("train.recompute={text}")]).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(&format!("`{text}` for `train.recompute`")), "{message}");
            assert!(message.contains("`none`, `selective`, `blocks`, `every 2`"), "{message}");
        }
    }
}
