//! The last stages of a run: they tokenize each part and write the shards.

use super::{Run, StageSummary};
use crate::{
    error::Result,
    platform::{Instant, storage},
    {
        TokenizeConfig,
        blend::BlendedSource,
        parts::{Count, Counts, Part},
        shards::{ShardSummary, Sharding, Split, TokenPart, Tokenizing},
        work::Folder,
    },
};
use std::{collections::BTreeMap, sync::Arc};

impl Run<'_> {
    pub(super) async fn tokenize(
        &mut self,
        folder: Folder,
        config: TokenizeConfig,
        input: &StageSummary,
    ) -> Result<(Vec<ShardSummary>, Vec<BlendedSource>)> {
        let started = Instant::now();
        let old = self.finished(&folder).await?;
        let work = Tokenizing {
            engine: self.engine.clone(),
            pipeline: Arc::clone(&self.pipeline),
            config: config.clone(),
            inputs: self.parts(input),
            folder: folder.clone(),
        };
        let count = input.parts.len();
        if old.is_none() {
            self.begin("tokenize", count, input.counts.kept.bytes);
        }
        self.once(&folder, "tokenizer-made", &work, Tokenizing::tokenizer).await?;
        let mean = input.counts.kept.bytes / count.max(1) as u64;
        let read = |part: &TokenPart| Count { documents: part.documents, bytes: mean, ..Count::default() };
        let tokens = self.tasks(&folder, "tokens", count, &work, Tokenizing::tokens, read);
        let (tokens, task_seconds) = tokens.await?;
        if old.is_none() {
            let summary = passed("tokenize", input, task_seconds);
            self.end(&folder, summary, started).await?;
        }
        let blend = work.blend(&tokens);
        self.shards(work, blend, &tokens, input).await
    }

    async fn shards(
        &mut self,
        work: Tokenizing,
        mut blend: Vec<BlendedSource>,
        tokens: &[TokenPart],
        input: &StageSummary,
    ) -> Result<(Vec<ShardSummary>, Vec<BlendedSource>)> {
        let started = Instant::now();
        let settings = (&self.pipeline.blend, &blend, work.config.shard_tokens, self.pipeline.seed);
        let number = self.pipeline.steps.len() + 3;
        let folder = self.folder(number, "shards", &work.folder.key, &settings)?;
        let old = self.finished(&folder).await?;
        let output = folder.file("shards");
        storage::create_folder(&output)?;
        let shards = Arc::new(work.shards(tokens, &blend));
        let sharding = Sharding {
            tokenizer: Arc::new(work.tokenizer_made().await?),
            folder: output.clone(),
            shards: Arc::clone(&shards),
            blend: Arc::new(blend.clone()),
            tokenizing: work.clone(),
        };
        if old.is_none() {
            self.begin("shards", shards.len(), input.counts.kept.bytes);
        }
        let mean = input.counts.kept.bytes / shards.len().max(1) as u64;
        let counted =
            |shard: &ShardSummary| Count { documents: shard.documents, bytes: mean, ..Count::default() };
        let shards = self.tasks(&folder, "shard", shards.len(), &sharding, Sharding::shard, counted);
        let (shards, task_seconds) = shards.await?;
        if self.engine.config.rank.index == 0 {
            work.publish(&output, &self.out().join("shards")).await?;
        }
        if old.is_none() {
            let summary = passed("shards", input, task_seconds);
            self.end(&folder, summary, started).await?;
        }
        let train = || shards.iter().filter(|shard| shard.split == Split::Train);
        let all: u64 = train().map(|shard| shard.tokens).sum();
        for source in &mut blend {
            source.tokens = train().filter_map(|shard| shard.sources.get(&source.name)).sum();
            source.reached = source.tokens as f64 / all.max(1) as f64;
        }
        Ok((shards, blend))
    }
}

/// Summary of a stage that drops none of its documents.
fn passed(name: &str, input: &StageSummary, task_seconds: f64) -> StageSummary {
    let counts = Counts { dropped: BTreeMap::new(), ..input.counts.clone() };
    StageSummary {
        name: name.into(),
        read: counts.kept,
        bytes_in: counts.kept.bytes,
        parts: vec![Part { counts, ..Part::default() }],
        task_seconds,
        ..StageSummary::default()
    }
}
