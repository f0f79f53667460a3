//! Parallel work on the rows of a matrix or the heads of a batch, and the buffers that it writes. In a browser there is one
//! part.

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use std::{marker::PhantomData, mem::MaybeUninit, ops::Range};

/// Splits `0..count` into one part per thread, none smaller than `grain`, and calls `work` with each.
pub(super) fn split(count: usize, grain: usize, work: impl Fn(Range<usize>) + Sync) {
    let parts = rayon::current_num_threads().min(count / grain.max(1)).max(1);
    if parts == 1 {
        return work(0..count);
    }
    let bound = |part: usize| count * part / parts;
    (0..parts).into_par_iter().for_each(|part| work(bound(part)..bound(part + 1)));
}

/// Calls `work` with every number below `count`; each thread takes the next one when it finishes.
pub(super) fn each(count: usize, work: impl Fn(usize) + Sync) {
    if count <= 1 || rayon::current_num_threads() == 1 {
        return (0..count).for_each(work);
    }
    (0..count).into_par_iter().with_max_len(1).for_each(&work);
}

/// Allocates an uninitialized buffer of `count` elements.
pub(super) fn alloc(count: usize) -> Box<[MaybeUninit<f32>]> {
    Box::new_uninit_slice(count)
}

/// A buffer that several threads write, each its own part.
pub(super) struct Shared<'a, T> {
    start: *mut T,
    length: usize,
    values: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

// SAFETY: as for the mutable slice that it stands for; `part` asks its callers to keep parts apart.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: the same.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub fn new(values: &'a mut [T]) -> Self {
        Self { start: values.as_mut_ptr(), length: values.len(), values: PhantomData }
    }

    pub fn len(&self) -> usize {
        self.length
    }

    /// A part of the buffer, to be written.
    ///
    /// # Safety
    /// Nothing else may use this part at the same time.
    #[allow(clippy::mut_from_ref, reason = "parts are disjoint")]
    pub unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.length);
        // SAFETY: within bounds, and the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }

    /// Address of element `index`, for products that write a matrix whose rows are not contiguous.
    pub fn at(&self, index: usize) -> *mut T {
        assert!(index <= self.length);
        // SAFETY: within the slice or just behind it.
        unsafe { self.start.add(index) }
    }
}
