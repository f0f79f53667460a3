//! The gradient of an embedding table, in an order that does not depend on the device: no atomics.
//!
//! Every place of the text learns how often its token came before it and where it comes next. Then the rows
//! of up to [`RUN`] places of one token are added up for each run of them, and last the sums of the runs.
//! So nothing waits for more than some dozens of additions, be there few tokens in all or one very frequent.

use super::launch::{Grid, dense, floats, length, room, room_of, width};
use burn::{backend::cubecl::dtype_to_storage_type, tensor::DType};
use burn_cubecl::{
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

/// Places of a token whose rows are added up by one unit.
const RUN: u32 = 32;
/// Numbers that are kept of each place.
const LINKS: usize = 3;

/// For each place: how many places of its token are before it, the next one after it and the one [`RUN`]
/// later, or the number of places where there is none.
#[cube(launch_unchecked)]
fn link_kernel<I: Int>(tokens: &[I], links: &mut [u32], places: usize, #[define(I)] _type: ElemType) {
    let place = ABSOLUTE_POS;
    if place >= places {
        terminate!();
    }
    let token = tokens[place];
    let mut before = 0u32;
    for other in 0..place {
        if tokens[other] == token {
            before += 1u32;
        }
    }
    let mut after = 0u32;
    let mut next = places;
    let mut skip = places;
    let mut other = place + 1;
    while other < places {
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
            other = places;
        }
    }
    links[LINKS * place] = before;
    links[LINKS * place + 1] = next as u32;
    links[LINKS * place + 2] = skip as u32;
}

/// The sum of the rows of each run, at the row of its first place.
#[cube(launch_unchecked)]
fn run_kernel(links: &[u32], dy: &[f32], sums: &mut [f32], places: usize, width: usize) {
    let place = ABSOLUTE_POS / width;
    let column = ABSOLUTE_POS % width;
    if place >= places {
        terminate!();
    }
    if links[LINKS * place] % RUN == 0u32 {
        let mut total = 0.0f32;
        let mut at = place;
        let mut added = 0u32;
        while added < RUN && at < places {
            total += dy[at * width + column];
            at = links[LINKS * at + 1] as usize;
            added += 1u32;
        }
        sums[place * width + column] = total;
    }
}

/// The sum of the runs of each token.
#[cube(launch_unchecked)]
fn token_kernel<I: Int>(
    tokens: &[I],
    links: &[u32],
    sums: &[f32],
    table: &mut [f32],
    places: usize,
    width: usize,
    vocabulary: usize,
    #[define(I)] _type: ElemType,
) {
    let place = ABSOLUTE_POS / width;
    let column = ABSOLUTE_POS % width;
    if place >= places {
        terminate!();
    }
    // What is out of the table was refused, or read as zeros, in the forward pass.
    let token = u32::cast_from(tokens[place]) as usize;
    if links[LINKS * place] == 0u32 && token < vocabulary {
        let mut total = 0.0f32;
        let mut at = place;
        while at < places {
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

/// Sums of the rows of `dy`, `[.., width]`, at each token: `[vocabulary, width]`.
pub(super) fn backward(tokens: CubeTensor, dy: CubeTensor, vocabulary: usize) -> CubeTensor {
    let (tokens, dy) = (dense(tokens), floats(dy));
    let (places, width) = (length(&tokens), width(&dy));
    let table = room(&dy, [vocabulary, width]);
    let links = room_of(&dy, [places, LINKS], DType::U32);
    let sums = room(&dy, [places, width]);
    let kind = dtype_to_storage_type(tokens.dtype);
    let (places_grid, all) = (Grid::units(&dy, places), Grid::units(&dy, places * width));
    let whole = Grid::units(&dy, vocabulary * width);
    // SAFETY: units beyond the last place, or the last number of the table, end at once; links lead to
    // places, or to their number, which no unit reads at; tokens beyond the table are left out.
    unsafe {
        zero_kernel::launch_unchecked(
            &whole.client,
            whole.count,
            whole.dim,
            table.clone().into_buffer_arg(),
            vocabulary * width,
        );
        link_kernel::launch_unchecked(
            &places_grid.client,
            places_grid.count,
            places_grid.dim,
            tokens.clone().into_buffer_arg(),
            links.clone().into_buffer_arg(),
            places,
            kind,
        );
        run_kernel::launch_unchecked(
            &all.client,
            all.count.clone(),
            all.dim,
            links.clone().into_buffer_arg(),
            dy.into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            places,
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
            places,
            width,
            vocabulary,
            kind,
        );
    }
    table
}
