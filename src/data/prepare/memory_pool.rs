//! The memory of sorting and joining: shared out fairly, and a little more where a single batch is larger than a
//! share, since who holds nothing yet could put nothing aside for it.

use datafusion::{
    common::Result,
    execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation},
};
use std::fmt::{Display, Formatter};

/// [`FairSpillPool`], which long documents do not stop.
#[derive(Debug)]
pub(super) struct LenientPool(FairSpillPool);

impl LenientPool {
    /// Of so many bytes.
    pub fn new(size: usize) -> Self {
        Self(FairSpillPool::new(size))
    }
}

impl Display for LenientPool {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "lenient {}", self.0)
    }
}

impl MemoryPool for LenientPool {
    fn name(&self) -> &str {
        "lenient"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.0.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.0.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.0.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.0.shrink(reservation, shrink);
    }

    /// Up to three batches are always granted: sorting takes one, merging two at the least.
    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let refused = self.0.try_grow(reservation, additional);
        if refused.is_err() && reservation.size() < 2 * additional {
            self.0.grow(reservation, additional);
            return Ok(());
        }
        refused
    }

    fn reserved(&self) -> usize {
        self.0.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.0.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn one_large_batch_is_granted_and_many_small_ones_are_not() {
        let pool: Arc<dyn MemoryPool> = Arc::new(LenientPool::new(100));
        let large = MemoryConsumer::new("large").with_can_spill(true).register(&pool);
        large.try_grow(150).unwrap();
        large.free();
        for _ in 0..10 {
            large.try_grow(10).unwrap();
        }
        assert!(large.try_grow(10).is_err());
        assert_eq!(pool.reserved(), 100);
    }
}
