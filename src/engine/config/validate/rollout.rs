//! Validation of the `rollout`, `ppo` and `grpo` sections, and of their combination with the rest. A student that
//! is trained on its own answers samples them as `rollout` says, too.

use super::refused;
use crate::{
    config::{AdvantageScale, Config, Layout, Normalization, ObjectiveKind, RewardTerm, Task},
    error::{Result, hint},
};

pub(super) fn check(config: &Config) -> Result<()> {
    let Config { model, data, rollout, train, grpo, .. } = config;
    rollout.rewards.iter().try_for_each(RewardTerm::check)?;
    let kind = config.objective_kind();
    if !kind.samples_answers() && !config.distills_own_answers() {
        return Ok(());
    }
    if config.layout() == Layout::Stream {
        let message = "a prompt is the beginning of a document, but rows may begin anywhere";
        return Err(refused(
            "data.layout",
            "stream",
            message,
            hint!["add ", hint::set("data.layout", "documents")],
        ));
    }
    if data.task != Task::None && data.answer_after.is_none() {
        let message =
            "the prompt ends where the answer begins, but `data.answer_after` does not say where that is";
        return Err(refused(
            "data.task",
            "a task",
            message,
            hint!["add ", hint::set("data.answer_after", "=")],
        ));
    }
    if rollout.max_new_tokens >= model.block_size {
        let message =
            format!("a prompt and its answer take at most `model.block_size` = {} tokens", model.block_size);
        let hint = hint!["for example ", hint::set("rollout.max_new_tokens", model.block_size / 2)];
        return Err(refused("rollout.max_new_tokens", rollout.max_new_tokens, message, hint));
    }
    if !kind.samples_answers() {
        return Ok(());
    }
    let (answers, group) = (config.answers_per_rollout(), config.answers_per_prompt());
    if !answers.is_multiple_of(group) {
        let message = format!(
            "the {answers} answers of a rollout (`train.batch_size` × `train.gradient_accumulation_steps` × \
             `rollout.minibatches`) are no whole number of groups"
        );
        let batch_size = train.batch_size.next_multiple_of(group);
        let hint = hint!["for example ", hint::set("train.batch_size", batch_size)];
        return Err(refused("grpo.group_size", group, message, hint));
    }
    if let Some(max_kl) = rollout.max_kl.filter(|_| config.kl_coefficient() == 0.0) {
        let section = if kind == ObjectiveKind::Ppo { "ppo" } else { "grpo" };
        let message =
            format!("without `{section}.kl_coefficient` there is no reference that answers diverge from");
        return Err(refused("rollout.max_kl", max_kl, message, "leave one of them out"));
    }
    if grpo.normalization == Normalization::DrGrpo && grpo.scale == Some(AdvantageScale::Group) {
        let message =
            "`dr-grpo` does not divide by the deviation of a group, which favours prompts of little variety";
        let hint = hint![
            "leave ",
            hint::key("grpo.scale"),
            " out, or choose another ",
            hint::key("grpo.normalization")
        ];
        return Err(refused("grpo.scale", "group", message, hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn refusal(overrides: &[&str]) -> Option<(String, Option<String>)> {
        let mut config = Config::default();
        let all = ["objective.kind=grpo", "data.task=addition", "data.answer_after=="];
        let all = all.iter().chain(overrides).map(|text| (*text).to_owned()).collect::<Vec<_>>();
        config.apply(&all).unwrap();
        let error = config.validate().err()?;
        let hint = error.hint().map(|hint| hint.to_string());
        match error {
            Error::InvalidValue { key, .. } => Some((key, hint)),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_answers_need_is_said_before_the_run() {
        assert_eq!(refusal(&["train.batch_size=16", "rollout.max_new_tokens=8"]), None);
        for (overrides, key, advice) in [
            (&["data.answer_after="][..], "data.task", "data.answer_after=="),
            (&["model.block_size=64"], "rollout.max_new_tokens", "rollout.max_new_tokens=32"),
            (&["train.batch_size=12", "rollout.max_new_tokens=8"], "grpo.group_size", "train.batch_size=16"),
            (
                &["train.batch_size=16", "rollout.max_new_tokens=8", "rollout.max_kl=3"],
                "rollout.max_kl",
                "leave one",
            ),
            (
                &[
                    "train.batch_size=16",
                    "rollout.max_new_tokens=8",
                    "grpo.normalization=dr-grpo",
                    "grpo.scale=group",
                ],
                "grpo.scale",
                "leave `grpo.scale` out",
            ),
        ] {
            let (found, hint) = refusal(overrides).unwrap_or_else(|| panic!("{overrides:?} is accepted"));
            assert!(
                found == key && hint.as_ref().is_some_and(|hint| hint.contains(advice)),
                "{found}: {hint:?}"
            );
        }
        assert_eq!(refusal(&["objective.kind=ppo", "train.batch_size=12", "rollout.max_new_tokens=8"]), None);
    }
}
