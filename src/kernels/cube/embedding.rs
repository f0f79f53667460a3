//! The gradient of an embedding table, added in an order that does not depend on the device, without atomics.
//!
//! A first kernel finds for every position how often its token occurs before it and where it occurs next. A
//! second one adds the rows of each run of up to [`RUN`] positions of the same token, and a third one adds
//! the runs. So nothing waits for more than some dozens of additions, whether there are few tokens in all or
//! one very frequent one.

use super::launch::{Grid, alloc, alloc_dtype, contiguous, floats, length, width};
use burn::{backend::cubecl::dtype_to_storage_type, tensor::DType};
use burn_cubecl::{
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

/// Number of positions of a token whose rows one unit adds.
const RUN: u32 = 32;
/// Number of values that are stored for each position.
const LINKS: usize = 3;

/// Finds for each position: how many positions before it have its token, the next position with its token,
/// and the one [`RUN`] occurrences later. A position that does not exist is stored as the number of
/// positions.
#[cube(launch_unchecked)]
fn link_kernel<I: Int>(tokens: &[I], links: &mut [u32], positions: usize, #[define(I)] _type: ElemType) {
    let position = ABSOLUTE_POS;
    if position >= positions {
        terminate!();
    }
    let token = tokens[position];
    let mut before = 0u32;
    for other in 0..position {
        if tokens[other] == token {
            before += 1u32;
        }
    }
    let mut after = 0u32;
    let mut next = positions;
    let mut skip = positions;
    let mut other = position + 1;
    while other < positions {
        if tokens[other] == token {
            after += 1u32;
            if after == 1u32 {
                next = other;
            }
            if after == RUN {
                skip = other;
            }
        }
        other += 1;
        if after == RUN {
            other = positions;
        }
    }
    links[LINKS * position] = before;
    links[LINKS * position + 1] = next as u32;
    links[LINKS * position + 2] = skip as u32;
}

/// Adds the rows of each run and stores the sum at the first position of the run.
#[cube(launch_unchecked)]
fn run_kernel(links: &[u32], dy: &[f32], sums: &mut [f32], positions: usize, width: usize) {
    let position = ABSOLUTE_POS / width;
    let column = ABSOLUTE_POS % width;
    if position >= positions {
        terminate!();
    }
    if links[LINKS * position] % RUN == 0u32 {
        let mut total = 0.0f32;
        let mut at = position;
        let mut added = 0u32;
        while added < RUN && at < positions {
            total += dy[at * width + column];
            at = links[LINKS * at + 1] as usize;
            added += 1u32;
        }
        sums[position * width + column] = total;
    }
}

/// Adds the runs of each token.
#[cube(launch_unchecked)]
fn token_kernel<I: Int>(
    tokens: &[I],
    links: &[u32],
    sums: &[f32],
    table: &mut [f32],
    positions: usize,
    width: usize,
    vocabulary: usize,
    #[define(I)] _type: ElemType,
) {
    let position = ABSOLUTE_POS / width;
    let column = ABSOLUTE_POS % width;
    if position >= positions {
        terminate!();
    }
    // What is out of the table was refused, or read as zeros, in the forward pass.
    let token = u32::cast_from(tokens[position]) as usize;
    if links[LINKS * position] == 0u32 && token < vocabulary {
        let mut total = 0.0f32;
        let mut at = position;
        while at < positions {
            total += sums[at * width + column];
            at = links[LINKS * at + 2] as usize;
        }
        table[token * width + column] = total;
    }
}

#[cube(launch_unchecked)]
fn zero_kernel(table: &mut [f32], count: usize) {
    if ABSOLUTE_POS < count {
        table[ABSOLUTE_POS] = 0.0;
    }
}

/// Gradient of the table, `[vocabulary, width]`: the sum of the rows of `dy`, `[.., width]`, for each token.
pub(super) fn backward(tokens: CubeTensor, dy: CubeTensor, vocabulary: usize) -> CubeTensor {
    let (tokens, dy) = (contiguous(tokens), floats(dy));
    let (positions, width) = (length(&tokens), width(&dy));
    let table = alloc(&dy, [vocabulary, width]);
    let links = alloc_dtype(&dy, [positions, LINKS], DType::U32);
    let sums = alloc(&dy, [positions, width]);
    let kind = dtype_to_storage_type(tokens.dtype);
    let (positions_grid, all) = (Grid::units(&dy, positions), Grid::units(&dy, positions * width));
    let whole = Grid::units(&dy, vocabulary * width);
    // SAFETY: units beyond the last position, or the last number of the table, end at once; links lead to
    // positions, or to their number, which no unit reads at; tokens beyond the table are left out.
    unsafe {
        zero_kernel::launch_unchecked(
            &whole.client,
            whole.count,
            whole.dim,
            table.clone().into_buffer_arg(),
            vocabulary * width,
        );
        link_kernel::launch_unchecked(
            &positions_grid.client,
            positions_grid.count,
            positions_grid.dim,
            tokens.clone().into_buffer_arg(),
            links.clone().into_buffer_arg(),
            positions,
            kind,
        );
        run_kernel::launch_unchecked(
            &all.client,
            all.count.clone(),
            all.dim,
            links.clone().into_buffer_arg(),
            dy.into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            positions,
            width,
        );
        token_kernel::launch_unchecked(
            &all.client,
            all.count,
            all.dim,
            tokens.into_buffer_arg(),
            links.into_buffer_arg(),
            sums.into_buffer_arg(),
            table.clone().into_buffer_arg(),
            positions,
            width,
            vocabulary,
            kind,
        );
    }
    table
}
