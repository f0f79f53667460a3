//! The tasks of a step that compares documents with each other.

use super::Run;
use crate::{
    data::prepare::{
        keys::{Comparison, Groups},
        parts::{Count, Part},
    },
    error::Result,
};

impl Run<'_> {
    /// Parts, groups, and the seconds that all tasks took together.
    pub(super) async fn compare(&mut self, work: Comparison) -> Result<(Vec<Part>, Groups, f64)> {
        let (engine, folder, count) = (work.engine.clone(), work.folder.clone(), work.inputs.len());
        let mut seconds = 0.0;
        /// Tasks of one kind, over all parts.
        macro_rules! each_part {
            ($name:literal, $method:ident, $counted:expr) => {{
                let run = |part| {
                    let work = work.clone();
                    async move { work.engine.attempt(|| work.clone().$method(part)).await }
                };
                let (results, taken) = self.tasks(&folder, $name, count, run, $counted).await?;
                seconds += taken;
                results
            }};
        }
        macro_rules! once {
            ($name:literal, $method:ident) => {{
                let run = || {
                    let work = work.clone();
                    async move { work.engine.attempt(|| work.clone().$method()).await }
                };
                engine.once(&folder, $name, run).await?
            }};
        }
        let uncounted = |&(): &()| Count::default();
        each_part!("keys", keys, uncounted);
        if work.verified_at().is_some() {
            once!("pairs", pairs);
            each_part!("sides", sides, uncounted);
            once!("in-pairs", in_pairs);
            each_part!("similar", similar, uncounted);
        }
        let groups = once!("groups", groups);
        let parts = each_part!("part", apply, |part: &Part| part.tally.read());
        Ok((parts, groups, seconds))
    }
}
