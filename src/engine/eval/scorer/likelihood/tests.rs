use super::*;
use crate::{
    config::{
        Architecture, AttentionConfig, ModelConfig, Norm, Position, SampleConfig, TokenizerConfig,
        TokenizerKind,
    },
    generate::Generator,
    kernels::Mode,
    tokenizer::Tokenizer,
};

fn bytes() -> Tokenizer {
    let config = TokenizerConfig { kind: TokenizerKind::Byte, ..Default::default() };
    Tokenizer::train(&config, &["<|endoftext|>".into()], []).unwrap()
}

fn small() -> ModelConfig {
    ModelConfig {
        vocab_size: 257,
        block_size: 24,
        n_layer: 2,
        n_head: 4,
        n_embd: 16,
        init_std: 0.3,
        ..Default::default()
    }
}

/// Continuations of several contexts: of equal and of other lengths, with beginnings in common, of one token, and
/// too long for the context.
const PAIRS: [(&str, &str); 9] = [
    ("a b", " cd"),
    ("a b", " ce"),
    ("a b", "x"),
    ("a longer context", " abc"),
    ("a longer context", " q"),
    ("alone", " once"),
    ("", "begin"),
    ("far too long for the context of the model", " yes"),
    ("far too long for the context of the model", " no, never"),
];

fn scored(model: &Model, config: &ModelConfig, batch_size: usize) -> Vec<Likelihood> {
    let device = crate::device::Choice::cpu().open().unwrap();
    let tokenizer = bytes();
    let generator = Generator { model, config, tokenizer: &tokenizer, device: &device };
    let scorer = Scorer::new(generator, batch_size).unwrap();
    pollster::block_on(scorer.likelihoods(&PAIRS)).unwrap()
}

/// Likelihood of a continuation by one pass over the whole row.
fn plain(model: &Decoder, config: &ModelConfig, context: &str, continuation: &str) -> Likelihood {
    let device = crate::device::Choice::cpu().open().unwrap();
    let mut tokens: Vec<u32> = context.bytes().map(u32::from).collect();
    if tokens.is_empty() {
        tokens.push(256);
    }
    tokens.extend(continuation.bytes().map(u32::from));
    let tokens = tokens.split_off(tokens.len().saturating_sub(config.block_size + 1));
    let (count, input) = (continuation.len(), tokens[..tokens.len() - 1].to_vec());
    let mut input_tensor = Input::padded(std::slice::from_ref(&input), Side::Right, &device);
    if config.attention.prefix {
        let flags = (0..input.len()).map(|at| at < tokens.len() - count).collect();
        input_tensor.prefix = Some(mask(flags, 1, &device));
    }
    let logits = model.forward(input_tensor, None).narrow(1, input.len() - count, count);
    let [_, _, vocabulary] = logits.dims();
    let logits = log_softmax(logits.reshape([count, vocabulary]), 1);
    let values = logits.into_data().try_into_vec_as::<f32>().unwrap();
    let mut likelihood = Likelihood { sum: 0.0, is_greedy: true, tokens: count };
    for (row, &target) in values.chunks(vocabulary).zip(&tokens[tokens.len() - count..]) {
        let own = row[target as usize];
        likelihood.sum += f64::from(own);
        likelihood.is_greedy &= row.iter().all(|other| *other <= own);
    }
    likelihood
}

#[test]
fn likelihoods_of_batches_are_those_of_single_rows() {
    let device = crate::device::Choice::cpu().open().unwrap();
    let of = |position| ModelConfig { position, norm: Norm::Rmsnorm, ..small() };
    let with = |attention, config| ModelConfig { attention, ..config };
    let window = AttentionConfig { sliding_window: Some(3), ..Default::default() };
    let prefix = AttentionConfig { prefix: true, ..Default::default() };
    let sparse = AttentionConfig { sparse_block: Some(2), ..Default::default() };
    for config in [
        small(),
        of(Position::Rotary),
        of(Position::Alibi),
        of(Position::Relative),
        with(window, of(Position::Rotary)),
        with(prefix, small()),
        with(sparse, of(Position::Rotary)),
    ] {
        let decoder = Decoder::init(&config, Mode::Fused, 3, &device);
        let model = Model::Decoder(decoder.clone());
        for batch_size in [1, 2, 3, 16] {
            let found = scored(&model, &config, batch_size);
            for ((context, continuation), found) in PAIRS.iter().zip(found) {
                let alone = plain(&decoder, &config, context, continuation);
                let difference = (found.sum - alone.sum).abs();
                assert!(difference < 2e-4, "{difference:e} for {context:?}{continuation:?}: {config:?}");
                assert_eq!((found.is_greedy, found.tokens), (alone.is_greedy, alone.tokens));
            }
        }
    }
}

#[test]
fn an_encoder_decoder_gives_the_same_in_every_batch() {
    let device = crate::device::Choice::cpu().open().unwrap();
    let config = ModelConfig {
        architecture: Architecture::EncoderDecoder,
        position: Position::Relative,
        decoder_start_token: 256,
        ..small()
    };
    let model = Model::init(&config, Mode::Fused, 3, &device);
    let alone = scored(&model, &config, 1);
    for batch_size in [2, 16] {
        for (found, alone) in scored(&model, &config, batch_size).iter().zip(&alone) {
            assert!((found.sum - alone.sum).abs() < 2e-4, "{found:?} {alone:?}");
            assert!(alone.sum < 0.0);
        }
    }
}

#[test]
fn the_most_likely_continuation_is_greedy_and_is_what_is_generated() {
    let device = crate::device::Choice::cpu().open().unwrap();
    let config = small();
    let model = Model::init(&config, Mode::Fused, 3, &device);
    let tokenizer = bytes();
    let generator = Generator { model: &model, config: &config, tokenizer: &tokenizer, device: &device };
    let scorer = Scorer::new(generator, 4).unwrap();
    let contexts = ["abc", "z", "a context that is far too long for the model"];
    let sample = SampleConfig { temperature: 0.0, max_new_tokens: 4, ..Default::default() };
    let texts = pollster::block_on(scorer.continue_texts(&contexts, &sample)).unwrap();
    let pairs: Vec<_> = contexts.into_iter().zip(texts.iter().map(String::as_str)).take(2).collect();
    for ((context, text), likelihood) in
        pairs.iter().zip(pollster::block_on(scorer.likelihoods(&pairs)).unwrap())
    {
        // Text that is no UTF-8 does not have the bytes that were generated.
        assert!(likelihood.is_greedy || text.contains('\u{fffd}'), "{context:?}: {text:?}");
    }
    let all = SampleConfig { max_new_tokens: 24, ..sample };
    let error = pollster::block_on(scorer.continue_texts(&contexts, &all)).unwrap_err();
    assert!(error.to_string().contains("max_gen_toks"), "{error}");
}

#[test]
fn texts_without_tokens_are_refused_and_whole_texts_add_up() {
    let device = crate::device::Choice::cpu().open().unwrap();
    let config = small();
    let decoder = Decoder::init(&config, Mode::Fused, 3, &device);
    let model = Model::Decoder(decoder.clone());
    let tokenizer = bytes();
    let generator = Generator { model: &model, config: &config, tokenizer: &tokenizer, device: &device };
    let scorer = Scorer::new(generator, 4).unwrap();
    for continuation in ["", "a continuation that is too long"] {
        let error = pollster::block_on(scorer.likelihoods(&[("a", continuation)])).unwrap_err();
        assert!(error.to_string().contains("continuation"), "{error}");
    }
    let text = "a text of more than twenty-four bytes";
    let (first, rest) = text.split_at(24);
    let found = pollster::block_on(scorer.whole_texts(&[text, ""])).unwrap();
    let context = &text[text.len() - 25..24];
    let expected = plain(&decoder, &config, "", first).sum + plain(&decoder, &config, context, rest).sum;
    assert!((found[0] - expected).abs() < 2e-4 && found[1] == 0.0, "{found:?} {expected}");
}
