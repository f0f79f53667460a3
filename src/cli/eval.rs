//! `kiln eval RUN`: measures loss, perplexity, accuracy and more over a whole split, what an objective reports of
//! preferred and rejected answers, or evaluates suites of tasks.

use super::{
    DeviceOption, interrupt, memorization,
    model::{AdapterOption, DtypeOption, build, of_model, open_checkpoint},
    suite::SuiteOptions,
    train::run_of,
};
use crate::{
    checkpoint::Weights,
    config::{Architecture, Head, Layout, ModelConfig, ObjectiveKind, SampleKind},
    data::{Dataset, Labels, RowLayout, TokenSplit, dialogues, evaluation_batches},
    error::{Error, hint},
    eval::{
        Evaluation, evaluate, evaluate_objective,
        generated::{GeneratedScores, evaluate_generated},
        scorer::Scorer,
    },
    generate::Generator,
    objective::{self, StepTotals},
    platform::Instant,
};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct EvalArguments {
    /// A run or checkpoint folder, a folder of Hugging Face's or one .safetensors file of it, or a .gguf file
    #[arg(value_name = "RUN")]
    path: PathBuf,
    /// Text to evaluate on instead of the run's own; read whole unless --split says otherwise
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Which part of the data
    #[arg(long, value_enum)]
    split: Option<Split>,
    /// Rows per batch
    #[arg(long, default_value_t = 16, value_name = "N")]
    batch_size: usize,
    /// Use the moving average of the weights
    #[arg(long)]
    ema: bool,
    /// Generate the target text of each example with an encoder-decoder, and compare
    #[arg(long)]
    generate: bool,
    /// Measure what a decoder has learned by heart of its training text: extractable continuations, overlaps, canaries
    #[arg(long, conflicts_with = "data")]
    memorization: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    adapters: AdapterOption,
    #[command(flatten)]
    dtype: DtypeOption,
    #[command(flatten)]
    device: DeviceOption,
    #[command(flatten)]
    suite: SuiteOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Split {
    Train,
    Val,
}

pub(super) fn run(arguments: EvalArguments) -> anyhow::Result<()> {
    if arguments.batch_size == 0 {
        return Err(Error::invalid_value("--batch-size", 0, "must be at least 1").into());
    }
    if arguments.suite.is_given() {
        return run_suite(&arguments);
    }
    let mut checkpoint = open_checkpoint(&arguments.path)?;
    arguments.adapters.add_to(&mut checkpoint)?;
    let mut config = checkpoint.config.clone().unwrap_or_default();
    config.model.clone_from(&checkpoint.model);
    if arguments.memorization {
        memorization::check(&checkpoint)?;
    }
    let own_data = arguments.data.is_empty();
    if !own_data {
        config.data.paths.clone_from(&arguments.data);
        config.data.canaries.clear();
        // Other data has no part of it that was held out.
        if arguments.split.is_none() {
            config.data.val_fraction = 0.0;
        }
    }
    // A model that was not trained by kiln says nothing of the data that it is for.
    if checkpoint.config.is_none() && dialogues::kind_of(&config)? == Some(SampleKind::Conversations) {
        config.objective.kind = Some(ObjectiveKind::Sft);
    }
    let split = arguments.split.unwrap_or(if own_data { Split::Val } else { Split::Train });
    // Unlike training, measuring needs no full block of a stream.
    if config.layout() == Layout::Stream {
        config.model.block_size = 1;
    }
    let dataset = Dataset::prepare(&config.with_template_of(&config), Some(checkpoint.tokenizer()?))?;
    super::show_notes(&dataset.notes);
    let (tokens, bytes) = match split {
        Split::Train => (&dataset.train, dataset.train_bytes),
        Split::Val => (&dataset.val, dataset.val_bytes),
    };
    if tokens.is_empty() {
        return Err(Error::CorpusTooShort {
            split: if split == Split::Val { "validation" } else { "training" },
            tokens: tokens.len(),
            needed: 1,
        }
        .into());
    }
    let device = arguments.device.choice()?.open()?;
    let weights = if arguments.ema { Weights::Averaged } else { Weights::Latest };
    // Also that of a second model, which an objective of preferences loads.
    config.train.dtype = arguments.dtype.on(&device)?;
    let model = build(&checkpoint, weights, config.train.dtype, &device)?;
    let start = Instant::now();
    let mut layout =
        RowLayout { block_size: checkpoint.model.block_size, ..RowLayout::of(&config, &dataset.tokenizer)? };
    let cut_documents = match checkpoint.model.context_limit() {
        Some(_) => layout.collator.cut_documents(tokens, layout.block_size),
        None => {
            layout.block_size = layout.collator.longest_row(tokens, layout.block_size);
            0
        }
    };
    if cut_documents > 0 {
        let what = if matches!(tokens.labels(), Labels::Dialogues(_)) { "rows" } else { "documents" };
        eprintln!(
            "note: the context of {} tokens does not hold {cut_documents} of {} {what} whole; their rest was not read",
            checkpoint.model.block_size,
            tokens.document_count()
        );
    }
    let batches = evaluation_batches(tokens.clone(), layout, arguments.batch_size, 0);
    let of_model = of_model(&checkpoint);
    if config.objective_kind().takes_preferences() {
        let objective = objective::build(&config, &model, &dataset.tokenizer)?;
        let evaluation = evaluate_objective(objective.as_ref(), &model, batches.clone(), &device);
        let (loss, metrics) = pollster::block_on(evaluation)?;
        Error::check_finite("the losses", &[loss as f32]).map_err(&of_model)?;
        let mut totals = StepTotals::default();
        batches.for_each(|host| totals.add(&host));
        let result = PreferenceResult { loss, examples: totals.examples, metrics: &metrics, cut_documents };
        return result.show(&arguments, checkpoint.path(), start);
    }
    let result = pollster::block_on(evaluate(&model, &checkpoint.model, batches, &device))?;
    Error::check_finite("the losses", &[result.loss as f32]).map_err(&of_model)?;
    // Documents cut to the block are not read whole, so their bytes do not belong to the loss.
    let reads_all = config.layout() == Layout::Stream && config.model.architecture == Architecture::Decoder;
    let bytes = bytes.filter(|&bytes| bytes > 0 && reads_all);
    let bits_per_byte = bytes.map(|bytes| result.bits_per_byte(bytes));
    let generator = Generator {
        model: &model,
        config: &checkpoint.model,
        tokenizer: &dataset.tokenizer,
        device: &device,
    };
    let written = match arguments.generate {
        true => Some(compare(&generator, tokens, &of_model)?),
        false => None,
    };
    let memorization = match &checkpoint.config {
        Some(config) if arguments.memorization => {
            interrupt::listen()?;
            let samples =
                run_of(&arguments.path).map_or_else(|_| Vec::new(), |run| memorization::samples_of(&run));
            let rows = arguments.batch_size;
            memorization::measure(&generator, config, &dataset, &samples, rows, &interrupt::asked)?
        }
        _ => None,
    };
    if arguments.json {
        let mut json = serde_json::to_value(&result)?;
        json["written"] = json!(written);
        json["bits_per_byte"] = json!(bits_per_byte);
        json["checkpoint"] = json!(checkpoint.path());
        if memorization.is_some() {
            json["memorization"] = json!(memorization);
        }
        if cut_documents > 0 {
            json["cut_documents"] = cut_documents.into();
        }
        json["seconds"] = json!(start.elapsed().as_secs_f64());
        println!("{}", serde_json::to_string_pretty(&json)?);
    } else {
        println!("checkpoint     {}", checkpoint.path().display());
        show(&result, &checkpoint.model, bits_per_byte);
        if let Some(share) = result.exact_match.filter(|_| tokens.labels().are_texts()) {
            println!("exact match    {:.2} %", 100.0 * share);
        }
        if let Some(written) = written {
            println!("generated      {}", written.texts);
            println!("exact match    {:.2} %", 100.0 * written.exact_match);
            println!("word errors    {:.2} %", 100.0 * written.word_error_rate);
        }
        if let Some(found) = &memorization {
            println!("{}", memorization::text(found));
        }
    }
    Ok(())
}

/// The loss and the metrics of an objective over preferred and rejected answers.
struct PreferenceResult<'a> {
    loss: f64,
    examples: usize,
    metrics: &'a objective::Metrics,
    cut_documents: usize,
}

impl PreferenceResult<'_> {
    fn show(&self, arguments: &EvalArguments, checkpoint: &Path, start: Instant) -> anyhow::Result<()> {
        let Self { loss, examples, metrics, cut_documents } = self;
        if arguments.json {
            let mut json = json!({
                "loss": loss,
                "examples": examples,
                "metrics": metrics,
                "checkpoint": checkpoint,
                "seconds": start.elapsed().as_secs_f64(),
            });
            if *cut_documents > 0 {
                json["cut_documents"] = json!(cut_documents);
            }
            println!("{}", serde_json::to_string_pretty(&json)?);
            return Ok(());
        }
        println!("checkpoint     {}", checkpoint.display());
        println!("examples       {examples}");
        println!("loss           {loss:.4}");
        for (name, value) in *metrics {
            let values: Vec<String> = value.values().iter().map(|value| format!("{value:.4}")).collect();
            println!("{name:<26} {}", values.join(" "));
        }
        Ok(())
    }
}

/// Evaluates suites of tasks.
fn run_suite(arguments: &EvalArguments) -> anyhow::Result<()> {
    let mut checkpoint = open_checkpoint(&arguments.path)?;
    arguments.adapters.add_to(&mut checkpoint)?;
    let tokenizer = checkpoint.tokenizer()?;
    let suite = arguments.suite.prepare(&checkpoint.model)?;
    let device = arguments.device.choice()?.open()?;
    let weights = if arguments.ema { Weights::Averaged } else { Weights::Latest };
    let model = build(&checkpoint, weights, arguments.dtype.on(&device)?, &device)?;
    let generator =
        Generator { model: &model, config: &checkpoint.model, tokenizer: &tokenizer, device: &device };
    let scorer = Scorer::new(generator, arguments.batch_size)?;
    arguments.suite.run(&suite, scorer, checkpoint.path(), arguments.json).map_err(|error| {
        match error.downcast::<Error>() {
            Ok(error) => of_model(&checkpoint)(error).into(),
            Err(error) => error,
        }
    })
}

/// Compares the texts that the model generates with the targets.
fn compare(
    generator: &Generator,
    split: &TokenSplit,
    of_model: &dyn Fn(Error) -> Error,
) -> anyhow::Result<GeneratedScores> {
    interrupt::listen()?;
    let written =
        pollster::block_on(evaluate_generated(generator, split, &interrupt::asked)).map_err(of_model)?;
    Ok(written.ok_or_else(|| Error::InvalidValue {
        key: "--generate".into(),
        value: "true".into(),
        message: "the texts have no target texts to compare with".into(),
        hint: Some(hint!["it is for models that were trained with ", hint::key("data.target_field")]),
    })?)
}

fn show(result: &Evaluation, model: &ModelConfig, bits_per_byte: Option<f64>) {
    println!("targets        {}", result.tokens);
    if model.head == Head::Regression {
        println!("squared error  {:.4}", result.loss);
        return;
    }
    println!("loss           {:.4} nats", result.loss);
    if let Some(perplexity) = result.perplexity {
        println!("perplexity     {perplexity:.4}");
    }
    if let Some(bits_per_byte) = bits_per_byte {
        println!("bits per byte  {bits_per_byte:.4}");
    }
    if let Some(accuracy) = result.accuracy {
        println!("accuracy       {:.2} %", 100.0 * accuracy);
    }
    let Some(confusion) = &result.classes else { return };
    println!("macro F1       {:.4}", confusion.macro_f1());
    for (label, class) in model.labels.iter().zip(confusion.all()) {
        let (precision, recall, f1) = (class.precision, class.recall, class.f1);
        println!(
            "  {label:<12} F1 {f1:.4}, precision {precision:.4}, recall {recall:.4} of {}",
            class.support
        );
    }
}
