//! The learning rate as a function of the step. Every schedule starts with a linear warmup, and none rises
//! again after its end.

use crate::config::{ScheduleKind, TrainConfig};

/// Learning rate of optimizer step `step`, counted from 0.
pub fn learning_rate(config: &TrainConfig, step: u64) -> f64 {
    let (peak, floor, warmup) = (config.learning_rate, config.min_lr, config.warmup_steps);
    if step < warmup {
        return peak * (step + 1) as f64 / (warmup + 1) as f64;
    }
    match config.schedule {
        ScheduleKind::Constant => peak,
        ScheduleKind::Linear => peak + (floor - peak) * progress(step, warmup, end(config)),
        ScheduleKind::Cosine => {
            let angle = std::f64::consts::PI * progress(step, warmup, end(config));
            floor + (peak - floor) * 0.5 * (1.0 + angle.cos())
        }
        ScheduleKind::Wsd => {
            let decay = config.decay_steps.unwrap_or(config.max_steps / 5);
            let start = config.max_steps.saturating_sub(decay).max(warmup);
            if step < start { peak } else { peak + (floor - peak) * progress(step, start, config.max_steps) }
        }
        ScheduleKind::InverseSqrt => {
            (peak * (warmup.max(1) as f64 / (step + 1) as f64).sqrt().min(1.0)).max(floor)
        }
    }
}

/// Note for the user if a run continues after `step` steps with other settings, and its learning rate jumps
/// by more than one per cent; otherwise `None`.
pub fn jump(before: &TrainConfig, now: &TrainConfig, step: u64) -> Option<String> {
    let (expected, next) = (learning_rate(before, step), learning_rate(now, step));
    if (next - expected).abs() <= 0.01 * expected.abs() {
        return None;
    }
    let last = learning_rate(before, step.saturating_sub(1));
    let name = |kind: ScheduleKind| serde_json::to_value(kind).ok()?.as_str().map(str::to_owned);
    let settings = |config: &TrainConfig| {
        [
            ("learning_rate", config.learning_rate.to_string()),
            ("min_lr", config.min_lr.to_string()),
            ("warmup_steps", config.warmup_steps.to_string()),
            ("max_steps", config.max_steps.to_string()),
            ("decay_steps", config.decay_steps.map_or("absent".into(), |steps| steps.to_string())),
            ("schedule", name(config.schedule).unwrap_or_default()),
        ]
    };
    let changed = settings(before).into_iter().zip(settings(now)).filter(|((_, then), (_, now))| then != now);
    let changed: Vec<String> =
        changed.map(|((key, then), (_, now))| format!("`train.{key}` was {then} and is {now}")).collect();
    Some(format!(
        "the learning rate jumps from {last:.1e} at step {step} to {next:.1e} at step {}: {}",
        step + 1,
        changed.join(", ")
    ))
}

fn end(config: &TrainConfig) -> u64 {
    config.decay_steps.unwrap_or(config.max_steps)
}

/// Fraction of the way from `start` to `end`, from 0 to 1.
fn progress(step: u64, start: u64, end: u64) -> f64 {
    if end <= start {
        return 1.0;
    }
    ((step - start) as f64 / (end - start) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(schedule: ScheduleKind) -> TrainConfig {
        TrainConfig {
            schedule,
            learning_rate: 1.0,
            min_lr: 0.1,
            warmup_steps: 10,
            max_steps: 110,
            ..Default::default()
        }
    }

    #[test]
    fn warmup_is_linear_and_nothing_rises_after_it() {
        use ScheduleKind::*;
        for schedule in [Constant, Linear, Cosine, Wsd, InverseSqrt] {
            let config = config(schedule);
            let rates: Vec<f64> = (0..400).map(|step| learning_rate(&config, step)).collect();
            assert!((rates[4] - 5.0 / 11.0).abs() < 1e-12, "{schedule:?}");
            assert!(rates[..11].is_sorted(), "{schedule:?}");
            assert!(rates[10..].windows(2).all(|pair| pair[1] <= pair[0]), "{schedule:?}");
            assert!(rates.iter().all(|&rate| rate > 0.0 && rate <= 1.0), "{schedule:?}");
        }
    }

    #[test]
    fn decays_end_at_the_floor() {
        for schedule in [ScheduleKind::Linear, ScheduleKind::Cosine, ScheduleKind::Wsd] {
            let config = config(schedule);
            assert!((learning_rate(&config, 110) - 0.1).abs() < 1e-12, "{schedule:?}");
            assert!((learning_rate(&config, 1000) - 0.1).abs() < 1e-12, "{schedule:?}");
        }
        let cosine = config(ScheduleKind::Cosine);
        assert!((learning_rate(&cosine, 60) - 0.55).abs() < 1e-12);
        let wsd = config(ScheduleKind::Wsd);
        assert_eq!(learning_rate(&wsd, 87), 1.0);
        assert!((learning_rate(&wsd, 99) - 0.55).abs() < 1e-12);
    }

    #[test]
    fn a_jump_is_said_with_both_rates_and_what_changed() {
        let before = config(ScheduleKind::Cosine);
        assert_eq!(jump(&before, &before, 100), None);
        let longer = TrainConfig { max_steps: 1110, ..before.clone() };
        assert_eq!(
            jump(&before, &longer, 110).unwrap(),
            "the learning rate jumps from 1.0e-1 at step 110 to 9.8e-1 at step 111: `train.max_steps` was 110 and \
             is 1110"
        );
        // What changes nothing at this step is no jump, and neither is less than can be seen.
        assert_eq!(jump(&before, &longer, 5), None);
        assert_eq!(jump(&before, &TrainConfig { learning_rate: 1.001, ..before.clone() }, 60), None);
        for changed in [
            TrainConfig { learning_rate: 0.5, ..before.clone() },
            TrainConfig { warmup_steps: 80, ..before.clone() },
            TrainConfig { schedule: ScheduleKind::Constant, ..before.clone() },
            TrainConfig { min_lr: 0.5, ..before.clone() },
            TrainConfig { decay_steps: Some(60), ..before.clone() },
        ] {
            assert!(jump(&before, &changed, 60).is_some(), "{changed:?}");
        }
    }
}
