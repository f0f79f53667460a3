//! Memory limit of sorting and joining. The memory is shared fairly among tasks, with two exceptions. A task
//! whose single batch is larger than its share gets the memory, since it holds nothing yet that it could
//! spill. A merge cannot spill at all: it has memory of its own, so that it does not fail because another
//! task was faster.

use datafusion::{
    common::Result,
    execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation},
};
use std::fmt::{Display, Formatter};

/// Maximum number of files that are merged at a time; two batches of each are in memory.
pub(super) const FAN_IN: usize = 8;

/// A [`FairSpillPool`] that grants the memory that large batches and merges cannot do without.
#[derive(Debug)]
pub(super) struct LenientPool {
    fair: FairSpillPool,
    /// Bytes that each merge is granted in any case.
    merge: usize,
}

impl LenientPool {
    /// Makes a pool of `size` bytes for `tasks` tasks at a time.
    pub fn new(size: usize, tasks: usize) -> Self {
        // What a task sorts takes half of its share, the rest is for the sorted copy: no more can be merged.
        Self { fair: FairSpillPool::new(size), merge: size / (2 * tasks) }
    }
}

impl Display for LenientPool {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "lenient {}", self.fair)
    }
}

impl MemoryPool for LenientPool {
    fn name(&self) -> &str {
        "lenient"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.fair.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.fair.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.fair.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.fair.shrink(reservation, shrink);
    }

    /// Grants memory as the fair pool does, and beyond its limit up to three batches, or a merge's own
    /// memory.
    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let refused = self.fair.try_grow(reservation, additional);
        let is_little = reservation.size() < 2 * additional;
        let is_merge = !reservation.consumer().can_spill() && reservation.size() + additional <= self.merge;
        if refused.is_err() && (is_little || is_merge) {
            self.fair.grow(reservation, additional);
            return Ok(());
        }
        refused
    }

    fn reserved(&self) -> usize {
        self.fair.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.fair.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn one_large_batch_is_granted_and_many_small_ones_are_not() {
        let pool: Arc<dyn MemoryPool> = Arc::new(LenientPool::new(100, 1));
        let large = MemoryConsumer::new("large").with_can_spill(true).register(&pool);
        large.try_grow(150).unwrap();
        large.free();
        for _ in 0..10 {
            large.try_grow(10).unwrap();
        }
        assert!(large.try_grow(10).is_err());
        assert_eq!(pool.reserved(), 100);
        let merge = MemoryConsumer::new("merge").register(&pool);
        for _ in 0..5 {
            merge.try_grow(10).unwrap();
        }
        assert!(merge.try_grow(10).is_err());
    }
}
