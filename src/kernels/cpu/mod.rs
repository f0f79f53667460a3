//! Kernels for the CPU: [`kiln_operations`]'s loops over slices, applied to Burn's tensors.

mod tensor;

use super::{
    Precision,
    activation::Activation,
    adafactor::{AdafactorSpec, Sizes},
    adamw::AdamWSpec,
    adamw_8bit::AdamW8BitSpec,
    attention::{AttentionSpec, Strides},
    backend::{Kernels, Optional, OptionalInts, OptionalMask},
    cross_entropy::CrossEntropySpec,
    dropout::Dropout,
    linear::LinearSpec,
    norm::NormSpec,
    rope::RopeSpec,
};
use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::DType,
};
use kiln_operations::cpu::{
    activation, adafactor, adamw_8bit,
    attention::{self, Heads, Inputs, Mask},
    cross_entropy::{self, Wanted},
    documents::Documents,
    dropout, embedding,
    gemm::Epilogue,
    linear, norm, optimizer, rope, rounding,
};
use tensor::{Floats, Tokens, check_kind, tensor};

fn optional(tensor: Optional<Flex>) -> Option<Floats> {
    tensor.into_option().as_ref().map(Floats::of)
}

/// The last dimension.
fn width(dims: &[usize]) -> usize {
    dims.last().copied().unwrap_or(1)
}

/// The dimension before the last.
fn time(dims: &[usize]) -> usize {
    dims.len().checked_sub(2).map_or(1, |dim| dims[dim])
}

/// Replaces the last dimension.
fn with_width(mut dims: Vec<usize>, width: usize) -> Vec<usize> {
    dims.pop();
    dims.push(width);
    dims
}

/// Sizes of a weight, `[inputs, outputs]`.
fn linear_sizes(weight: &Floats, LinearSpec { transposed, .. }: LinearSpec) -> [usize; 2] {
    match (&weight.dims()[..], transposed) {
        (&[inputs, outputs], false) | (&[outputs, inputs], true) => [inputs, outputs],
        _ => [1, weight.len()],
    }
}

/// A tensor whose buffer may be written to: the tensor itself if nothing else shares its buffer, otherwise a
/// copy.
fn make_unique(tensor: FlexTensor) -> FlexTensor {
    check_kind(&tensor, DType::F32);
    make_whole(tensor)
}

/// A tensor of numbers of four bytes whose buffer has its elements and nothing else.
fn make_whole(tensor: FlexTensor) -> FlexTensor {
    let whole = tensor.is_contiguous()
        && tensor.layout().start_offset() == 0
        && tensor.bytes().len() == tensor.layout().num_elements() * size_of::<f32>();
    if whole { tensor } else { tensor.to_contiguous() }
}

/// A factor of products of a precision. Products round what they read themselves, but not to f16, in which the CPU is
/// not faster.
fn factor(tensor: FlexTensor, precision: Precision) -> FlexTensor {
    if precision != Precision::F16 {
        return tensor;
    }
    let values = Floats::of(&tensor);
    self::tensor(rounding::to_f16(&values), values.dims())
}

impl Kernels for Flex {
    // Tensors stay f32 here, and products round what they read. Where memory counts more than the time of a conversion,
    // saved tensors could be stored in the small type by these two methods, and products could read it.
    fn reduced(x: FlexTensor, _: Precision) -> FlexTensor {
        x
    }

    fn widened(x: FlexTensor) -> FlexTensor {
        x
    }

    fn linear_forward(
        x: FlexTensor,
        weight: FlexTensor,
        bias: Optional<Self>,
        residual: Optional<Self>,
        spec: LinearSpec,
    ) -> FlexTensor {
        let [x, weight] = [x, weight].map(|tensor| factor(tensor, spec.precision));
        let (x, weight, bias, residual) =
            (Floats::of(&x), Floats::of(&weight), optional(bias), optional(residual));
        let sizes = linear_sizes(&weight, spec);
        let epilogue = Epilogue { bias: bias.as_deref(), residual: residual.as_deref() };
        let y = linear::forward(&x, &weight, epilogue, sizes, spec);
        tensor(y, with_width(x.dims(), sizes[1]))
    }

    fn linear_onto(total: FlexTensor, x: FlexTensor, weight: FlexTensor, spec: LinearSpec) -> FlexTensor {
        let [x, weight] = [x, weight].map(|tensor| factor(tensor, spec.precision));
        let (x, weight) = (Floats::of(&x), Floats::of(&weight));
        let sizes = linear_sizes(&weight, spec);
        let mut total = make_unique(total);
        linear::onto(total.storage_mut(), &x, &weight, sizes, spec);
        total
    }

    fn linear_input_gradient(dy: FlexTensor, weight: FlexTensor, spec: LinearSpec) -> FlexTensor {
        let [dy, weight] = [dy, weight].map(|tensor| factor(tensor, spec.precision));
        let (dy, weight) = (Floats::of(&dy), Floats::of(&weight));
        let sizes = linear_sizes(&weight, spec);
        let dx = linear::backward_input(&dy, &weight, sizes, spec);
        tensor(dx, with_width(dy.dims(), sizes[0]))
    }

    fn linear_weight_gradient(x: FlexTensor, dy: FlexTensor, spec: LinearSpec) -> FlexTensor {
        let [x, dy] = [x, dy].map(|tensor| factor(tensor, spec.precision));
        let (x, dy) = (Floats::of(&x), Floats::of(&dy));
        let sizes @ [inputs, outputs] = [width(&x.dims()), width(&dy.dims())];
        let shape = if spec.transposed { [outputs, inputs] } else { [inputs, outputs] };
        tensor(linear::backward_weight(&x, &dy, sizes, spec), shape)
    }

    fn linear_bias_gradient(dy: FlexTensor) -> FlexTensor {
        let dy = Floats::of(&dy);
        let outputs = width(&dy.dims());
        tensor(linear::backward_bias(&dy, outputs), [outputs])
    }

    fn norm_forward(
        x: FlexTensor,
        weight: FlexTensor,
        bias: Optional<Self>,
        spec: NormSpec,
    ) -> (FlexTensor, FlexTensor) {
        let (x, weight, bias) = (Floats::of(&x), Floats::of(&weight), optional(bias));
        let (y, statistics) = norm::forward(&x, &weight, bias.as_deref(), spec);
        let rows = statistics.len() / 2;
        (tensor(y, x.dims()), tensor(statistics, [rows, 2]))
    }

    fn norm_backward(
        x: FlexTensor,
        weight: FlexTensor,
        statistics: FlexTensor,
        dy: FlexTensor,
        spec: NormSpec,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (x, weight, dy) = (Floats::of(&x), Floats::of(&weight), Floats::of(&dy));
        let (dx, dw, db) = norm::backward(&x, &weight, &Floats::of(&statistics), &dy, spec);
        (tensor(dx, x.dims()), tensor(dw, weight.dims()), tensor(db, weight.dims()))
    }

    fn activation_forward(x: FlexTensor, activation: Activation) -> FlexTensor {
        let x = Floats::of(&x);
        let columns = width(&x.dims());
        let inner = if activation.is_gated() { columns / 2 } else { columns };
        tensor(activation::forward(&x, columns, activation), with_width(x.dims(), inner))
    }

    fn activation_backward(x: FlexTensor, dy: FlexTensor, activation: Activation) -> FlexTensor {
        Self::activation_backward_with_value(x, dy, activation).0
    }

    fn activation_backward_with_value(
        x: FlexTensor,
        dy: FlexTensor,
        activation: Activation,
    ) -> (FlexTensor, FlexTensor) {
        let columns = width(x.layout().shape());
        let (mut x, mut dy) = (make_unique(x), make_unique(dy));
        activation::backward_with_value(x.storage_mut(), dy.storage_mut(), columns, activation);
        (x, dy)
    }

    fn rope(x: FlexTensor, cos: FlexTensor, sin: FlexTensor, spec: RopeSpec) -> FlexTensor {
        let (x, cos, sin) = (Floats::of(&x), Floats::of(&cos), Floats::of(&sin));
        let dims = x.dims();
        tensor(rope::rotate(&x, &cos, &sin, [time(&dims), width(&dims)], spec), dims)
    }

    fn attention_forward(
        query: FlexTensor,
        key_value: Optional<Self>,
        mask: OptionalMask<Self>,
        documents: OptionalInts<Self>,
        spec: AttentionSpec,
    ) -> (FlexTensor, FlexTensor) {
        let (query, key_value) = attention_factors(query, key_value, spec);
        let mask = mask.into_option().map(|mask| mask.to_contiguous());
        let documents = documents_of(documents);
        let inputs = attention_inputs(&query, key_value.as_ref(), mask.as_ref(), documents.as_ref(), spec);
        let [batch, time, _] = inputs.sizes;
        let (output, sums) = attention::forward(inputs);
        (tensor(output, [batch, time, spec.heads * spec.head_size]), tensor(sums, [batch, spec.heads, time]))
    }

    fn attention_backward(
        query: FlexTensor,
        key_value: Optional<Self>,
        mask: OptionalMask<Self>,
        documents: OptionalInts<Self>,
        output: FlexTensor,
        sums: FlexTensor,
        d_output: FlexTensor,
        spec: AttentionSpec,
    ) -> (FlexTensor, FlexTensor) {
        let (query, key_value) = attention_factors(query, key_value, spec);
        let d_output = factor(d_output, spec.precision);
        let mask = mask.into_option().map(|mask| mask.to_contiguous());
        let documents = documents_of(documents);
        let inputs = attention_inputs(&query, key_value.as_ref(), mask.as_ref(), documents.as_ref(), spec);
        let (output, sums, d_output) = (Floats::of(&output), Floats::of(&sums), Floats::of(&d_output));
        let (d_query, d_key_value) = attention::backward(inputs, &output, &sums, &d_output);
        let d_query = tensor(d_query, query.dims());
        let d_key_value = match (d_key_value, &key_value) {
            (Some(gradient), Some(key_value)) => tensor(gradient, key_value.dims()),
            _ => d_query.clone(),
        };
        (d_query, d_key_value)
    }

    fn attention_cached(
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        mask: OptionalMask<Self>,
        spec: AttentionSpec,
    ) -> FlexTensor {
        let factors = [query, key, value].map(|tensor| factor(tensor, spec.precision));
        let [query, key, value] = factors.map(with_whole_rows);
        let mask = mask.into_option().map(|mask| mask.to_contiguous());
        let sizes = |tensor: &FlexTensor| {
            let dims = tensor.layout().shape().to_vec();
            [dims[0], dims[2]]
        };
        let ([batch, time], [_, seen]) = (sizes(&query), sizes(&key));
        let heads = |tensor: &'_ FlexTensor| {
            let strides = tensor.layout().strides();
            Strides {
                first: tensor.layout().start_offset(),
                batch: strides[0] as usize,
                head: strides[1] as usize,
                token: strides[2] as usize,
            }
        };
        let inputs = Inputs {
            query: Heads { values: query.storage(), strides: heads(&query) },
            key: Heads { values: key.storage(), strides: heads(&key) },
            value: Heads { values: value.storage(), strides: heads(&value) },
            mask: mask.as_ref().map(flags),
            documents: None,
            spec,
            sizes: [batch, time, seen],
            is_one_tensor: false,
        };
        tensor(attention::forward(inputs).0, [batch, time, spec.heads * spec.head_size])
    }

    fn cross_entropy(
        states: FlexTensor,
        weight: FlexTensor,
        targets: FlexTensor,
        weights: FlexTensor,
        spec: CrossEntropySpec,
    ) -> FlexTensor {
        let targets = Tokens::of(&targets);
        let [states, weight] = [states, weight].map(|tensor| factor(tensor, spec.precision));
        let (states, weight) = (Floats::of(&states), Floats::of(&weight));
        let (loss, _) =
            cross_entropy::loss(&states, &weight, &targets, &Floats::of(&weights), spec, Wanted::Loss);
        tensor(vec![loss], [1])
    }

    fn cross_entropy_with_gradients(
        states: FlexTensor,
        weight: FlexTensor,
        targets: FlexTensor,
        weights: FlexTensor,
        spec: CrossEntropySpec,
        with_weight_gradient: bool,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let targets = Tokens::of(&targets);
        let [states, weight] = [states, weight].map(|tensor| factor(tensor, spec.precision));
        let (states, weight) = (Floats::of(&states), Floats::of(&weight));
        let wanted = if with_weight_gradient { Wanted::AllGradients } else { Wanted::StatesGradient };
        let (loss, gradients) =
            cross_entropy::loss(&states, &weight, &targets, &Floats::of(&weights), spec, wanted);
        let (d_states, d_weight) = gradients.map_or_else(Default::default, |g| (g.states, g.weight));
        let d_weight = match d_weight {
            Some(d_weight) => tensor(d_weight, weight.dims()),
            None => tensor(vec![0.0], [1]),
        };
        (tensor(vec![loss], [1]), tensor(d_states, states.dims()), d_weight)
    }

    fn scaled_gradient(gradient: FlexTensor, upstream: FlexTensor) -> FlexTensor {
        // Nearly always the loss itself is what is differentiated.
        if Floats::of(&upstream)[..] == [1.0] {
            return gradient;
        }
        <Flex as burn::backend::ops::FloatTensorOps<Flex>>::float_mul(gradient, upstream)
    }

    fn embedding_gradient(tokens: FlexTensor, dy: FlexTensor, vocabulary: usize) -> FlexTensor {
        let (tokens, dy) = (Tokens::of(&tokens), Floats::of(&dy));
        let sizes @ [rows, width] = [vocabulary, width(&dy.dims())];
        let mut table = vec![0f32; rows * width];
        embedding::add_rows(&tokens, &dy, &mut table, width);
        tensor(table, sizes)
    }

    fn embedding_gradient_onto(total: FlexTensor, tokens: FlexTensor, dy: FlexTensor) -> FlexTensor {
        let (tokens, dy) = (Tokens::of(&tokens), Floats::of(&dy));
        let mut total = make_unique(total);
        embedding::add_rows(&tokens, &dy, total.storage_mut(), width(&dy.dims()));
        total
    }

    fn dropout(x: FlexTensor, residual: Optional<Self>, dropout: Dropout) -> FlexTensor {
        let (x, residual) = (Floats::of(&x), optional(residual));
        let dims = x.dims();
        tensor(dropout::apply(&x, residual.as_deref(), [time(&dims), width(&dims)], dropout), dims)
    }

    fn adamw(
        weights: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        gradient: FlexTensor,
        scale: FlexTensor,
        spec: AdamWSpec,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (gradient, scale) = (Floats::of(&gradient), Floats::of(&scale)[0]);
        let (mut weights, mut first, mut second) =
            (make_unique(weights), make_unique(first), make_unique(second));
        if scale.is_finite() || !spec.skip_non_finite {
            optimizer::adamw(
                weights.storage_mut(),
                first.storage_mut(),
                second.storage_mut(),
                &gradient,
                scale,
                spec,
            );
        }
        (weights, first, second)
    }

    fn adamw_8bit(
        weights: FlexTensor,
        codes: FlexTensor,
        largest: FlexTensor,
        gradient: FlexTensor,
        scale: FlexTensor,
        _: FlexTensor,
        spec: AdamW8BitSpec,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        check_kind(&codes, DType::U32);
        let (gradient, scale) = (Floats::of(&gradient), Floats::of(&scale)[0]);
        let (mut weights, mut codes, mut largest) =
            (make_unique(weights), make_whole(codes), make_unique(largest));
        if scale.is_finite() || !spec.skip_non_finite {
            adamw_8bit::adamw_8bit(
                weights.storage_mut(),
                codes.storage_mut(),
                largest.storage_mut(),
                &gradient,
                scale,
                spec,
            );
        }
        (weights, codes, largest)
    }

    fn adafactor(
        weights: FlexTensor,
        rows: FlexTensor,
        columns: FlexTensor,
        gradient: FlexTensor,
        scale: FlexTensor,
        spec: AdafactorSpec,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (gradient, scale) = (Floats::of(&gradient), Floats::of(&scale)[0]);
        let (mut weights, mut rows, mut columns) =
            (make_unique(weights), make_unique(rows), make_unique(columns));
        if scale.is_finite() || !spec.skip_non_finite {
            match spec.sizes {
                Sizes::Vector => {
                    adafactor::vector(weights.storage_mut(), rows.storage_mut(), &gradient, scale, spec);
                }
                Sizes::Matrices { rows: height, columns: width, .. } => adafactor::matrices(
                    weights.storage_mut(),
                    rows.storage_mut(),
                    columns.storage_mut(),
                    &gradient,
                    [height, width],
                    scale,
                    spec,
                ),
            }
        }
        (weights, rows, columns)
    }

    fn sum_of_squares(x: FlexTensor) -> FlexTensor {
        tensor(vec![optimizer::sum_of_squares(&Floats::of(&x))], [1])
    }
}

/// A tensor whose rows along the last dimension are contiguous; copies it only if needed.
fn with_whole_rows(tensor: FlexTensor) -> FlexTensor {
    check_kind(&tensor, DType::F32);
    let strides = tensor.layout().strides();
    let whole = strides.last() == Some(&1) && strides.iter().all(|stride| *stride >= 0);
    if whole { tensor } else { tensor.to_contiguous() }
}

/// Documents by their numbers, `[B, T]`.
fn documents_of(numbers: OptionalInts<Flex>) -> Option<Documents> {
    let numbers = numbers.into_option()?;
    let numbers = Tokens::of(&numbers);
    Some(Documents::of(&numbers, width(&numbers.dims())))
}

/// Mask over the flags of a contiguous tensor.
fn flags(mask: &FlexTensor) -> Mask<'_> {
    let dims = mask.layout().shape().to_vec();
    Mask { flags: mask.storage(), batches: dims[0], queries: dims[2] }
}

/// Queries, keys and values that attention multiplies.
fn attention_factors(
    query: FlexTensor,
    key_value: Optional<Flex>,
    spec: AttentionSpec,
) -> (Floats, Option<Floats>) {
    let floats = |tensor| Floats::of(&factor(tensor, spec.precision));
    (floats(query), key_value.into_option().map(floats))
}

fn attention_inputs<'a>(
    query: &'a Floats,
    key_value: Option<&'a Floats>,
    mask: Option<&'a FlexTensor>,
    documents: Option<&'a Documents>,
    spec: AttentionSpec,
) -> Inputs<'a> {
    let (dims, AttentionSpec { heads, kv_heads, head_size, .. }) = (query.dims(), spec);
    let mask = mask.map(flags);
    let (batch, time) = (dims[0], dims[1]);
    match key_value {
        None => {
            let width = heads + 2 * kv_heads;
            let part =
                |first| Heads { values: query, strides: Strides::packed(time, width, head_size, first) };
            let [query, key, value] = [part(0), part(heads), part(heads + kv_heads)];
            Inputs {
                query,
                key,
                value,
                mask,
                documents,
                spec,
                sizes: [batch, time, time],
                is_one_tensor: true,
            }
        }
        Some(key_value) => {
            let seen = key_value.dims()[1];
            let query = Heads { values: query, strides: Strides::packed(time, heads, head_size, 0) };
            let part = |first| Heads {
                values: key_value,
                strides: Strides::packed(seen, 2 * kv_heads, head_size, first),
            };
            let [key, value] = [part(0), part(kv_heads)];
            Inputs {
                query,
                key,
                value,
                mask,
                documents,
                spec,
                sizes: [batch, time, seen],
                is_one_tensor: false,
            }
        }
    }
}
