//! Every fused kernel computes the same as its unfused reference on the CPU, gradients included, over odd,
//! tiny, long and non-contiguous shapes: on the CPU, and on the adapters of `devices.rs`.

use crate::devices::others;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use kiln::{
    config::Activation,
    device::{self, Choice},
    kernels::{
        Mode, Precision, activation, adamw, adamw_8bit,
        attention::{self, AttentionSpec, PADDING, Projected, Window},
        cross_entropy::{self, CrossEntropySpec, Targets},
        dropout::{self, Dropout},
        embedding::embedding,
        linear::{self, Epilogue, Normalization, Prologue},
        low_rank::LowRank,
        norm::{self, NormSpec},
        rope::{self, RopeSpec},
    },
};
use std::cell::Cell;

/// A comparison of the kernels on a device with the reference, and its bounds.
struct Comparison<'a> {
    device: &'a Device,
    /// Largest allowed differences of outputs and of gradients, as a share of the largest number.
    bounds: [f32; 2],
    worst: [Cell<f32>; 2],
    seed: Cell<u32>,
}

impl<'a> Comparison<'a> {
    fn new(device: &'a Device, bounds: [f32; 2]) -> Self {
        Self { device, bounds, worst: Default::default(), seed: Cell::new(1) }
    }

    /// Makes numbers in -1..1, different ones at every call.
    fn numbers(&self, count: usize) -> Vec<f32> {
        let mut state = self.seed.get();
        self.seed.set(state.wrapping_add(0x9e37));
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Compares output and gradients of a function, fused on the device and unfused on the CPU. `lengths` are
    /// those of its inputs.
    fn check(&self, name: &str, lengths: &[usize], compute: impl Fn(&[Tensor<1>], Mode) -> Tensor<1>) {
        let inputs: Vec<Vec<f32>> = lengths.iter().map(|length| self.numbers(*length)).collect();
        let all = |device: &Device, mode| {
            let device = device.clone().autodiff();
            let inputs = inputs.iter().map(|values| Tensor::from_floats(&values[..], &device).require_grad());
            let inputs: Vec<Tensor<1>> = inputs.collect();
            let output = compute(&inputs, mode);
            // Another weight for each number, lest errors cancel out.
            let count = output.dims()[0];
            let probe: Vec<f32> = (0..count).map(|i| (i as f32 * 0.7).sin() + 0.2).collect();
            let gradients = (output.clone() * Tensor::from_floats(&probe[..], &device)).sum().backward();
            let gradients = inputs.iter().map(|input| input.grad(&gradients).unwrap());
            std::iter::once(output.inner()).chain(gradients).map(values).collect::<Vec<_>>()
        };
        let found = all(self.device, Mode::Fused);
        let expected = all(&cpu(), Mode::Reference);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            self.close(name, i, found, expected);
        }
    }

    /// Compares two lists of numbers; `part` is 0 for outputs, otherwise they are gradients.
    fn close(&self, name: &str, part: usize, found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len(), "{name}, part {part}");
        let largest = expected.iter().fold(1e-3f32, |most, value| most.max(value.abs()));
        let kind = part.min(1);
        for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
            let difference = (found - expected).abs() / largest;
            let close = difference <= self.bounds[kind] || self.bounds[kind].is_infinite();
            assert!(close, "{name}, part {part}, place {place}: {found} instead of {expected}");
            self.worst[kind].set(self.worst[kind].get().max(difference));
        }
    }
}

fn cpu() -> Device {
    Choice::cpu().open().unwrap()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn linear(c: &Comparison) {
    for ([rows, inputs, outputs], transposed) in
        [([1, 1, 1], false), ([6, 7, 5], true), ([6, 7, 5], false), ([66, 33, 65], true)]
    {
        let lengths = [rows * inputs, inputs * outputs, outputs, rows * outputs];
        c.check("linear", &lengths, |inputs_of, mode| {
            let x = inputs_of[0].clone().reshape([2.min(rows), rows / 2.min(rows), inputs]);
            let shape = if transposed { [outputs, inputs] } else { [inputs, outputs] };
            let residual = inputs_of[3].clone().reshape([2.min(rows), rows / 2.min(rows), outputs]);
            let bias = Some(inputs_of[2].clone());
            let epilogue = Epilogue { bias, residual: Some(residual), low_rank: None };
            linear::linear(x, inputs_of[1].clone().reshape(shape), transposed, epilogue, mode).flatten(0, 2)
        });
    }
}

/// Compares a linear layer after a norm or an activation, whose result is recomputed in the backward pass.
fn linear_after(c: &Comparison) {
    for [rows, inputs, outputs] in [[1, 2, 1], [7, 6, 5], [66, 34, 65]] {
        for activation in [Activation::Gelu, Activation::Swiglu] {
            let inner = if activation.is_gated() { inputs / 2 } else { inputs };
            c.check("activated linear", &[rows * inputs, inner * outputs, outputs], |parts, mode| {
                let source = Prologue::Activated(parts[0].clone().reshape([rows, inputs]), activation);
                let epilogue = Epilogue { bias: Some(parts[2].clone()), ..Default::default() };
                linear::linear(source, parts[1].clone().reshape([inner, outputs]), false, epilogue, mode)
                    .flatten::<1>(0, 1)
            });
        }
        let lengths = [rows * inputs, inputs * outputs, inputs, inputs, rows * outputs];
        c.check("normalized linear", &lengths, |parts, mode| {
            let spec = NormSpec { centered: true, epsilon: 1e-2, offset: 0.0 };
            let norm = Normalization { weight: parts[2].clone(), bias: Some(parts[3].clone()), spec };
            let source = Prologue::Normalized(parts[0].clone().reshape([rows, inputs]), norm);
            let residual = Some(parts[4].clone().reshape([rows, outputs]));
            let epilogue = Epilogue { residual, ..Default::default() };
            linear::linear(source, parts[1].clone().reshape([outputs, inputs]), true, epilogue, mode)
                .flatten::<1>(0, 1)
        });
    }
}

/// Compares a linear layer with a low-rank change, after all that may precede it, with and without dropout.
fn adapted_linear(c: &Comparison) {
    for [rows, inputs, outputs, rank] in [[1, 2, 1, 1], [7, 6, 5, 3], [66, 34, 65, 8]] {
        for (kind, probability) in [(0, 0.0), (1, 0.0), (2, 0.0), (0, 0.4), (1, 0.4), (2, 0.4)] {
            let inner = if kind == 1 { inputs / 2 } else { inputs };
            let lengths = [
                rows * inputs,
                inner * outputs,
                outputs,
                rows * outputs,
                inner * rank,
                rank * outputs,
                inputs,
            ];
            c.check("adapted linear", &lengths, |parts, mode| {
                let x: Tensor<3> = parts[0].clone().reshape([1, rows, inputs]);
                let source = match kind {
                    0 => Prologue::Plain(x),
                    1 => Prologue::Activated(x, Activation::Swiglu),
                    _ => {
                        let spec = NormSpec { centered: false, epsilon: 1e-2, offset: 0.0 };
                        let weight = parts[6].clone();
                        Prologue::Normalized(x, Normalization { weight, bias: None, spec })
                    }
                };
                let low_rank = LowRank {
                    down: parts[4].clone().reshape([inner, rank]),
                    up: parts[5].clone().reshape([rank, outputs]),
                    dropout: Dropout { probability, seed: 5, first_row: 2 },
                };
                let epilogue = Epilogue {
                    bias: Some(parts[2].clone()),
                    residual: Some(parts[3].clone().reshape([1, rows, outputs])),
                    low_rank: Some(low_rank),
                };
                let weight = parts[1].clone().reshape([inner, outputs]);
                let y = linear::linear(source, weight, false, epilogue, mode).flatten::<1>(0, 2);
                if kind == 2 { y } else { y + parts[6].clone().sum() }
            });
        }
    }
}

fn norm(c: &Comparison) {
    for [rows, width] in [[1, 1], [3, 7], [1, 65], [300, 3], [5, 130]] {
        for (centered, offset, biased) in [(true, 0.0, true), (false, 1.0, false), (false, 0.0, true)] {
            let spec = NormSpec { centered, epsilon: 1e-2, offset };
            c.check("norm", &[rows * width, width, width], |inputs, mode| {
                // Rows of a transposed tensor: with gaps.
                let x: Tensor<2> = inputs[0].clone().reshape([width, rows]).swap_dims(0, 1);
                let bias = biased.then(|| inputs[2].clone());
                let y = norm::norm(x, inputs[1].clone(), bias, spec, mode).flatten(0, 1);
                if biased { y } else { y + inputs[2].clone().sum() }
            });
        }
    }
}

fn activations(c: &Comparison) {
    use Activation::*;
    for activation in [Relu, Gelu, GeluTanh, Swiglu, Geglu, GegluExact] {
        for shape @ [rows, width] in [[1, 2], [3, 14], [65, 6]] {
            c.check("activation", &[rows * width], |inputs, mode| {
                let x: Tensor<2> = inputs[0].clone().mul_scalar(4.0).reshape([width, rows]).swap_dims(0, 1);
                assert_eq!(x.dims(), shape);
                activation::activate(x, activation, mode).flatten(0, 1)
            });
        }
    }
}

fn ropes(c: &Comparison) {
    for (interleaved, inverse) in [(false, false), (true, false), (false, true), (true, true)] {
        for ([batch, time, heads, size], rest) in [([1, 1, 1, 2], 0), ([2, 3, 2, 6], 5), ([1, 65, 3, 4], 0)] {
            for rows in [1, batch] {
                let spec = RopeSpec { heads, head_size: size, interleaved, inverse };
                let width = heads * size + rest;
                let angles = c.numbers(rows * time * size / 2);
                c.check("rope", &[batch * time * width], |inputs, mode| {
                    let x = inputs[0].clone().reshape([batch, time, width]);
                    let angles = TensorData::new(angles.clone(), [rows, time, size / 2]);
                    let angles = Tensor::<3>::from_data(angles, &x.device());
                    rope::rotate(x, angles.clone().cos(), angles.sin(), spec, mode).flatten(0, 2)
                });
            }
        }
    }
}

fn dropouts(c: &Comparison) {
    for shape @ [rows, time, width] in [[1, 1, 1], [1, 3, 65], [11, 3, 7], [2, 1, 9]] {
        let count = rows * time * width;
        for probability in [0.0, 0.3, 1.0] {
            c.check("dropout", &[count, count], |inputs, mode| {
                let [x, residual] = [0, 1].map(|i| inputs[i].clone().reshape(shape));
                let once =
                    dropout::dropout(x, Some(residual), Dropout { probability, seed: 7, first_row: 0 }, mode);
                let twice = dropout::dropout(
                    once,
                    None,
                    Dropout { probability, seed: u32::MAX, first_row: u32::MAX },
                    mode,
                );
                twice.flatten(0, 2)
            });
        }
    }
}

fn embeddings(c: &Comparison) {
    for ([batch, time], vocabulary, width) in
        [([1, 1], 1, 1), ([2, 3], 50, 7), ([3, 65], 3, 5), ([1, 40], 1, 2)]
    {
        let tokens: Vec<i32> = (0..batch * time).map(|i| (i * i % 7 * i % vocabulary) as i32).collect();
        c.check("embedding", &[vocabulary * width], |inputs, mode| {
            let tokens = TensorData::new(tokens.clone(), [batch, time]);
            let tokens = Tensor::<2, Int>::from_data(tokens, &inputs[0].device().inner());
            embedding(inputs[0].clone().reshape([vocabulary, width]), tokens, mode).flatten(0, 2)
        });
    }
}

fn cross_entropies(c: &Comparison) {
    let plain = CrossEntropySpec {
        transposed: false,
        scale: 1.0,
        softcap: 0.0,
        label_smoothing: 0.0,
        z_loss: 0.0,
        precision: Precision::F32,
    };
    let all = CrossEntropySpec { scale: 0.5, softcap: 1.5, label_smoothing: 0.1, z_loss: 0.05, ..plain };
    let transposed = |spec| CrossEntropySpec { transposed: true, ..spec };
    for spec in [plain, transposed(plain), all, transposed(all)] {
        for [rows, width, vocabulary] in [[1, 1, 1], [3, 5, 7], [65, 8, 130]] {
            let tokens: Vec<i32> = (0..rows).map(|i| (i * 5 % vocabulary) as i32).collect();
            let kept: Vec<f32> = (0..rows).map(|i| if i % 4 == 2 { 0.0 } else { 1.0 }).collect();
            c.check("cross entropy", &[rows * width, width * vocabulary], |inputs, mode| {
                let states = inputs[0].clone().mul_scalar(2.0).reshape([rows, width]);
                let shape = if spec.transposed { [vocabulary, width] } else { [width, vocabulary] };
                let device = &states.device().inner();
                let targets = Targets {
                    tokens: Tensor::from_data(TensorData::new(tokens.clone(), [rows, 1]), device),
                    weights: Tensor::from_data(TensorData::new(kept.clone(), [rows, 1]), &states.device()),
                };
                let weight = inputs[1].clone().reshape(shape);
                cross_entropy::cross_entropy(states, weight, &targets, spec, mode)
            });
        }
    }
}

/// Makes the settings of causal or windowed attention from `[heads, kv_heads, head_size]`.
fn attention_spec([heads, kv_heads, head_size]: [usize; 3], window: Window) -> AttentionSpec {
    let scale = 1.0 / (head_size as f32).sqrt();
    let (dropout, precision) = (Dropout::NONE, Precision::F32);
    AttentionSpec { heads, kv_heads, head_size, scale, softcap: 0.0, window, dropout, precision }
}

/// Makes a mask, `[batch, 1, time or 1, seen]`, of every third key. The output of a query whose keys are all
/// masked has no meaning and may differ.
fn mask(batch: usize, time: usize, seen: usize, device: &Device) -> Tensor<4, Bool> {
    let flags: Vec<bool> = (0..batch * time * seen).map(|i| i % 3 == 1).collect();
    Tensor::from_data(TensorData::new(flags, [batch, 1, time, seen]), device)
}

fn attentions(c: &Comparison) {
    let dropout = Dropout { probability: 0.25, seed: 3, first_row: 6 };
    let window = Window { left: 2, right: 1 };
    let cases = [
        // B, T, S; 0: of the same tensor.
        ([1, 1, 0], attention_spec([1, 1, 1], Window::CAUSAL), 0),
        ([2, 3, 0], attention_spec([4, 2, 5], Window::CAUSAL), 0),
        ([1, 65, 0], attention_spec([2, 1, 8], Window::CAUSAL), 0),
        ([2, 40, 0], attention_spec([2, 2, 2], window), 1),
        ([2, 7, 0], AttentionSpec { dropout, softcap: 2.0, ..attention_spec([2, 1, 4], Window::FULL) }, 7),
        ([1, 3, 5], attention_spec([2, 2, 6], Window::FULL), 0),
        ([2, 2, 9], AttentionSpec { dropout, ..attention_spec([4, 1, 4], Window::CAUSAL) }, 2),
        ([1, 2, 0], attention_spec([1, 1, 64], Window::CAUSAL), 0),
        ([1, 2, 0], attention_spec([1, 1, 256], Window::CAUSAL), 0),
    ];
    for ([batch, time, other], spec, masked) in cases {
        let AttentionSpec { heads, kv_heads, head_size: size, .. } = spec;
        let seen = if other == 0 { time } else { other };
        let (own, pairs) = (heads * size, 2 * kv_heads * size);
        let lengths = match other {
            0 => vec![batch * time * (own + pairs)],
            _ => vec![batch * time * own, batch * other * pairs],
        };
        let name = format!("attention of {batch}, {time}, {other}, {spec:?}");
        c.check(&name, &lengths, |inputs, mode| {
            let projected = match other {
                0 => Projected::Together(inputs[0].clone().reshape([batch, time, own + pairs])),
                _ => Projected::Apart(
                    inputs[0].clone().reshape([batch, time, own]),
                    inputs[1].clone().reshape([batch, other, pairs]),
                ),
            };
            let device = &inputs[0].device().inner();
            let mask = (masked > 0).then(|| mask(batch, masked, seen, device));
            attention::attention(projected, mask, None, spec, mode).flatten(0, 2)
        });
    }
}

/// Compares attention of packed rows. Documents end within blocks of queries and at their borders, and one row
/// has padding, the other none.
fn packed_attention(c: &Comparison) {
    let dropout = Dropout { probability: 0.25, seed: 3, first_row: 6 };
    let grouped = attention_spec([4, 2, 5], Window::CAUSAL);
    for (time, spec, masked) in [
        (5, attention_spec([1, 1, 1], Window::CAUSAL), 0),
        (71, grouped, 0),
        (140, AttentionSpec { softcap: 2.0, ..grouped }, 0),
        (140, attention_spec([2, 2, 8], Window { left: 9, right: 0 }), 140),
        (71, AttentionSpec { dropout, ..attention_spec([2, 1, 4], Window { left: 70, right: 3 }) }, 0),
    ] {
        let borders: [&[usize]; 2] = [&[1, 3, 64, 65, 130], &[2, 70, 135]];
        let number = |row: usize, token: usize| match borders[row].iter().filter(|end| **end <= token).count()
        {
            3 if row == 1 => PADDING,
            _ if row == 1 && token + 1 == time => PADDING,
            number => number as i32,
        };
        let numbers: Vec<i32> = (0..2 * time).map(|i| number(i / time, i % time)).collect();
        let width = (spec.heads + 2 * spec.kv_heads) * spec.head_size;
        c.check(&format!("packed attention of {time}, {spec:?}"), &[2 * time * width], |inputs, mode| {
            let device = &inputs[0].device().inner();
            let documents = Tensor::from_data(TensorData::new(numbers.clone(), [2, time]), device);
            // No query of the short documents may be left without a key.
            let mask = (masked > 0).then(|| {
                let flags: Vec<bool> = (0..masked).map(|i| i % 3 == 1 && i > 6 && i < 60).collect();
                Tensor::from_data(TensorData::new(flags, [1, 1, 1, masked]), device)
            });
            let projected = Projected::Together(inputs[0].clone().reshape([2, time, width]));
            attention::attention(projected, mask, Some(documents), spec, mode).flatten(0, 2)
        });
    }
}

/// Compares attention over a KV cache that is longer than the keys and values in use.
fn cached_attention(c: &Comparison) {
    for ([batch, time, seen, room], spec) in [
        ([1, 1, 1, 1], attention_spec([1, 1, 3], Window::CAUSAL)),
        ([2, 1, 33, 64], attention_spec([4, 2, 8], Window::CAUSAL)),
        ([2, 3, 7, 9], attention_spec([2, 2, 5], Window { left: 3, right: 0 })),
    ] {
        let AttentionSpec { heads, kv_heads, head_size: size, .. } = spec;
        let [query, key, value] =
            [time * heads, room * kv_heads, room * kv_heads].map(|rows| c.numbers(batch * rows * size));
        let of = |device: &Device, mode| {
            let query = TensorData::new(query.clone(), [batch, time, heads, size]);
            let query = Tensor::<4>::from_data(query, device).swap_dims(1, 2);
            let [key, value] = [&key, &value].map(|values| {
                let memory = TensorData::new(values.clone(), [batch, kv_heads, room, size]);
                Tensor::<4>::from_data(memory, device).narrow(2, 0, seen)
            });
            let mask = (seen > 1).then(|| mask(batch, 1, seen, device));
            values_of(attention::cached(query, key, value, mask, spec, mode))
        };
        c.close("cached attention", 0, &of(c.device, Mode::Fused), &of(&cpu(), Mode::Reference));
    }
}

fn values_of(tensor: Tensor<3>) -> Vec<f32> {
    values(tensor)
}

fn optimizers(c: &Comparison) {
    use adamw::{AdamWSpec, Updated};
    let spec = AdamWSpec {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        updates: 3,
        skip_non_finite: true,
    };
    for count in [1, 65, 4099] {
        for scale in [0.5, f32::INFINITY, f32::NAN] {
            let numbers: [Vec<f32>; 4] = std::array::from_fn(|_| c.numbers(count));
            let of = |device: &Device, mode| {
                let [weights, first, second, gradient] =
                    numbers.each_ref().map(|values| Tensor::<1>::from_floats(&values[..], device));
                let old = Updated { weights, first, second: second.abs() };
                // What others still hold must not change.
                let before = old.clone();
                let scale = Tensor::from_floats([scale], device);
                let new = adamw::adamw(old, gradient, scale, spec, mode);
                [new.weights, new.first, new.second, before.weights, before.first].map(values)
            };
            let (found, expected) = (of(c.device, Mode::Fused), of(&cpu(), Mode::Reference));
            for (found, expected) in found.iter().zip(&expected) {
                c.close("adamw", 0, found, expected);
            }
        }
    }
    for count in [1, 65, 5000, 70_001] {
        let numbers = c.numbers(count);
        let of = |device: &Device, mode| {
            values(adamw::sum_of_squares(Tensor::from_floats(&numbers[..], device), mode))
        };
        c.close("sum of squares", 0, &of(c.device, Mode::Fused), &of(&cpu(), Mode::Reference));
    }
}

/// AdamW with moments of 8 bits, from codes of all kinds.
fn small_moments(c: &Comparison) {
    use adamw_8bit::{AdamW8BitSpec, Updated, blocks, words};
    let spec = AdamW8BitSpec {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        updates: 3,
        skip_non_finite: true,
    };
    for count in [1, 65, 256, 4099] {
        for scale in [0.5, f32::INFINITY] {
            let (weights, gradient) = (c.numbers(count), c.numbers(count));
            let largest: Vec<f32> = c.numbers(2 * blocks(count)).iter().map(|number| number.abs()).collect();
            let codes: Vec<u32> =
                (0..2 * words(count) as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
            let of = |device: &Device, mode| {
                let codes = TensorData::new(codes.clone(), [codes.len()]);
                let old = Updated {
                    weights: Tensor::from_floats(&weights[..], device),
                    codes: Tensor::from_data(codes, (device, DType::U32)),
                    largest: Tensor::from_floats(&largest[..], device),
                };
                // What others still hold must not change.
                let before = old.clone();
                let gradient = Tensor::<1>::from_floats(&gradient[..], device);
                let scale = Tensor::from_floats([scale], device);
                let new = adamw_8bit::adamw_8bit(old, gradient, scale, spec, mode);
                let codes =
                    |updated: &Updated| updated.codes.clone().into_data().try_to_vec::<u32>().unwrap();
                assert_eq!(codes(&before).len(), codes(&new).len());
                [new.weights, new.largest, before.weights, before.largest].map(values)
            };
            let (found, expected) = (of(c.device, Mode::Fused), of(&cpu(), Mode::Reference));
            for (found, expected) in found.iter().zip(&expected) {
                c.close("adamw with 8 bits", 0, found, expected);
            }
        }
    }
}

/// Function that compares one operation.
type Check = fn(&Comparison);

/// All operations that are compared, by name.
const OPERATIONS: [(&str, Check); 14] = [
    ("linear", linear),
    ("linear after a norm or a non-linearity", linear_after),
    ("linear with a low-rank change", adapted_linear),
    ("norm", norm),
    ("activation", activations),
    ("rope", ropes),
    ("dropout", dropouts),
    ("embedding", embeddings),
    ("optimizer", optimizers),
    ("optimizer with moments of 8 bits", small_moments),
    ("cross entropy", cross_entropies),
    ("attention", attentions),
    ("packed attention", packed_attention),
    ("cached attention", cached_attention),
];

/// Compares all operations on a device with their references on the CPU.
pub fn compare(name: &str, device: &Device, bounds: [f32; 2]) {
    for (operation, run) in OPERATIONS {
        let comparison = Comparison::new(device, bounds);
        run(&comparison);
        let [outputs, gradients] = comparison.worst.map(|worst| worst.get());
        eprintln!("{operation} on {name}: outputs differ by {outputs:.1e}, gradients by {gradients:.1e}");
    }
}

#[test]
fn kernels_equal_their_references() {
    compare("cpu", &cpu(), [1e-5, 1e-4]);
}

#[test]
#[ignore = "needs a GPU adapter"]
fn kernels_equal_their_references_on_other_devices() {
    for name in others() {
        compare(&name, &name.parse::<Choice>().unwrap().open().unwrap(), [1e-3; 2]);
    }
    device::settle();
}
