//! The gradient of an embedding table.

use super::parallel::{Shared, split};

/// Adds each row of `dy`, `[N, width]`, to the row of `table`, `[vocabulary, width]`, of its token. Threads
/// take columns, so that no two write the same element and rows are added in the order of the tokens.
pub fn add_rows(tokens: &[i32], dy: &[f32], table: &mut [f32], width: usize) {
    let vocabulary = table.len() / width.max(1);
    let shared = Shared::new(table);
    let grain = (1usize << 14).div_ceil(tokens.len().max(1)).next_multiple_of(16);
    split(width, grain, |columns| {
        for (token, dy) in tokens.iter().zip(dy.chunks_exact(width)) {
            // What is out of the table was refused, or read as zeros, in the forward pass.
            let Some(row) = usize::try_from(*token).ok().filter(|row| *row < vocabulary) else { continue };
            // SAFETY: every part has columns of its own.
            let row = unsafe { shared.part(row * width + columns.start..row * width + columns.end) };
            for (sum, dy) in row.iter_mut().zip(&dy[columns.clone()]) {
                *sum += dy;
            }
        }
    });
}
