//! Runs the tasks of a step that compares documents with each other.

use super::Run;
use crate::{
    error::Result,
    {
        keys::{Comparison, Groups},
        parts::{Count, Part},
    },
};

impl Run<'_> {
    /// Runs all tasks of the step. Returns the parts, the groups, and the seconds that all tasks took
    /// together.
    pub(super) async fn compare(&mut self, work: Comparison) -> Result<(Vec<Part>, Groups, f64)> {
        let (folder, count) = (work.folder.clone(), work.inputs.len());
        let uncounted = |&(): &()| Count::default();
        let mut seconds = self.tasks(&folder, "keys", count, &work, Comparison::keys, uncounted).await?.1;
        if work.verified_at().is_some() {
            seconds += self.once(&folder, "pairs", &work, Comparison::pairs).await?.1;
            seconds += self.tasks(&folder, "sides", count, &work, Comparison::sides, uncounted).await?.1;
            seconds += self.once(&folder, "in-pairs", &work, Comparison::in_pairs).await?.1;
            seconds += self.tasks(&folder, "similar", count, &work, Comparison::similar, uncounted).await?.1;
        }
        let (groups, taken) = self.once(&folder, "groups", &work, Comparison::groups).await?;
        seconds += taken;
        let read = |part: &Part| part.counts.read();
        let (parts, taken) = self.tasks(&folder, "part", count, &work, Comparison::apply, read).await?;
        Ok((parts, groups, seconds + taken))
    }
}
