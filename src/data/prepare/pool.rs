//! What is costly to make and remembers: lent to one task at a time, and forgotten at the end of a stage.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// As many are made as are in use at the same time, on however many threads; each is told from others by its name.
pub(super) struct Pool<T>(Mutex<Vec<(String, T)>>);

impl<T> Pool<T> {
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Uses one of this name.
    ///
    /// # Errors
    /// Those of `make`, which is called if all are in use.
    pub fn with<R, E>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<T, E>,
        work: impl FnOnce(&T) -> R,
    ) -> Result<R, E> {
        let lent = {
            let mut free = self.free();
            let place = free.iter().position(|(own, _)| own == name);
            place.map(|place| free.swap_remove(place).1)
        };
        let one = match lent {
            Some(one) => one,
            None => make()?,
        };
        let result = work(&one);
        self.free().push((name.into(), one));
        Ok(result)
    }

    /// Drops those that nobody uses.
    pub fn forget(&self) {
        self.free().clear();
    }

    fn free(&self) -> MutexGuard<'_, Vec<(String, T)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_made_as_are_in_use() {
        let pool = Pool::new();
        let made = Mutex::new(0);
        let make = || {
            *made.lock().unwrap() += 1;
            Ok::<_, ()>(())
        };
        for _ in 0..3 {
            pool.with("a", make, |()| pool.with("a", make, |()| ()).unwrap()).unwrap();
        }
        assert_eq!(*made.lock().unwrap(), 2);
        pool.with("b", make, |()| ()).unwrap();
        assert_eq!(*made.lock().unwrap(), 3);
        pool.forget();
        pool.with("a", make, |()| ()).unwrap();
        assert_eq!(*made.lock().unwrap(), 4);
    }
}
