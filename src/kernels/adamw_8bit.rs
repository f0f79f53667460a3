//! AdamW with moments of 8 bits (arXiv:2110.02861) in one pass over weights, moments and gradient.

pub use kiln_operations::adamw_8bit::{AdamW8BitSpec, BLOCK, PER_WORD, SIGNED, UNSIGNED, blocks, words};

use super::{Mode, backend::Kernels};
use burn::{
    backend::Dispatch,
    tensor::{DType, Device, Int, IntDType, Tensor},
};
use kiln_operations::adamw_8bit::{Code, Factors};

/// Weights and moments of one parameter, flattened. Both moments are in one tensor, the first before the second.
#[derive(Clone)]
pub struct Updated {
    pub weights: Tensor<1>,
    /// Words of four codes each, of type u32.
    pub codes: Tensor<1, Int>,
    /// Largest magnitude of each block.
    pub largest: Tensor<1>,
}

impl Updated {
    /// Weights whose moments are 0.
    pub fn begin(weights: Tensor<1>) -> Self {
        let ([count], device) = (weights.dims(), weights.device());
        let codes = Tensor::zeros([2 * words(count)], (&device, DType::U32));
        Self { weights, codes, largest: Tensor::zeros([2 * blocks(count)], &device) }
    }
}

/// Updates weights and moments by `gradient * scale`, where `scale` is `[1]`. Happens in place if nothing
/// else holds the tensors.
pub fn adamw_8bit(
    old: Updated,
    gradient: Tensor<1>,
    scale: Tensor<1>,
    spec: AdamW8BitSpec,
    mode: Mode,
) -> Updated {
    if !mode.fuses(&old.weights) {
        return reference(old, gradient, scale, spec);
    }
    let halves = [&SIGNED.numbers, &SIGNED.middles, &UNSIGNED.numbers, &UNSIGNED.middles];
    let tables = table(&halves.map(|half| half.to_vec()).concat(), &old.weights.device());
    let (weights, codes, largest) = Dispatch::adamw_8bit(
        old.weights.into_dispatch(),
        old.codes.into_dispatch(),
        old.largest.into_dispatch(),
        gradient.into_dispatch(),
        scale.into_dispatch(),
        tables.into_dispatch(),
        spec,
    );
    Updated {
        weights: Tensor::from_dispatch(weights),
        codes: Tensor::from_dispatch(codes),
        largest: Tensor::from_dispatch(largest),
    }
}

/// Unfused reference of the update, made of Burn's operations.
pub fn reference(old: Updated, gradient: Tensor<1>, scale: Tensor<1>, spec: AdamW8BitSpec) -> Updated {
    let Factors { kept, added, decay, rate, epsilon } = spec.factors();
    let [count] = old.weights.dims();
    let gradient = gradient * scale.clone();
    let halves = |i: usize| Moment {
        codes: old.codes.clone().slice(i * words(count)..(i + 1) * words(count)).cast(IntDType::I32),
        largest: old.largest.clone().slice(i * blocks(count)..(i + 1) * blocks(count)),
    };
    let moment = |i: usize, code: &Code, new: Tensor<1>| {
        halves(i).read(code, count).mul_scalar(kept[i]) + new.mul_scalar(added[i])
    };
    let first = moment(0, &SIGNED, gradient.clone());
    let second = moment(1, &UNSIGNED, gradient.square());
    let change = first.clone().mul_scalar(rate) / second.clone().sqrt().add_scalar(epsilon);
    let weights = old.weights.clone().mul_scalar(decay) - change;
    let (first, second) = (Moment::of(first, &SIGNED), Moment::of(second, &UNSIGNED));
    let codes = Tensor::cat(vec![first.codes, second.codes], 0).cast(IntDType::U32);
    let largest = Tensor::cat(vec![first.largest, second.largest], 0);
    if !spec.skip_non_finite {
        return Updated { weights, codes, largest };
    }
    let finite = scale.is_finite();
    let keep = |new: Tensor<1>, old: Tensor<1>| {
        let mask = finite.clone().expand(new.dims());
        old.mask_where(mask, new)
    };
    let mask = finite.clone().expand(codes.dims());
    Updated {
        weights: keep(weights, old.weights),
        codes: old.codes.mask_where(mask, codes),
        largest: keep(largest, old.largest),
    }
}

/// One moment.
struct Moment {
    /// Words of four codes each, of type i32.
    codes: Tensor<1, Int>,
    /// Largest magnitude of each block.
    largest: Tensor<1>,
}

impl Moment {
    /// The numbers that the codes stand for, `[count]`.
    fn read(self, code: &Code, count: usize) -> Tensor<1> {
        let device = self.largest.device();
        let byte = |i: usize| {
            self.codes.clone().bitwise_right_shift_scalar(8 * i as i32).bitwise_and_scalar(255) // [W]
        };
        let codes: Tensor<2, Int> = Tensor::stack((0..PER_WORD).map(byte).collect(), 1); // [W, 4]
        let shares = table(&code.numbers, &device).select(0, codes.flatten::<1>(0, 1)); // [4 W]
        let shares = in_blocks(shares.slice(0..count)); // [blocks, BLOCK]
        let [blocks, _] = shares.dims();
        let numbers = shares * self.largest.reshape([blocks, 1]); // [blocks, BLOCK]
        numbers.flatten::<1>(0, 1).slice(0..count)
    }

    /// The nearest codes of numbers, `[count]`.
    fn of(numbers: Tensor<1>, code: &Code) -> Self {
        let ([count], device) = (numbers.dims(), numbers.device());
        let numbers = in_blocks(numbers); // [blocks, BLOCK]
        // What is not finite makes the sum NaN, which a maximum may drop.
        let spoilt = numbers.clone().mul_scalar(0.0).sum_dim(1); // [blocks, 1]
        let largest = numbers.clone().abs().max_dim(1) + spoilt; // [blocks, 1]
        let divisor = largest.clone().mask_fill(largest.clone().lower_equal_scalar(0.0), 1.0);
        let shares = (numbers / divisor).flatten::<1>(0, 1); // [blocks * BLOCK]
        let middles = table(&code.middles[..255], &device);
        let mut codes = Tensor::<1, Int>::zeros(shares.dims(), (&device, DType::I32));
        for step in [128, 64, 32, 16, 8, 4, 2, 1] {
            let further = codes.clone().add_scalar(step);
            let middle = middles.clone().select(0, further.clone().sub_scalar(1));
            codes = codes.mask_where(middle.lower(shares.clone()), further);
        }
        let count = words(count) * PER_WORD;
        let codes = codes.slice(0..count).reshape([count / PER_WORD, PER_WORD]); // [W, 4]
        let byte = |i: usize| {
            let byte = codes.clone().slice([0..count / PER_WORD, i..i + 1]).flatten::<1>(0, 1); // [W]
            byte.bitwise_left_shift_scalar(8 * i as i32)
        };
        let codes = byte(0).bitwise_or(byte(1)).bitwise_or(byte(2)).bitwise_or(byte(3));
        let [blocks, _] = largest.dims();
        Self { codes, largest: largest.reshape([blocks]) }
    }
}

fn table(numbers: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_floats(numbers, device)
}

/// Cuts numbers into blocks, the last of which ends with zeros: `[N]` -> `[blocks, BLOCK]`.
fn in_blocks(numbers: Tensor<1>) -> Tensor<2> {
    let [count] = numbers.dims();
    let missing = blocks(count) * BLOCK - count;
    let whole = match missing {
        0 => numbers,
        _ => Tensor::cat(vec![numbers.clone(), Tensor::zeros([missing], &numbers.device())], 0),
    };
    whole.reshape([blocks(count), BLOCK])
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_the_reference() {
        let device = Device::flex();
        for count in [1, 7, 256, 300, 10_000] {
            let weights = Tensor::<1>::ones([count], &device);
            let (mut fused, mut unfused) = (Updated::begin(weights.clone()), Updated::begin(weights));
            for step in 1..=4 {
                let gradient: Vec<f32> = (0..count).map(|i| ((i * 7 + step) as f32).sin()).collect();
                let gradient = Tensor::<1>::from_floats(gradient.as_slice(), &device);
                // The third step is skipped.
                let scale = if step == 3 { f32::INFINITY } else { 0.5 };
                let scale = Tensor::<1>::from_floats([scale], &device);
                let spec = AdamW8BitSpec {
                    learning_rate: 0.01,
                    beta1: 0.9,
                    beta2: 0.95,
                    epsilon: 1e-8,
                    weight_decay: 0.1,
                    updates: step,
                    skip_non_finite: true,
                };
                fused = adamw_8bit(fused, gradient.clone(), scale.clone(), spec, Mode::Fused);
                unfused = adamw_8bit(unfused, gradient, scale, spec, Mode::Reference);
                let codes =
                    |updated: &Updated| updated.codes.clone().into_data().try_to_vec::<u32>().unwrap();
                assert_eq!(codes(&fused), codes(&unfused), "{count}, step {step}");
                let floats = |x: &Tensor<1>| x.clone().into_data().try_to_vec::<f32>().unwrap();
                assert_eq!(floats(&fused.largest), floats(&unfused.largest), "{count}, step {step}");
                let pairs = floats(&fused.weights).into_iter().zip(floats(&unfused.weights));
                let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart < 1e-6, "{count}, step {step}: {apart}");
            }
        }
    }
}
