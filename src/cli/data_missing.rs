//! Stands in for `kiln data` in builds without the feature, and says how to get it.

use crate::error::{Error, hint};

#[derive(Debug, clap::Args)]
pub struct DataArguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<String>,
}

pub(super) fn run(arguments: DataArguments) -> anyhow::Result<()> {
    Err(Error::InvalidValue {
        key: "kiln data".into(),
        value: arguments.arguments.join(" "),
        message: "this build cannot prepare data".into(),
        hint: Some(hint!["build it with ", hint::command("cargo build --release --features data")]),
    }
    .into())
}
