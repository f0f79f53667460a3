//! The operations that are measured, at the shapes of a model of 10.7M parameters.

use crate::{
    config::Activation,
    kernels::{
        Mode,
        activation::activate,
        adamw::{AdamWSpec, Updated, adamw, sum_of_squares},
        attention::{AttentionSpec, Projected, Reach, attention},
        cross_entropy::{CrossEntropySpec, Targets, cross_entropy},
        dropout::{Dropout, dropout},
        embedding::embedding,
        linear::{Addends, Normalization, Source, linear},
        norm::{NormSpec, norm},
        rope::{RopeSpec, rotate},
    },
};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};

/// Computes an operation: what it gives, then the gradients of its inputs, all flat.
type Run = Box<dyn Fn(Mode) -> Vec<Tensor<1>>>;

/// An operation and its inputs.
pub(super) struct Case {
    pub name: &'static str,
    pub shapes: &'static str,
    prepare: fn(&Device, usize) -> Run,
    /// What `prepare` is told.
    length: usize,
}

/// The name of attention over one row of so many tokens.
pub(super) fn attention_of(tokens: usize) -> String {
    format!("attention@{tokens}")
}

impl Case {
    /// One of [`CASES`], or attention of a length.
    pub fn find(name: &str) -> Option<Self> {
        if let Some(length) = name.strip_prefix("attention@") {
            let length = length.parse().ok()?;
            return Some(Self { name: "attention", shapes: "", prepare: long_attention, length });
        }
        let case = CASES.iter().find(|case| case.name == name)?;
        Some(Self { ..*case })
    }

    pub fn prepare(&self, device: &Device) -> Run {
        device.seed(1);
        (self.prepare)(device, self.length)
    }
}

const fn case(name: &'static str, shapes: &'static str, prepare: fn(&Device, usize) -> Run) -> Case {
    Case { name, shapes, prepare, length: 0 }
}

const ROWS: usize = 8;
const TIME: usize = 256;
const WIDTH: usize = 384;
const HEADS: usize = 6;
const VOCABULARY: usize = 4096;

pub(super) const CASES: &[Case] = &[
    case("attention", "8 x 256, 6 heads of 64, causal", |device, _| {
        attend(device, [ROWS, TIME], HEADS, Reach::CAUSAL)
    }),
    case("grouped-attention", "8 x 256, 6 heads over 2 of 64, causal", |device, _| {
        attend(device, [ROWS, TIME], 2, Reach::CAUSAL)
    }),
    case("window-attention", "2 x 1024, 6 heads of 64, 128 tokens back", |device, _| {
        attend(device, [2, 4 * TIME], HEADS, Reach { back: 127, ahead: 0 })
    }),
    case("cross-entropy", "2048 x 384 to 4096 tokens", |device, _| {
        let (states, weight) = (random([ROWS * TIME, WIDTH], device), random([WIDTH, VOCABULARY], device));
        let tokens = tokens([ROWS * TIME, 1], VOCABULARY);
        let targets = Targets {
            tokens: Tensor::from_data(tokens, device),
            weights: Tensor::ones([ROWS * TIME, 1], device),
        };
        let spec = CrossEntropySpec {
            transposed: false,
            scale: 1.0 / (ROWS * TIME) as f32,
            softcap: 0.0,
            label_smoothing: 0.0,
            z_loss: 0.0,
        };
        Box::new(move |mode| {
            let loss = cross_entropy(states.clone(), weight.clone(), &targets, spec, mode);
            let gradients = loss.backward();
            vec![loss.inner(), of(&states, &gradients), of(&weight, &gradients)]
        })
    }),
    case("layer-norm", "2048 x 384", |device, _| normalize(device, true)),
    case("rms-norm", "2048 x 384", |device, _| normalize(device, false)),
    case("gelu", "2048 x 1536", |device, _| bend(device, Activation::Gelu)),
    case("swiglu", "2048 x 2 x 768", |device, _| bend(device, Activation::Swiglu)),
    case("geglu", "2048 x 2 x 768", |device, _| bend(device, Activation::Geglu)),
    case("rope", "8 x 256, 12 of 18 heads of 64", |device, _| {
        let x = random([ROWS, TIME, 3 * WIDTH], device);
        let angles = Tensor::random([1, TIME, 32], Distribution::Default, &device.clone().inner());
        let (cos, sin): (Tensor<3>, Tensor<3>) = (angles.clone().cos(), angles.sin());
        let spec = RopeSpec { heads: 2 * HEADS, head_size: 64, interleaved: false, back: false };
        differentiated(x, move |x, mode| {
            let [cos, sin] = [&cos, &sin].map(|table| Tensor::from_inner(table.clone()));
            rotate(x, cos, sin, spec, mode)
        })
    }),
    case("linear", "2048 x 384 to 1536, bias, residual", |device, _| {
        let (x, residual) = (random([ROWS, TIME, WIDTH], device), random([ROWS, TIME, 4 * WIDTH], device));
        let weight: Tensor<2> = random([WIDTH, 4 * WIDTH], device);
        let bias: Tensor<1> = random([4 * WIDTH], device);
        differentiated(x, move |x, mode| {
            let addends = Addends { bias: Some(bias.clone()), residual: Some(residual.clone()) };
            linear(x, weight.clone(), false, addends, mode)
        })
    }),
    case("norm-linear", "2048 x 384 to 1152", |device, _| {
        let x = random([ROWS, TIME, WIDTH], device);
        let (weight, norm_weight) = (random([WIDTH, 3 * WIDTH], device), random([WIDTH], device));
        differentiated(x, move |x, mode| {
            let spec = NormSpec { centered: true, epsilon: 1e-5, offset: 0.0 };
            let norm = Normalization { weight: norm_weight.clone(), bias: None, spec };
            linear(Source::Normalized(x, norm), weight.clone(), false, Addends::default(), mode)
        })
    }),
    case("gelu-linear", "2048 x 1536 to 384", |device, _| {
        let (x, weight) = (random([ROWS, TIME, 4 * WIDTH], device), random([4 * WIDTH, WIDTH], device));
        differentiated(x, move |x, mode| {
            let source = Source::Activated(x, Activation::Gelu);
            linear(source, weight.clone(), false, Addends::default(), mode)
        })
    }),
    case("embedding", "2048 of 4096 x 384", |device, _| {
        let table: Tensor<2> = random([VOCABULARY, WIDTH], device);
        let tokens: Tensor<2, Int> = Tensor::from_data(tokens([ROWS, TIME], VOCABULARY), device);
        Box::new(move |mode| {
            let y = embedding(table.clone(), tokens.clone(), mode);
            let gradients = y.clone().square().sum().backward();
            vec![flat(y.inner()), of(&table, &gradients)]
        })
    }),
    case("dropout", "2048 x 384, residual", |device, _| {
        let (x, residual) = (random([ROWS, TIME, WIDTH], device), random([ROWS, TIME, WIDTH], device));
        let spec = Dropout { probability: 0.2, seed: 7 };
        differentiated(x, move |x, mode| dropout(x, Some(residual.clone()), spec, mode))
    }),
    case("adamw", "10.7M numbers", |device, _| {
        let device = device.clone().inner();
        let numbers = || Tensor::<1>::random([10_700_000], Distribution::Uniform(0.1, 1.0), &device);
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
    case("sum-of-squares", "10.7M numbers", |device, _| {
        let x = Tensor::<1>::random([10_700_000], Distribution::Default, &device.clone().inner());
        Box::new(move |mode| vec![sum_of_squares(x.clone(), mode)])
    }),
];

fn long_attention(device: &Device, tokens: usize) -> Run {
    attend(device, [1, tokens], HEADS, Reach::CAUSAL)
}

fn attend(device: &Device, [rows, time]: [usize; 2], kv_heads: usize, reach: Reach) -> Run {
    let x = random([rows, time, (HEADS + 2 * kv_heads) * 64], device);
    let spec = AttentionSpec {
        heads: HEADS,
        kv_heads,
        head_size: 64,
        scale: 0.125,
        softcap: 0.0,
        reach,
        dropout: Dropout::NONE,
    };
    differentiated(x, move |x, mode| attention(Projected::Together(x), None, spec, mode))
}

fn normalize(device: &Device, centered: bool) -> Run {
    let (x, weight) = (random([ROWS, TIME, WIDTH], device), random([WIDTH], device));
    let spec = NormSpec { centered, epsilon: 1e-5, offset: 0.0 };
    differentiated(x, move |x, mode| norm(x, weight.clone(), None, spec, mode))
}

fn bend(device: &Device, activation: Activation) -> Run {
    let x = random([ROWS, TIME, 4 * WIDTH], device);
    differentiated(x, move |x, mode| activate(x, activation, mode))
}

/// An operation of one input that matters, and the gradient of that.
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

/// Tokens all over the vocabulary.
fn tokens([rows, time]: [usize; 2], vocabulary: usize) -> TensorData {
    let tokens = (0..rows * time).map(|i| (i * 7919 % vocabulary) as i32).collect::<Vec<_>>();
    TensorData::new(tokens, [rows, time])
}

fn flat<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    x.flatten(0, D - 1)
}

/// The gradient of an input.
fn of<const D: usize>(input: &Tensor<D>, gradients: &burn::tensor::Gradients) -> Tensor<1> {
    input.grad(gradients).map_or_else(|| Tensor::zeros([1], &input.device()), flat)
}
