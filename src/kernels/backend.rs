//! The kernels that a backend implements, forward and backward, and the differentiable operations that are
//! built from them.

#[cfg(feature = "cube")]
use super::shapes;
use super::{
    Precision,
    activation::Activation,
    adafactor::AdafactorSpec,
    adamw::AdamWSpec,
    adamw_8bit::AdamW8BitSpec,
    attention::AttentionSpec,
    composed,
    cross_entropy::CrossEntropySpec,
    dropout::Dropout,
    linear::LinearSpec,
    log_probabilities::{self, ProjectionSpec},
    low_rank::{self, AdaptedSpec},
    norm::NormSpec,
    rope::RopeSpec,
};
use burn::backend::{
    Backend, ExtensionType, TensorMetadata, backend_extension,
    ops::ModuleOps,
    tensor::{BoolTensor, FloatTensor, IntTensor},
};

/// A tensor that may be absent.
#[derive(ExtensionType, Debug, Clone)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub enum Optional<B: Backend> {
    Given(FloatTensor<B>),
    Absent,
}

impl<B: Backend> Optional<B> {
    pub fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Given(tensor) => Some(tensor),
            Self::Absent => None,
        }
    }
}

/// A boolean mask that may be absent.
#[derive(ExtensionType, Debug, Clone)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub enum OptionalMask<B: Backend> {
    Given(BoolTensor<B>),
    Absent,
}

impl<B: Backend> OptionalMask<B> {
    pub fn into_option(self) -> Option<BoolTensor<B>> {
        match self {
            Self::Given(tensor) => Some(tensor),
            Self::Absent => None,
        }
    }
}

/// A tensor of integers that may be absent.
#[derive(ExtensionType, Debug, Clone)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub enum OptionalInts<B: Backend> {
    Given(IntTensor<B>),
    Absent,
}

impl<B: Backend> OptionalInts<B> {
    pub fn into_option(self) -> Option<IntTensor<B>> {
        match self {
            Self::Given(tensor) => Some(tensor),
            Self::Absent => None,
        }
    }
}

/// Kernels over tensors without gradients. N is the number of rows of all samples, E the width. Tensors are f32, but
/// for `x`, `dy` and `weight` of a product, which may be of the type of its precision.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "cube")
)]
pub trait Kernels: Backend {
    /// Converts a tensor to the type in which products of a precision read it, and the backward pass keeps it.
    #[fusion(default)]
    fn reduced(x: FloatTensor<Self>, precision: Precision) -> FloatTensor<Self> {
        composed::reduced::<Self>(x, precision)
    }

    /// Converts a tensor back to f32.
    #[fusion(default)]
    fn widened(x: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::widened::<Self>(x)
    }

    /// Computes `x W + bias + residual`. `weight` is `[I, O]`, or `[O, I]` if transposed.
    #[fusion(default)]
    fn linear_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
        #[extension_type] residual: Optional<Self>,
        spec: LinearSpec,
    ) -> FloatTensor<Self> {
        composed::linear_forward::<Self>(x, weight, bias, residual, spec)
    }

    /// Adds `x W` to `total`.
    #[fusion(default)]
    fn linear_onto(
        total: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        spec: LinearSpec,
    ) -> FloatTensor<Self> {
        let residual = Optional::Given(total);
        composed::linear_forward::<Self>(x, weight, Optional::Absent, residual, spec)
    }

    #[fusion(default)]
    fn linear_input_gradient(
        dy: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        spec: LinearSpec,
    ) -> FloatTensor<Self> {
        composed::linear_input_gradient::<Self>(dy, weight, spec)
    }

    #[fusion(default)]
    fn linear_weight_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        spec: LinearSpec,
    ) -> FloatTensor<Self> {
        composed::linear_weight_gradient::<Self>(x, dy, spec)
    }

    /// Gradient of the bias: the sum of the rows of `dy`.
    #[fusion(default)]
    fn linear_bias_gradient(dy: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::sum_of_rows::<Self>(dy)
    }

    /// Normalizes rows. Also returns the mean and inverse standard deviation of each row, `[N, 2]`.
    #[fusion(meta = shapes::norm_forward)]
    fn norm_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
        spec: NormSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of the rows, the weight and the bias. The last is computed even if there is no bias.
    #[fusion(meta = shapes::norm_backward)]
    fn norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        spec: NormSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    #[fusion(meta = shapes::activation_forward)]
    fn activation_forward(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;

    #[fusion(dtype = x, shape = x)]
    fn activation_backward(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// Computes the gradient of `x`, and the value of the non-linearity again.
    #[fusion(default)]
    fn activation_backward_with_value(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        (Self::activation_backward(x.clone(), dy, activation), Self::activation_forward(x, activation))
    }

    /// Rotates heads in `x`, `[B, T, width]`, by tables `cos` and `sin`, `[1 or B, T, D / 2]`.
    #[fusion(dtype = x, shape = x)]
    fn rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        spec: RopeSpec,
    ) -> FloatTensor<Self>;

    /// Computes the attention output, `[B, T, H * D]`, and the logarithm of the sum of each query's weights
    /// before they are normalized, `[B, H, T]`. `documents` are the documents' numbers, `[B, T]`.
    #[fusion(meta = shapes::attention_forward)]
    fn attention_forward(
        query: FloatTensor<Self>,
        #[extension_type] key_value: Optional<Self>,
        #[extension_type] mask: OptionalMask<Self>,
        #[extension_type] documents: OptionalInts<Self>,
        spec: AttentionSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of `query` and of `key_value`; the second has no meaning if `key_value` is absent.
    #[fusion(meta = shapes::attention_backward)]
    #[allow(clippy::too_many_arguments)]
    fn attention_backward(
        query: FloatTensor<Self>,
        #[extension_type] key_value: Optional<Self>,
        #[extension_type] mask: OptionalMask<Self>,
        #[extension_type] documents: OptionalInts<Self>,
        output: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        d_output: FloatTensor<Self>,
        spec: AttentionSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Computes the attention output of queries `[B, H, T, D]` over keys and values `[B, G, S, D]`.
    #[fusion(meta = shapes::attention_cached)]
    fn attention_cached(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        #[extension_type] mask: OptionalMask<Self>,
        spec: AttentionSpec,
    ) -> FloatTensor<Self>;

    /// Computes the sum of the losses of states `[N, E]`, `[1]`.
    #[fusion(meta = shapes::cross_entropy)]
    fn cross_entropy(
        states: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        spec: CrossEntropySpec,
    ) -> FloatTensor<Self>;

    /// Computes the sum of the losses, and the gradients of states and weight. The second, unless it is
    /// asked for, has one element and no meaning.
    #[fusion(meta = shapes::cross_entropy_with_gradients)]
    fn cross_entropy_with_gradients(
        states: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        spec: CrossEntropySpec,
        with_weight_gradient: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Computes the logarithm of the probability of each target, `[N, 1]`. States may be of the small type.
    #[fusion(default)]
    fn log_probabilities(
        states: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        spec: ProjectionSpec,
    ) -> FloatTensor<Self> {
        log_probabilities::forward::<Self>(states, weight, targets, spec)
    }

    /// Gradients of states and weight, where `dy`, `[N, 1]`, is the gradient of the log-probabilities. The
    /// second has no meaning unless it is asked for.
    #[fusion(default)]
    fn log_probabilities_backward(
        states: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        dy: FloatTensor<Self>,
        spec: ProjectionSpec,
        with_weight_gradient: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        log_probabilities::backward::<Self>(states, weight, targets, dy, spec, with_weight_gradient)
    }

    /// Multiplies a gradient by `upstream`, the gradient of the loss, `[1]`.
    #[fusion(default)]
    fn scaled_gradient(gradient: FloatTensor<Self>, upstream: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::scaled::<Self>(gradient, upstream)
    }

    /// Gradient of the embedding table, `[vocabulary, E]`: for each token the sum of the rows of `dy` at its
    /// positions.
    #[fusion(meta = shapes::embedding_gradient)]
    fn embedding_gradient(
        tokens: IntTensor<Self>,
        dy: FloatTensor<Self>,
        vocabulary: usize,
    ) -> FloatTensor<Self>;

    /// Adds the gradient of the embedding table to `total`.
    #[fusion(default)]
    fn embedding_gradient_onto(
        total: FloatTensor<Self>,
        tokens: IntTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let vocabulary = total.shape()[0];
        Self::float_add(total, Self::embedding_gradient(tokens, dy, vocabulary))
    }

    /// Computes `residual + dropout(x)`.
    #[fusion(dtype = x, shape = x)]
    fn dropout(
        x: FloatTensor<Self>,
        #[extension_type] residual: Optional<Self>,
        dropout: Dropout,
    ) -> FloatTensor<Self>;

    /// Computes the new weights, first moments and second moments.
    #[fusion(meta = shapes::adamw)]
    fn adamw(
        weights: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        spec: AdamWSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Computes the new weights, and the codes and largest magnitudes of both moments. `tables` has the numbers and
    /// the middles of the code of first moments, then those of second moments, `[4 * 256]`.
    #[fusion(meta = shapes::adamw_8bit)]
    fn adamw_8bit(
        weights: FloatTensor<Self>,
        codes: IntTensor<Self>,
        largest: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        tables: FloatTensor<Self>,
        spec: AdamW8BitSpec,
    ) -> (FloatTensor<Self>, IntTensor<Self>, FloatTensor<Self>);

    /// Computes the new weights and both parts of the second moment. Only the CPU has this kernel.
    #[fusion(default)]
    fn adafactor(
        _weights: FloatTensor<Self>,
        _rows: FloatTensor<Self>,
        _columns: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _scale: FloatTensor<Self>,
        _spec: AdafactorSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("devices without the kernel compute the reference")
    }

    /// Sum of the squares of all elements, `[1]`.
    #[fusion(meta = shapes::sum_of_squares)]
    fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// Operations that gradients flow through.
#[backend_extension(Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"), Autodiff)]
pub trait Differentiable: Backend {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
        #[extension_type] residual: Optional<Self>,
        spec: LinearSpec,
    ) -> FloatTensor<Self>;

    /// Computes `activation(x) W + bias + residual`.
    fn activated_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
        #[extension_type] residual: Optional<Self>,
        spec: LinearSpec,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// Computes `norm(x) W + bias + residual`.
    #[allow(clippy::too_many_arguments)]
    fn normalized_linear(
        x: FloatTensor<Self>,
        norm_weight: FloatTensor<Self>,
        #[extension_type] norm_bias: Optional<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
        #[extension_type] residual: Optional<Self>,
        spec: LinearSpec,
        norm: NormSpec,
    ) -> FloatTensor<Self>;

    /// Computes `p(x) W + dropout(p(x)) down up + bias + residual`, where `p` is `spec.input`.
    #[allow(clippy::too_many_arguments)]
    fn adapted_linear(
        x: FloatTensor<Self>,
        #[extension_type] norm_weight: Optional<Self>,
        #[extension_type] norm_bias: Optional<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
        #[extension_type] residual: Optional<Self>,
        down: FloatTensor<Self>,
        up: FloatTensor<Self>,
        spec: AdaptedSpec,
    ) -> FloatTensor<Self>;

    fn norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
        spec: NormSpec,
    ) -> FloatTensor<Self>;

    fn activation(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;

    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        spec: RopeSpec,
    ) -> FloatTensor<Self>;

    fn attend(
        query: FloatTensor<Self>,
        #[extension_type] key_value: Optional<Self>,
        #[extension_type] mask: OptionalMask<Self>,
        #[extension_type] documents: OptionalInts<Self>,
        spec: AttentionSpec,
    ) -> FloatTensor<Self>;

    fn projected_cross_entropy(
        states: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        spec: CrossEntropySpec,
        with_weight_gradient: bool,
    ) -> FloatTensor<Self>;

    fn projected_log_probabilities(
        states: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        spec: ProjectionSpec,
    ) -> FloatTensor<Self>;

    fn embed(table: FloatTensor<Self>, tokens: IntTensor<Self>) -> FloatTensor<Self>;

    /// Returns `loss`, and adds `gradient` to that of `parameter` in the backward pass.
    fn carry(
        loss: FloatTensor<Self>,
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn drop_out(
        x: FloatTensor<Self>,
        #[extension_type] residual: Optional<Self>,
        dropout: Dropout,
    ) -> FloatTensor<Self>;
}

/// Implements [`Differentiable`] for a backend without gradients.
macro_rules! plain {
    ($backend:ty) => {
        impl Differentiable for $backend {
            fn linear(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: Optional<Self>,
                residual: Optional<Self>,
                spec: LinearSpec,
            ) -> FloatTensor<Self> {
                Self::linear_forward(x, weight, bias, residual, spec)
            }

            fn activated_linear(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: Optional<Self>,
                residual: Optional<Self>,
                spec: LinearSpec,
                activation: Activation,
            ) -> FloatTensor<Self> {
                let x = Self::activation_forward(x, activation);
                Self::linear_forward(x, weight, bias, residual, spec)
            }

            fn normalized_linear(
                x: FloatTensor<Self>,
                norm_weight: FloatTensor<Self>,
                norm_bias: Optional<Self>,
                weight: FloatTensor<Self>,
                bias: Optional<Self>,
                residual: Optional<Self>,
                spec: LinearSpec,
                norm: NormSpec,
            ) -> FloatTensor<Self> {
                let x = Self::norm_forward(x, norm_weight, norm_bias, norm).0;
                Self::linear_forward(x, weight, bias, residual, spec)
            }

            fn adapted_linear(
                x: FloatTensor<Self>,
                norm_weight: Optional<Self>,
                norm_bias: Optional<Self>,
                weight: FloatTensor<Self>,
                bias: Optional<Self>,
                residual: Optional<Self>,
                down: FloatTensor<Self>,
                up: FloatTensor<Self>,
                spec: AdaptedSpec,
            ) -> FloatTensor<Self> {
                let [norm_weight, norm_bias] = [norm_weight, norm_bias].map(Optional::into_option);
                let (inner, _) = low_rank::input::<Self>(x, norm_weight, norm_bias, spec.input);
                low_rank::products::<Self>(inner, weight, bias, residual, [down, up], spec).0
            }

            fn norm(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: Optional<Self>,
                spec: NormSpec,
            ) -> FloatTensor<Self> {
                Self::norm_forward(x, weight, bias, spec).0
            }

            fn activation(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
                Self::activation_forward(x, activation)
            }

            fn rotate(
                x: FloatTensor<Self>,
                cos: FloatTensor<Self>,
                sin: FloatTensor<Self>,
                spec: RopeSpec,
            ) -> FloatTensor<Self> {
                Self::rope(x, cos, sin, spec)
            }

            fn attend(
                query: FloatTensor<Self>,
                key_value: Optional<Self>,
                mask: OptionalMask<Self>,
                documents: OptionalInts<Self>,
                spec: AttentionSpec,
            ) -> FloatTensor<Self> {
                Self::attention_forward(query, key_value, mask, documents, spec).0
            }

            fn projected_cross_entropy(
                states: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                targets: IntTensor<Self>,
                weights: FloatTensor<Self>,
                spec: CrossEntropySpec,
                _: bool,
            ) -> FloatTensor<Self> {
                Self::cross_entropy(states, weight, targets, weights, spec)
            }

            fn projected_log_probabilities(
                states: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                targets: IntTensor<Self>,
                spec: ProjectionSpec,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::log_probabilities(states, weight, targets, spec)
            }

            fn embed(table: FloatTensor<Self>, tokens: IntTensor<Self>) -> FloatTensor<Self> {
                Self::embedding(table, tokens)
            }

            fn carry(
                loss: FloatTensor<Self>,
                _: FloatTensor<Self>,
                _: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                loss
            }

            fn drop_out(
                x: FloatTensor<Self>,
                residual: Optional<Self>,
                dropout: Dropout,
            ) -> FloatTensor<Self> {
                Self::dropout(x, residual, dropout)
            }
        }
    };
}

#[cfg(feature = "flex")]
plain!(burn::backend::Flex);
#[cfg(feature = "cube")]
plain!(burn::backend::Cube);
