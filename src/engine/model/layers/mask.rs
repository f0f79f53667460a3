//! Attention masks, which exclude later tokens, tokens outside a sliding window or sparse blocks, and
//! padding.

use crate::{
    config::{Architecture, ModelConfig},
    kernels::attention::{Window, document_mask, union},
};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

/// The parts of a stack's mask that do not depend on the tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mask {
    /// Whether later keys are masked.
    causal: bool,
    /// Length of the window in layers with a sliding window; 0 if no layer has one.
    window: usize,
    sparse: Option<Sparse>,
}

/// Block-sparse attention: blocks of tokens attend to neighbouring blocks, and some tokens attend to all and
/// are attended to by all (arXiv:2007.14062).
#[derive(Debug, Clone, Copy)]
struct Sparse {
    block: usize,
    local_blocks: usize,
    global_tokens: usize,
}

impl Sparse {
    fn attends(&self, query: usize, key: usize) -> bool {
        let near = (query / self.block).abs_diff(key / self.block) <= self.local_blocks;
        near || query < self.global_tokens || key < self.global_tokens
    }
}

/// The parts of the mask that depend on the batch: its padding, its prefix, its documents and its branches.
#[derive(Clone, Default)]
pub(crate) struct MaskInputs {
    /// Padding mask, `[B, S]`, true for padding.
    pub padding: Option<Tensor<2, Bool>>,
    /// Prefix mask, `[B, S]`, true for tokens that earlier ones attend to as well.
    pub prefix: Option<Tensor<2, Bool>>,
    /// Number of each token's document, `[B, T]`, if rows are packed. It is not part of the mask, since kernels
    /// skip what is outside a token's document.
    pub documents: Option<Tensor<2, Int>>,
    /// Number of each token's branch, `[B, T]`, if texts of a row begin alike.
    pub branches: Option<Tensor<2, Int>>,
}

impl Mask {
    /// Makes the mask of a decoder's stack (`causal`) or an encoder's.
    pub fn init(config: &ModelConfig, causal: bool) -> Self {
        // The encoder's text is long; the text that a decoder generates beside it has no window.
        let applies = causal == (config.architecture == Architecture::Decoder);
        let attention = config.attention;
        let sparse = attention.sparse_block.filter(|_| applies).map(|block| Sparse {
            block,
            local_blocks: attention.sparse_local_blocks,
            global_tokens: attention.sparse_global_tokens,
        });
        Self { causal, window: attention.sliding_window.filter(|_| applies).unwrap_or(0), sparse }
    }

    /// Whether some layers have a sliding window.
    pub fn has_window(&self) -> bool {
        self.window > 0
    }

    /// Builds the window of queries `offset..offset + time`, over keys `0..offset + time`, and the mask of
    /// keys inside it, `[1 or B, 1, T or 1, S]`. `in_window` selects the window of layers with a sliding
    /// window.
    pub fn build_mask(
        &self,
        time: usize,
        offset: usize,
        in_window: bool,
        mask_inputs: &MaskInputs,
        device: &Device,
    ) -> (Window, Option<Tensor<4, Bool>>) {
        let seen = offset + time;
        let mut window = if self.causal { Window::CAUSAL } else { Window::FULL };
        if in_window {
            // Half of it on each side where attention is bidirectional.
            window.left = if self.causal { self.window - 1 } else { self.window / 2 };
            window.right = if self.causal { 0 } else { self.window / 2 };
        }
        let mut masks = Vec::new();
        if let Some(prefix) = mask_inputs.prefix.as_ref().filter(|_| self.causal && time > 1) {
            // Not later, or later and of the prefix.
            window.right = usize::MAX;
            let [batch, keys] = prefix.dims();
            let shape = [batch, 1, time, keys];
            let later: Tensor<4, Bool> =
                Tensor::<2, Bool>::tril_mask([time, seen], offset as i64, device).unsqueeze();
            let other: Tensor<4, Bool> = prefix.clone().bool_not().reshape([batch, 1, 1, keys]);
            masks.push(later.expand(shape).bool_and(other.expand(shape)));
        }
        if let Some(sparse) = &self.sparse {
            let queries = offset..seen;
            let far: Vec<bool> =
                queries.flat_map(|query| (0..seen).map(move |key| !sparse.attends(query, key))).collect();
            let far = TensorData::new::<bool, _>(far, [time, seen]);
            masks.push(Tensor::<2, Bool>::from_data(far, device).unsqueeze());
        }
        masks.extend(mask_inputs.padding.as_ref().map(of_keys));
        masks.extend(mask_inputs.branches.as_ref().map(of_branches));
        (window, masks.into_iter().reduce(union))
    }
}

/// Converts a mask of keys, `[B, S]`, to one that is the same for all queries, `[B, 1, 1, S]`.
pub(crate) fn of_keys(padding: &Tensor<2, Bool>) -> Tensor<4, Bool> {
    let [batch, keys] = padding.dims();
    padding.clone().reshape([batch, 1, 1, keys])
}

/// Mask of the keys of other branches than the query's, but for the trunk, `[B, 1, T, T]`.
fn of_branches(branches: &Tensor<2, Int>) -> Tensor<4, Bool> {
    let [batch, time] = branches.dims();
    let in_branch = branches.clone().equal_elem(0).bool_not().reshape([batch, 1, 1, time]);
    document_mask(branches).bool_and(in_branch.expand([batch, 1, time, time]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::AttentionConfig, kernels::attention::window_mask};

    fn mask(
        config: &ModelConfig,
        causal: bool,
        [time, offset]: [usize; 2],
        in_window: bool,
        mask_inputs: &MaskInputs,
        device: &Device,
    ) -> Option<Tensor<4, Bool>> {
        let (window, mask) =
            Mask::init(config, causal).build_mask(time, offset, in_window, mask_inputs, device);
        let like = Tensor::<1>::zeros([1], device);
        window_mask(mask, [time, time + offset], window, &like)
    }

    /// Drawing of a mask, with `.` where a query (row) attends to a key (column).
    fn drawn(config: &ModelConfig, causal: bool, [time, offset]: [usize; 2], in_window: bool) -> Vec<String> {
        let device = crate::device::Choice::cpu().open().unwrap();
        let seen = time + offset;
        let mask = mask(config, causal, [time, offset], in_window, &MaskInputs::default(), &device);
        let flags = match mask {
            Some(mask) => mask.expand([1, 1, time, seen]).into_data().iter::<bool>().collect(),
            None => vec![false; time * seen],
        };
        let row = |row: &[bool]| row.iter().map(|mask| if *mask { '#' } else { '.' }).collect();
        flags.chunks(seen).map(row).collect()
    }

    #[test]
    fn windows_are_causal_or_bidirectional() {
        let decoder = ModelConfig {
            attention: AttentionConfig { sliding_window: Some(2), ..Default::default() },
            ..Default::default()
        };
        assert_eq!(drawn(&decoder, true, [4, 0], true), [".###", "..##", "#..#", "##.."]);
        assert_eq!(drawn(&decoder, true, [1, 3], true), ["##.."]);
        assert_eq!(drawn(&decoder, true, [3, 0], false), [".##", "..#", "..."]);
        let encoder = ModelConfig { architecture: Architecture::Encoder, ..decoder };
        assert_eq!(drawn(&encoder, false, [4, 0], true), ["..##", "...#", "#...", "##.."]);
        assert_eq!(drawn(&encoder, false, [2, 0], false), ["..", ".."]);
    }

    #[test]
    fn sparse_blocks_attend_to_their_neighbours_and_the_first_tokens() {
        let config = ModelConfig {
            architecture: Architecture::Encoder,
            attention: AttentionConfig {
                sparse_block: Some(2),
                sparse_local_blocks: 0,
                sparse_global_tokens: 1,
                ..Default::default()
            },
            ..Default::default()
        };
        assert_eq!(drawn(&config, false, [5, 0], false), [".....", "..###", ".#..#", ".#..#", ".###."]);
        let decoder = ModelConfig { architecture: Architecture::Decoder, ..config };
        assert_eq!(drawn(&decoder, true, [4, 0], false), [".###", "..##", ".#.#", ".#.."]);
        assert_eq!(drawn(&decoder, true, [1, 4], false), [".###."]);
    }

    #[test]
    fn branches_see_the_trunk_and_themselves() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let branches = Some(Tensor::from_data([[0, 0, 2, 2, 4]], &device));
        let mask_inputs = MaskInputs { branches, ..MaskInputs::default() };
        let mask = mask(&ModelConfig::default(), true, [5, 0], false, &mask_inputs, &device).unwrap();
        let flags: Vec<bool> = mask.into_data().iter::<bool>().collect();
        let row = |row: &[bool]| row.iter().map(|mask| if *mask { '#' } else { '.' }).collect::<String>();
        let rows: Vec<String> = flags.chunks(5).map(row).collect();
        assert_eq!(rows, [".####", "..###", "...##", "....#", "..##."]);
    }

    #[test]
    fn a_prefix_is_seen_by_earlier_tokens_and_padding_by_none() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let mask_inputs = MaskInputs {
            prefix: Some(Tensor::from_data([[true, true, false], [false, false, false]], &device)),
            padding: Some(Tensor::from_data([[false, false, false], [true, false, false]], &device)),
            ..MaskInputs::default()
        };
        let mask = mask(&ModelConfig::default(), true, [3, 0], false, &mask_inputs, &device).unwrap();
        let flags: Vec<bool> = mask.into_data().iter::<bool>().collect();
        let (first, second) = flags.split_at(9);
        assert_eq!(first, [false, false, true, false, false, true, false, false, false]);
        assert_eq!(second, [true, true, true, true, false, true, true, false, false]);
    }
}
