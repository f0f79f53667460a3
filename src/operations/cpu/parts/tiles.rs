//! Strips multiplied by the tile registers (AMX).

use super::{Line, SIDE, STRIP, load, step_lines, store};
use crate::cpu::{few_rows::Target, gemm::Into};
use std::{
    arch::{asm, x86_64::__cpuid_count},
    sync::LazyLock,
};

/// Parts in the order of their products, which keeps most tiles in place: of the first matrix, and of the second.
const fn order(parts: usize) -> &'static [(usize, usize)] {
    match parts {
        1 => &[(0, 0)],
        _ => &[(1, 0), (0, 0), (0, 1)],
    }
}

/// Whether this processor has the registers, and the system lets this process use them.
static ARE_THERE: LazyLock<bool> = LazyLock::new(|| has_tiles() && is_permitted());

/// Whether this process may compute with tiles.
pub(super) fn are_there() -> bool {
    *ARE_THERE
}

fn has_tiles() -> bool {
    const BF16_AND_TILE: u32 = 1 << 22 | 1 << 24;
    let wide = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    wide && __cpuid_count(7, 0).edx & BF16_AND_TILE == BF16_AND_TILE
}

/// Asks Linux for the registers' state, which it keeps for processes that ask.
fn is_permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: the call changes nothing but what this process may use.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
        );
    }
    result == 0
}

/// Sizes of the tiles, as the processor reads them.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_of_row: [u16; 16],
    rows: [u8; 16],
}

static SHAPES: Shapes = {
    let (mut bytes_of_row, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        (bytes_of_row[tile], rows[tile]) = (64, SIDE as u8);
        tile += 1;
    }
    Shapes { palette: 1, start_row: 0, reserved: [0; 14], bytes_of_row, rows }
};

/// Sizes of the tiles, which the processor keeps until this is dropped.
pub(super) struct Configured;

/// Tells the processor the sizes of the tiles.
///
/// # Safety
/// [`are_there`] must have said so.
pub(super) unsafe fn configure() -> Configured {
    // SAFETY: the processor has these registers.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &SHAPES, options(nostack, readonly)) };
    Configured
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: the processor has these registers.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Multiplies a packed strip of rows by a packed strip of columns, into a part of `c` of this size.
///
/// # Safety
/// The part must lie in a matrix that nothing else uses at the same time, and the tiles must be configured.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn multiply<const PARTS: usize>(
    [a, b]: [&[Line]; 2],
    [rows, columns]: [usize; 2],
    c: Target,
    into: Into,
) {
    assert_eq!(a.len(), b.len());
    let steps = a.len() / step_lines(PARTS);
    let mut kept = [[Line([0; SIDE]); 2]; STRIP];
    let is_whole = rows == STRIP && columns == STRIP;
    // The corners of the four tiles, whose rows begin `width` bytes apart.
    let (start, width) = match is_whole {
        true => (c.0, c.1 * size_of::<f32>()),
        false => (kept.as_mut_ptr().cast(), STRIP * size_of::<f32>()),
    };
    let corner = |i: usize, j: usize| start.wrapping_byte_add(i * SIDE * width + j * size_of::<Line>());
    let corners = [corner(0, 0), corner(0, 1), corner(1, 0), corner(1, 1)];
    let (a, b) = (a.as_ptr(), b.as_ptr());
    // SAFETY: the strips and the part of `c` are as large as what is read and written, by the caller's promise.
    unsafe {
        if into == Into::Add {
            // In the same order as where the part is whole.
            if !is_whole {
                load(&mut kept, [rows, columns], c);
            }
            asm!(
                "tileloadd tmm0, [{0} + {4}]", "tileloadd tmm1, [{1} + {4}]",
                "tileloadd tmm2, [{2} + {4}]", "tileloadd tmm3, [{3} + {4}]",
                in(reg) corners[0], in(reg) corners[1], in(reg) corners[2], in(reg) corners[3], in(reg) width,
                options(nostack, readonly),
            );
        } else {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
        }
        match (rows > SIDE, columns > SIDE) {
            (true, true) => add_up::<PARTS, true, true>(a, b, steps),
            (true, false) => add_up::<PARTS, true, false>(a, b, steps),
            (false, true) => add_up::<PARTS, false, true>(a, b, steps),
            (false, false) => add_up::<PARTS, false, false>(a, b, steps),
        }
        asm!(
            "tilestored [{0} + {4}], tmm0", "tilestored [{1} + {4}], tmm1",
            "tilestored [{2} + {4}], tmm2", "tilestored [{3} + {4}], tmm3",
            in(reg) corners[0], in(reg) corners[1], in(reg) corners[2], in(reg) corners[3], in(reg) width,
            options(nostack),
        );
        if !is_whole {
            store(&kept, [rows, columns], c);
        }
    }
}

/// Adds the products of two packed strips to tiles 0 to 3, those of their second halves if there are such.
///
/// # Safety
/// The strips must have `steps` steps, and the tiles must be configured.
#[inline(always)]
unsafe fn add_up<const PARTS: usize, const BOTH_ROWS: bool, const BOTH_COLUMNS: bool>(
    a: *const Line,
    b: *const Line,
    steps: usize,
) {
    macro_rules! load {
        ($tile:literal, $from:expr) => {
            asm!(
                concat!("tileloadd tmm", $tile, ", [{} + {}]"),
                in(reg) $from, in(reg) size_of::<Line>(), options(nostack, readonly),
            )
        };
    }
    macro_rules! multiply {
        ($to:literal, $a:literal, $b:literal) => {
            asm!(concat!("tdpbf16ps tmm", $to, ", tmm", $a, ", tmm", $b), options(nostack, nomem))
        };
    }
    for step in 0..steps {
        let tile = |start: *const Line, part: usize| start.wrapping_add((step * PARTS + part) * 2 * SIDE);
        let mut held = (PARTS, PARTS);
        for &(part_of_a, part_of_b) in order(PARTS) {
            let (a, b) = (tile(a, part_of_a), tile(b, part_of_b));
            // SAFETY: the tiles lie in the strips, by the caller's promise.
            unsafe {
                if part_of_a != held.0 {
                    load!("4", a);
                    if BOTH_ROWS {
                        load!("5", a.add(SIDE));
                    }
                }
                if part_of_b != held.1 {
                    load!("6", b);
                    if BOTH_COLUMNS {
                        load!("7", b.add(SIDE));
                    }
                }
                multiply!("0", "4", "6");
                if BOTH_COLUMNS {
                    multiply!("1", "4", "7");
                }
                if BOTH_ROWS {
                    multiply!("2", "5", "6");
                }
                if BOTH_ROWS && BOTH_COLUMNS {
                    multiply!("3", "5", "7");
                }
            }
            held = (part_of_a, part_of_b);
        }
    }
}
