//! A pool of caches, each lent to one task at a time, all of them cleared at the end of a stage.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Holds as many values as were in use at the same time, on however many threads.
pub(super) struct Pool<T>(Mutex<Vec<T>>);

impl<T: Default> Pool<T> {
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub fn with<R>(&self, work: impl FnOnce(&T) -> R) -> R {
        let lent = self.free().pop();
        let one = lent.unwrap_or_default();
        let result = work(&one);
        self.free().push(one);
        result
    }

    /// Drops all values that are not in use.
    pub fn clear(&self) {
        self.free().clear();
    }

    fn free(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn as_many_are_made_as_are_in_use() {
        let pool: Pool<Cell<u32>> = Pool::new();
        let count = |one: &Cell<u32>| one.replace(one.get() + 1);
        assert_eq!(pool.with(count), 0);
        assert_eq!(pool.with(count), 1);
        // The second is new.
        assert_eq!(pool.with(|_| pool.with(count)), 0);
        pool.clear();
        assert_eq!(pool.with(count), 0);
    }
}
