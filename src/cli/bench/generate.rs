//! `kiln bench generate`: measures tokens a second of greedy generation, with and without the KV cache.

use super::super::{DeviceOption, config::ConfigSource, model::DtypeOption};
use crate::{
    config::{Architecture, ModelConfig},
    data::Dataset,
    error::Error,
    generate::{NextToken, decoder::TextDecoder},
    kernels::Precision,
    model::{Decoder, Model},
    platform::Instant,
    transform,
};
use burn::tensor::Device;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub struct GenerationArguments {
    #[command(flatten)]
    source: ConfigSource,
    /// Tokens to generate; default: as many as the context holds
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    dtype: DtypeOption,
    #[command(flatten)]
    device: DeviceOption,
}

const DEFAULT_PRESET: &str = "shakespeare-char-cpu";

pub(super) fn run(arguments: GenerationArguments) -> anyhow::Result<()> {
    let config = arguments.source.resolve(DEFAULT_PRESET)?;
    let dataset = Dataset::prepare(&config, None)?;
    let config = config.resolve(&dataset)?;
    let (mode, config) = (config.kernels.mode(), config.model);
    if config.architecture != Architecture::Decoder {
        let message = "what is measured is a decoder";
        return Err(Error::invalid_value("model.architecture", "encoder", message).into());
    }
    let tokens = arguments.tokens.unwrap_or(config.block_size - 1);
    if !(1..config.block_size).contains(&tokens) {
        let message = format!("expected 1 to {}, which the context holds", config.block_size - 1);
        return Err(Error::invalid_value("--tokens", tokens, message).into());
    }
    let choice = arguments.device.choice()?;
    let device = choice.open()?;
    let info = choice.info();
    let precision = arguments.dtype.on(&device)?;
    let model = Model::init(&config, mode.with_precision(precision), 0, &device);
    let Model::Decoder(model) = transform::reduce_weights(model, precision) else {
        unreachable!("the architecture was checked")
    };
    let measure = |cached| -> crate::Result<(Vec<u32>, f64)> {
        // Once before, for compiling and tuning.
        generate(&model, &config, tokens, cached, &device)?;
        let start = Instant::now();
        let generated = generate(&model, &config, tokens, cached, &device)?;
        Ok((generated, tokens as f64 / start.elapsed().as_secs_f64()))
    };
    let ((with, fast), (without, slow)) = (measure(true)?, measure(false)?);
    // Rounding, which differs between the two, may decide between tokens that are almost as likely.
    if with != without && precision == Precision::F32 {
        let message = "generation with the cache gives other tokens than without it".into();
        return Err(Error::OverTolerance { message }.into());
    }
    if arguments.json {
        let result = json!({
            "device": choice.to_string(),
            "description": info.as_ref().map(|info| &info.description),
            "instruction_set": info.as_ref().and_then(|info| info.instruction_set),
            "dtype": precision,
            "tokens": tokens,
            "cached_tokens_per_second": fast,
            "uncached_tokens_per_second": slow,
            "speed_up": fast / slow,
        });
        println!("{}", serde_json::to_string_pretty(&result)?);
    } else {
        println!(
            "device         {}",
            info.map_or_else(|| choice.to_string(), |info| { format!("{choice} ({})", info.summary()) })
        );
        println!("with cache     {fast:.0} tokens/s");
        println!("without cache  {slow:.0} tokens/s");
        println!("speed-up       {:.1} x over {tokens} tokens", fast / slow);
    }
    Ok(())
}

/// Generates the most likely continuation of token 0, of `tokens` tokens.
fn generate(
    model: &Decoder,
    config: &ModelConfig,
    tokens: usize,
    cached: bool,
    device: &Device,
) -> crate::Result<Vec<u32>> {
    let next = || NextToken::new(TextDecoder::DecoderOnly(model), config, config.block_size, device);
    let mut own = next();
    let mut all = vec![0];
    for _ in 0..tokens {
        let logits = match cached {
            true => pollster::block_on(own.logits(&all[all.len() - 1..]))?,
            false => pollster::block_on(next().logits(&all))?,
        };
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        all.push(best.unwrap_or_default() as u32);
    }
    Ok(all)
}
