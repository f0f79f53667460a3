//! Every operation on random inputs, to measure it and to compare it with its reference on any device.

use super::{
    Mode, Precision,
    activation::{Activation, activate},
    adafactor::{self, AdafactorSpec, adafactor},
    adamw::{AdamWSpec, Updated, adamw, sum_of_squares},
    adamw_8bit::{self, AdamW8BitSpec, adamw_8bit},
    attention::{AttentionSpec, PADDING, Projected, Window, attention},
    cross_entropy::{CrossEntropySpec, Targets, cross_entropy},
    dropout::{Dropout, dropout},
    embedding::embedding,
    linear::{Epilogue, Normalization, Prologue, linear},
    low_rank::LowRank,
    norm::{NormSpec, norm},
    rope::{RopeSpec, rotate},
};
use crate::{device::read_numbers, error::Result};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use serde::Serialize;

/// Computes an operation. Returns its output, then the gradients of its inputs, all flattened.
pub type Run = Box<dyn Fn(Mode) -> Vec<Tensor<1>>>;

/// An operation and a function that makes its inputs.
pub struct Case {
    pub name: &'static str,
    shapes: fn(Sizes) -> String,
    prepare: fn(&Device, Sizes) -> Run,
}

/// Sizes of the inputs.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub rows: usize,
    /// Number of tokens in a row.
    pub time: usize,
    pub heads: usize,
    pub head_size: usize,
    pub vocabulary: usize,
    /// Number of parameters that the optimizer updates.
    pub parameters: usize,
}

impl Sizes {
    /// Sizes of a model of 10.7M parameters.
    pub const MODEL: Self =
        Self { rows: 8, time: 256, heads: 6, head_size: 64, vocabulary: 4096, parameters: 10_700_000 };
    /// Odd sizes that are as small as possible but still larger than a workgroup.
    pub const SMALL: Self =
        Self { rows: 2, time: 37, heads: 6, head_size: 16, vocabulary: 301, parameters: 70_001 };

    fn width(self) -> usize {
        self.heads * self.head_size
    }

    fn tokens(self) -> usize {
        self.rows * self.time
    }
}

/// Largest differences between an operation and its reference, relative to the largest value of the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "KernelDifference"))]
pub struct Difference {
    pub operation: &'static str,
    pub forward: f64,
    /// Difference of the worst gradient.
    pub gradient: f64,
}

impl Case {
    pub fn find(name: &str) -> Option<&'static Self> {
        CASES.iter().find(|case| case.name == name)
    }

    /// Description of its inputs for a reader.
    pub fn shapes(&self, sizes: Sizes) -> String {
        (self.shapes)(sizes)
    }

    /// Makes the inputs on an autodiff device, the same ones every time.
    pub fn prepare(&self, device: &Device, sizes: Sizes) -> Run {
        device.seed(1);
        (self.prepare)(device, sizes)
    }

    /// Runs the operation fused, and as its reference in f32, and compares the results.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`](crate::error::Error::DeviceFailed).
    pub async fn compare(&self, device: &Device, sizes: Sizes, precision: Precision) -> Result<Difference> {
        let run = self.prepare(&device.clone().autodiff(), sizes);
        let (fused, reference) =
            (read(run(Mode::Fused.with_precision(precision))).await?, read(run(Mode::Reference)).await?);
        let mut errors = fused.iter().zip(&reference).map(|(a, b)| difference(a, b));
        let forward = errors.next().unwrap_or(f64::NAN);
        Ok(Difference { operation: self.name, forward, gradient: errors.fold(0.0, f64::max) })
    }
}

async fn read(tensors: Vec<Tensor<1>>) -> Result<Vec<Vec<f32>>> {
    let mut all = Vec::new();
    for tensor in tensors {
        all.push(read_numbers(tensor, "reading").await?);
    }
    Ok(all)
}

/// Largest difference of two lists, relative to the largest number in `b`; NaN if a difference is NaN.
fn difference(a: &[f32], b: &[f32]) -> f64 {
    let largest = b.iter().map(|b| f64::from(b.abs())).fold(f64::MIN_POSITIVE, f64::max);
    let worse = |most: f64, apart: f64| if apart > most || apart.is_nan() { apart } else { most };
    let apart = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, worse);
    apart / largest
}

const fn case(name: &'static str, shapes: fn(Sizes) -> String, prepare: fn(&Device, Sizes) -> Run) -> Case {
    Case { name, shapes, prepare }
}

/// All operations.
pub const CASES: &[Case] = &[
    case(
        "attention",
        |s| format!("{} x {}, {} heads of {}, causal", s.rows, s.time, s.heads, s.head_size),
        |device, s| attend(device, s, s.heads, Window::CAUSAL, None),
    ),
    case(
        "grouped-attention",
        |s| format!("{} x {}, {} heads over 2 of {}, causal", s.rows, s.time, s.heads, s.head_size),
        |device, s| attend(device, s, 2, Window::CAUSAL, None),
    ),
    case(
        "window-attention",
        |s| format!("{} x {}, {} tokens back", s.rows.div_ceil(4), 4 * s.time, s.time / 2),
        |device, s| {
            let long = Sizes { rows: s.rows.div_ceil(4), time: 4 * s.time, ..s };
            attend(device, long, s.heads, Window { left: s.time / 2 - 1, right: 0 }, None)
        },
    ),
    case(
        "packed-attention",
        |s| format!("{} x {}, {} heads over 2 of {}, documents", s.rows, s.time, s.heads, s.head_size),
        |device, s| attend(device, s, 2, Window::CAUSAL, Some(documents(s, device))),
    ),
    case(
        "packed-window-attention",
        |s| format!("{} x {}, {} tokens back, documents", s.rows, s.time, s.time / 8),
        |device, s| {
            let window = Window { left: s.time / 8 - 1, right: 0 };
            attend(device, s, s.heads, window, Some(documents(s, device)))
        },
    ),
    case(
        "cross-entropy",
        |s| format!("{} x {} to {} tokens", s.tokens(), s.width(), s.vocabulary),
        |device, s| {
            let states = random([s.tokens(), s.width()], device);
            let weight = random([s.width(), s.vocabulary], device);
            let targets = Targets {
                tokens: Tensor::from_data(tokens([s.tokens(), 1], s.vocabulary), device),
                weights: Tensor::ones([s.tokens(), 1], device),
            };
            Box::new(move |mode: Mode| {
                let spec = CrossEntropySpec {
                    transposed: false,
                    scale: 1.0 / s.tokens() as f32,
                    softcap: 0.0,
                    label_smoothing: 0.0,
                    z_loss: 0.0,
                    precision: mode.precision,
                };
                let loss = cross_entropy(states.clone(), weight.clone(), &targets, spec, mode);
                let gradients = loss.backward();
                vec![loss.inner(), of(&states, &gradients), of(&weight, &gradients)]
            })
        },
    ),
    case("layer-norm", of_states, |device, s| normalize(device, s, true)),
    case("rms-norm", of_states, |device, s| normalize(device, s, false)),
    case("gelu", of_inner, |device, s| bend(device, s, Activation::Gelu)),
    case("swiglu", of_halves, |device, s| bend(device, s, Activation::Swiglu)),
    case("geglu", of_halves, |device, s| bend(device, s, Activation::Geglu)),
    case(
        "rope",
        |s| format!("{} x {}, {} of {} heads of {}", s.rows, s.time, 2 * s.heads, 3 * s.heads, s.head_size),
        |device, s| {
            let x = random([s.rows, s.time, 3 * s.width()], device);
            let sizes = [1, s.time, s.head_size / 2];
            let angles = Tensor::random(sizes, Distribution::Default, &device.clone().inner());
            let (cos, sin): (Tensor<3>, Tensor<3>) = (angles.clone().cos(), angles.sin());
            let spec =
                RopeSpec { heads: 2 * s.heads, head_size: s.head_size, interleaved: false, inverse: false };
            differentiated(x, move |x, mode| {
                let [cos, sin] = [&cos, &sin].map(|table| Tensor::from_inner(table.clone()));
                rotate(x, cos, sin, spec, mode)
            })
        },
    ),
    case(
        "linear",
        |s| format!("{} x {} to {}, bias, residual", s.tokens(), s.width(), 4 * s.width()),
        |device, s| {
            let x = random([s.rows, s.time, s.width()], device);
            let residual = random([s.rows, s.time, 4 * s.width()], device);
            let weight: Tensor<2> = random([s.width(), 4 * s.width()], device);
            let bias: Tensor<1> = random([4 * s.width()], device);
            differentiated(x, move |x, mode| {
                let epilogue =
                    Epilogue { bias: Some(bias.clone()), residual: Some(residual.clone()), low_rank: None };
                linear(x, weight.clone(), false, epilogue, mode)
            })
        },
    ),
    case(
        "norm-linear",
        |s| format!("{} x {} to {}", s.tokens(), s.width(), 3 * s.width()),
        |device, s| {
            let x = random([s.rows, s.time, s.width()], device);
            let weight = random([s.width(), 3 * s.width()], device);
            let norm_weight = random([s.width()], device);
            differentiated(x, move |x, mode| {
                let spec = NormSpec { centered: true, epsilon: 1e-5, offset: 0.0 };
                let norm = Normalization { weight: norm_weight.clone(), bias: None, spec };
                linear(Prologue::Normalized(x, norm), weight.clone(), false, Epilogue::default(), mode)
            })
        },
    ),
    case(
        "gelu-linear",
        |s| format!("{} x {} to {}", s.tokens(), 4 * s.width(), s.width()),
        |device, s| {
            let x = random([s.rows, s.time, 4 * s.width()], device);
            let weight = random([4 * s.width(), s.width()], device);
            differentiated(x, move |x, mode| {
                let prologue = Prologue::Activated(x, Activation::Gelu);
                linear(prologue, weight.clone(), false, Epilogue::default(), mode)
            })
        },
    ),
    case(
        "adapted-linear",
        |s| format!("{} x {} to {}, rank 16", s.tokens(), s.width(), 4 * s.width()),
        |device, s| {
            let x = random([s.rows, s.time, s.width()], device);
            let weight: Tensor<2> = random([s.width(), 4 * s.width()], device).inner();
            let norm_weight = random([s.width()], device);
            let (down, up): (Tensor<2>, Tensor<2>) =
                (random([s.width(), 16], device), random([16, 4 * s.width()], device));
            differentiated(x, move |x, mode| {
                let spec = NormSpec { centered: false, epsilon: 1e-5, offset: 0.0 };
                let norm = Normalization { weight: norm_weight.clone(), bias: None, spec };
                let low_rank = LowRank { down: down.clone(), up: up.clone(), dropout: Dropout::NONE };
                let epilogue = Epilogue { low_rank: Some(low_rank), ..Default::default() };
                linear(Prologue::Normalized(x, norm), weight.clone(), false, epilogue, mode)
            })
        },
    ),
    case(
        "embedding",
        |s| format!("{} of {} x {}", s.tokens(), s.vocabulary, s.width()),
        |device, s| {
            let table: Tensor<2> = random([s.vocabulary, s.width()], device);
            let tokens: Tensor<2, Int> = Tensor::from_data(tokens([s.rows, s.time], s.vocabulary), device);
            Box::new(move |mode| {
                let y = embedding(table.clone(), tokens.clone(), mode);
                let gradients = y.clone().square().sum().backward();
                vec![flat(y.inner()), of(&table, &gradients)]
            })
        },
    ),
    case(
        "dropout",
        |s| format!("{} x {}, residual", s.tokens(), s.width()),
        |device, s| {
            let states = || random([s.rows, s.time, s.width()], device);
            let (x, residual) = (states(), states());
            let spec = Dropout { probability: 0.2, seed: 7, first_row: 3 };
            differentiated(x, move |x, mode| dropout(x, Some(residual.clone()), spec, mode))
        },
    ),
    case("adamw", of_parameters, |device, s| {
        let device = device.clone().inner();
        let numbers = || Tensor::<1>::random([s.parameters], Distribution::Uniform(0.1, 1.0), &device);
        let (old, gradient) =
            (Updated { weights: numbers(), first: numbers(), second: numbers() }, numbers());
        let scale = Tensor::<1>::ones([1], &device);
        let spec = AdamWSpec {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.1,
            updates: 10,
            skip_non_finite: false,
        };
        let state = std::cell::RefCell::new(None);
        Box::new(move |mode| {
            // In place, as a run has it, but for the first of each mode, which starts from the same numbers.
            let previous = state.take().filter(|(of_mode, _)| *of_mode == mode);
            let from = previous.map_or_else(|| old.clone(), |(_, updated)| updated);
            let new = adamw(from, gradient.clone(), scale.clone(), spec, mode);
            let sample = new.weights.clone().narrow(0, 0, 1000) + 0.0;
            state.replace(Some((mode, new)));
            vec![sample]
        })
    }),
    case("adamw-8bit", of_parameters, |device, s| {
        let device = device.clone().inner();
        let numbers = || Tensor::<1>::random([s.parameters], Distribution::Uniform(0.1, 1.0), &device);
        let (old, gradient) = (adamw_8bit::Updated::begin(numbers()), numbers());
        let scale = Tensor::<1>::ones([1], &device);
        let spec = AdamW8BitSpec {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.1,
            updates: 10,
            skip_non_finite: false,
        };
        let state = std::cell::RefCell::new(None);
        Box::new(move |mode| {
            let previous = state.take().filter(|(of_mode, _)| *of_mode == mode);
            let from = previous.map_or_else(|| old.clone(), |(_, updated)| updated);
            let new = adamw_8bit(from, gradient.clone(), scale.clone(), spec, mode);
            let sample = new.weights.clone().narrow(0, 0, 1000) + 0.0;
            state.replace(Some((mode, new)));
            vec![sample]
        })
    }),
    case(
        "adafactor",
        |s| format!("{} x 100", s.parameters / 100),
        |device, s| {
            let device = device.clone().inner();
            let sizes = adafactor::Sizes::of(&[s.parameters / 100, 100]);
            let count = s.parameters / 100 * 100;
            let numbers = || Tensor::<1>::random([count], Distribution::Uniform(0.1, 1.0), &device);
            let (old, gradient) = (adafactor::Updated::begin(numbers(), sizes), numbers());
            let scale = Tensor::<1>::ones([1], &device);
            let spec = AdafactorSpec {
                sizes,
                learning_rate: 1e-3,
                beta2_decay: -0.8,
                epsilon1: f64::from(f32::EPSILON),
                epsilon2: 1e-3,
                clip_threshold: 1.0,
                weight_decay: 0.1,
                updates: 10,
                skip_non_finite: false,
            };
            let state = std::cell::RefCell::new(None);
            Box::new(move |mode| {
                let previous = state.take().filter(|(of_mode, _)| *of_mode == mode);
                let from = previous.map_or_else(|| old.clone(), |(_, updated)| updated);
                let new = adafactor(from, gradient.clone(), scale.clone(), spec, mode);
                let sample = new.weights.clone().narrow(0, 0, 1000) + 0.0;
                state.replace(Some((mode, new)));
                vec![sample]
            })
        },
    ),
    case("sum-of-squares", of_parameters, |device, s| {
        let x = Tensor::<1>::random([s.parameters], Distribution::Default, &device.clone().inner());
        Box::new(move |mode| vec![sum_of_squares(x.clone(), mode)])
    }),
];

fn of_states(s: Sizes) -> String {
    format!("{} x {}", s.tokens(), s.width())
}

fn of_inner(s: Sizes) -> String {
    format!("{} x {}", s.tokens(), 4 * s.width())
}

fn of_halves(s: Sizes) -> String {
    format!("{} x 2 x {}", s.tokens(), 2 * s.width())
}

fn of_parameters(s: Sizes) -> String {
    format!("{} numbers", s.parameters)
}

/// Numbers of documents of one token, two, four and so on, with padding at the end, `[rows, time]`.
fn documents(s: Sizes, device: &Device) -> Tensor<2, Int> {
    let number = |i: usize| match (i / s.time, i % s.time) {
        (_, time) if time >= s.time - s.time / 16 => PADDING,
        // Other borders in each row.
        (row, time) => (time + row + 1).ilog2() as i32,
    };
    let numbers: Vec<i32> = (0..s.tokens()).map(number).collect();
    Tensor::from_data(TensorData::new(numbers, [s.rows, s.time]), device)
}

fn attend(
    device: &Device,
    s: Sizes,
    kv_heads: usize,
    window: Window,
    documents: Option<Tensor<2, Int>>,
) -> Run {
    let x = random([s.rows, s.time, (s.heads + 2 * kv_heads) * s.head_size], device);
    let spec = move |precision| AttentionSpec {
        heads: s.heads,
        kv_heads,
        head_size: s.head_size,
        scale: 1.0 / (s.head_size as f32).sqrt(),
        softcap: 0.0,
        window,
        dropout: Dropout::NONE,
        precision,
    };
    differentiated(x, move |x, mode| {
        attention(Projected::Together(x), None, documents.clone(), spec(mode.precision), mode)
    })
}

fn normalize(device: &Device, s: Sizes, centered: bool) -> Run {
    let (x, weight) = (random([s.rows, s.time, s.width()], device), random([s.width()], device));
    let spec = NormSpec { centered, epsilon: 1e-5, offset: 0.0 };
    differentiated(x, move |x, mode| norm(x, weight.clone(), None, spec, mode))
}

fn bend(device: &Device, s: Sizes, activation: Activation) -> Run {
    let x = random([s.rows, s.time, 4 * s.width()], device);
    differentiated(x, move |x, mode| activate(x, activation, mode))
}

/// Case with one input `x`: its output and the gradient of `x`.
fn differentiated(x: Tensor<3>, operation: impl Fn(Tensor<3>, Mode) -> Tensor<3> + 'static) -> Run {
    Box::new(move |mode| {
        let y = operation(x.clone(), mode);
        // Half the sum of squares: its gradient is `y`.
        let gradients = y.clone().square().sum().mul_scalar(0.5).backward();
        vec![flat(y.inner()), of(&x, &gradients)]
    })
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device).require_grad()
}

/// Tokens spread over the whole vocabulary.
fn tokens([rows, time]: [usize; 2], vocabulary: usize) -> TensorData {
    let tokens = (0..rows * time).map(|i| (i * 7919 % vocabulary) as i32).collect::<Vec<_>>();
    TensorData::new(tokens, [rows, time])
}

fn flat<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    x.flatten(0, D - 1)
}

/// Gradient of an input, flattened; a single zero if it has none.
fn of<const D: usize>(input: &Tensor<D>, gradients: &burn::tensor::Gradients) -> Tensor<1> {
    input.grad(gradients).map_or_else(|| Tensor::zeros([1], &input.device()), flat)
}
