//! Verification of chat templates, tokens and masks against those that transformers gives.

use crate::{chat::fixture, error::Result, eval::verify::Case};
use std::path::Path;

/// Number of characters of a difference that is shown.
const SHOWN: usize = 300;

/// Compares every case of a folder. Those of a template are one case, with a condition for each conversation.
pub(super) fn verify(folder: &Path) -> Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    for outcome in fixture::evaluate(folder)? {
        let (template, conversation) = outcome.name.split_once(" / ").unwrap_or((&outcome.name, ""));
        let known = cases.iter().position(|case| case.name == template);
        let index = known.unwrap_or_else(|| {
            cases.push(Case::new(template));
            cases.len() - 1
        });
        let differences = outcome.differences.join("; ");
        let what = match differences.is_empty() {
            true => format!("text, tokens and mask of `{conversation}` are equal"),
            false => format!("`{conversation}`: {}", differences.chars().take(SHOWN).collect::<String>()),
        };
        cases[index].check(what, differences.is_empty());
    }
    Ok(cases)
}
