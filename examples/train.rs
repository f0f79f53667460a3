//! The shortest program that trains: it trains a character model on the embedded corpus, then generates some
//! text.
//!
//!     cargo run --release --example train

use kiln::{config::presets::Preset, data::Dataset, device::Choice, generate::Generator, train::Trainer};

fn main() -> kiln::Result<()> {
    let config = Preset::find("debug")?.config()?;
    let device = Choice::auto().open()?;
    let dataset = Dataset::prepare(&config, None)?;
    let config = config.resolve(&dataset)?;

    let mut trainer = Trainer::new(config, dataset, &device)?;
    for _ in 0..200 {
        trainer.step();
        if trainer.steps_done().is_multiple_of(20) {
            let (loss, grad_norm) = pollster::block_on(trainer.last_numbers())?;
            println!("step {:>3}  loss {loss:.4}  gradient norm {grad_norm:.2}", trainer.steps_done());
        }
    }

    let (config, model) = (trainer.config(), trainer.trained_model());
    let generator = Generator {
        model: &model,
        config: &config.model,
        tokenizer: &trainer.dataset().tokenizer,
        device: &device,
    };
    pollster::block_on(generator.generate(&config.sample, &mut |text| print!("{text}"), &|| false))?;
    println!();
    Ok(())
}
