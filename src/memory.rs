//! The allocator of the binary: mimalloc, with separate handling of buffers of two megabytes and more.
//!
//! A training step allocates the same large buffers again and again. To return each to the system and fault
//! its pages in anew would cost a tenth of a step. To keep all that were ever freed would cost memory, since
//! the buffers of the forward pass, of the gradients and of the optimizer are not needed at the same time. So
//! freed buffers are kept for the next allocation of their size as long as used and kept buffers together do
//! not exceed the most that was ever in use at the same time; beyond that the oldest are returned. After
//! [`keep_nothing`], every buffer that is freed is returned.

use mimalloc::MiMalloc;
use std::{
    alloc::{GlobalAlloc, Layout},
    ptr::NonNull,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Minimum bytes of a large buffer.
const LARGE: usize = 2 << 20;
/// Sizes of large buffers are rounded up to multiples of this.
const STEP: usize = 1 << 16;
/// Maximum number of freed buffers that are kept.
const KEPT: usize = 256;

pub struct Allocator;

static LARGE_BUFFERS: Mutex<Buffers> = Mutex::new(Buffers::new());
static KEEPS: AtomicBool = AtomicBool::new(true);

/// Number of mimalloc's option for the delay, in milliseconds, after which freed memory returns to the
/// system.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// From now on, freed buffers return to the system soon instead of being kept for the next allocation of
/// their size. This suits work whose buffers have many sizes.
pub fn keep_nothing() {
    KEEPS.store(false, Ordering::Relaxed);
    // SAFETY: sets a number that is read whenever memory is freed.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 10) };
}

/// Returns the memory that this thread has freed to the system; an idle thread would keep it until it works
/// again.
pub fn collect() {
    // SAFETY: only memory that nobody uses is freed.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

fn is_large(layout: Layout) -> bool {
    cfg!(unix) && layout.size() >= LARGE && layout.align() <= 4096
}

// SAFETY: every buffer is made and freed by the same of the two allocators, since its layout decides.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return take(layout).map_or(std::ptr::null_mut(), |(buffer, _)| buffer.as_ptr());
        }
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            let Some((buffer, is_new)) = take(layout) else { return std::ptr::null_mut() };
            if !is_new {
                // SAFETY: the buffer holds so many bytes, and nobody else uses it.
                unsafe { buffer.write_bytes(0, layout.size()) };
            }
            return buffer.as_ptr();
        }
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, buffer: *mut u8, layout: Layout) {
        if is_large(layout) {
            let Some(buffer) = NonNull::new(buffer) else { return };
            let unneeded = buffers().give(Buffer { start: buffer, size: rounded(layout) });
            unneeded.into_iter().flatten().for_each(system::unmap);
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.dealloc(buffer, layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Ok(new_layout) = Layout::from_size_align(size, layout.align()) else {
            return std::ptr::null_mut();
        };
        match (is_large(layout), is_large(new_layout)) {
            // SAFETY: the caller's promise.
            (false, false) => unsafe { MiMalloc.realloc(old, layout, size) },
            (true, true) if rounded(layout) == rounded(new_layout) => old,
            _ => {
                // SAFETY: both buffers hold what is copied, and are apart.
                unsafe {
                    let new = self.alloc(new_layout);
                    if !new.is_null() {
                        new.copy_from_nonoverlapping(old, layout.size().min(size));
                        self.dealloc(old, layout);
                    }
                    new
                }
            }
        }
    }
}

fn buffers() -> std::sync::MutexGuard<'static, Buffers> {
    LARGE_BUFFERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn rounded(layout: Layout) -> usize {
    layout.size().next_multiple_of(STEP)
}

/// Takes a buffer, and returns whether it is new from the system and so full of zeros.
fn take(layout: Layout) -> Option<(NonNull<u8>, bool)> {
    let size = rounded(layout);
    let mut unneeded = [None; KEPT];
    let kept = buffers().take(size, &mut unneeded);
    unneeded.into_iter().flatten().for_each(system::unmap);
    match kept {
        Some(buffer) => Some((buffer.start, false)),
        None => system::map(size).map(|start| (start, true)),
    }
}

#[derive(Clone, Copy)]
struct Buffer {
    start: NonNull<u8>,
    size: usize,
}

/// Kept large buffers, and the sizes of all large buffers in bytes.
struct Buffers {
    /// Freed buffers, the oldest first.
    kept: [Option<Buffer>; KEPT],
    kept_count: usize,
    kept_size: usize,
    /// Bytes in use.
    used_size: usize,
    /// Most bytes that were ever in use at the same time.
    most_used: usize,
}

// SAFETY: what is kept belongs to nobody.
unsafe impl Send for Buffers {}

impl Buffers {
    const fn new() -> Self {
        Self { kept: [None; KEPT], kept_count: 0, kept_size: 0, used_size: 0, most_used: 0 }
    }

    /// Takes a kept buffer of this size. If there is none, a new one is needed, and the buffers put into
    /// `unneeded` are to be returned to the system first.
    fn take(&mut self, size: usize, unneeded: &mut [Option<Buffer>; KEPT]) -> Option<Buffer> {
        self.used_size += size;
        self.most_used = self.most_used.max(self.used_size);
        // The one freed last is the likeliest to be in the processor's cache.
        let found = (0..self.kept_count).rev().find(|i| self.kept[*i].is_some_and(|kept| kept.size == size));
        if let Some(found) = found {
            return self.remove(found);
        }
        let mut count = 0;
        while self.kept_count > 0 && self.used_size + self.kept_size > self.most_used {
            unneeded[count] = self.remove(0);
            count += 1;
        }
        None
    }

    /// Keeps a freed buffer; returns a buffer to give back to the system, if there is one, perhaps this one.
    fn give(&mut self, buffer: Buffer) -> [Option<Buffer>; 1] {
        self.used_size -= buffer.size;
        if !KEEPS.load(Ordering::Relaxed) {
            return [Some(buffer)];
        }
        let oldest = if self.kept_count == KEPT { self.remove(0) } else { None };
        self.kept[self.kept_count] = Some(buffer);
        self.kept_count += 1;
        self.kept_size += buffer.size;
        [oldest]
    }

    fn remove(&mut self, index: usize) -> Option<Buffer> {
        let removed = self.kept[index].take();
        self.kept[index..self.kept_count].rotate_left(1);
        self.kept_count -= 1;
        self.kept_size -= removed.map_or(0, |buffer| buffer.size);
        removed
    }
}

#[cfg(unix)]
mod system {
    use super::Buffer;
    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
    use std::{num::NonZero, ptr::NonNull};

    /// Alignment of large pages.
    const PAGE: usize = 2 << 20;

    pub fn map(size: usize) -> Option<NonNull<u8>> {
        let length = NonZero::new(size.checked_add(PAGE)?)?;
        let (protection, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
        // SAFETY: new memory, of no file.
        let start: NonNull<u8> = unsafe { mmap_anonymous(None, length, protection, flags) }.ok()?.cast();
        let before = start.addr().get().next_multiple_of(PAGE) - start.addr().get();
        // SAFETY: within the mapping.
        let (aligned, end) = unsafe { (start.add(before), start.add(before + size)) };
        if before > 0 {
            unmap(Buffer { start, size: before });
        }
        if before < PAGE {
            unmap(Buffer { start: end, size: PAGE - before });
        }
        #[cfg(target_os = "linux")]
        {
            use nix::sys::mman::{MmapAdvise, madvise};
            // SAFETY: changes no contents. Without large pages it is only slower.
            let _ = unsafe { madvise(aligned.cast(), size, MmapAdvise::MADV_HUGEPAGE) };
        }
        Some(aligned)
    }

    pub fn unmap(buffer: Buffer) {
        // SAFETY: `map` mapped it, and nobody uses it any more.
        let _ = unsafe { munmap(buffer.start.cast(), buffer.size) };
    }
}

#[cfg(not(unix))]
mod system {
    use super::Buffer;
    use std::ptr::NonNull;

    /// Is never called, as no buffer counts as large.
    pub fn map(_: usize) -> Option<NonNull<u8>> {
        None
    }

    pub fn unmap(_: Buffer) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a buffer without memory.
    fn buffer(size: usize) -> Buffer {
        Buffer { start: NonNull::dangling(), size }
    }

    #[test]
    fn no_more_is_held_than_was_once_in_use() {
        let mut buffers = Buffers::new();
        let take = |buffers: &mut Buffers, size| {
            let mut unneeded = [None; KEPT];
            let found = buffers.take(size, &mut unneeded).is_some();
            (found, unneeded.into_iter().flatten().map(|buffer| buffer.size).collect::<Vec<_>>())
        };
        for size in [5, 3, 2] {
            assert_eq!(take(&mut buffers, size), (false, vec![]));
        }
        for size in [5, 3, 2] {
            assert!(buffers.give(buffer(size))[0].is_none());
        }
        // The next of a size is the one that was freed.
        assert_eq!(take(&mut buffers, 3), (true, vec![]));
        // 4 + 3 in use and 5 + 2 kept were more than the 10 of before: the oldest goes.
        assert_eq!(take(&mut buffers, 4), (false, vec![5]));
        assert_eq!((buffers.used_size, buffers.kept_size, buffers.most_used), (7, 2, 10));
        assert_eq!(take(&mut buffers, 9), (false, vec![2]));
        assert_eq!(buffers.most_used, 16);
    }

    #[test]
    fn mimalloc_knows_the_delay_by_this_number() {
        // Its default, or what `keep_nothing` has made of it in another test.
        // SAFETY: reads a number.
        let delay = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert!([1000, 10].contains(&delay), "{delay}");
    }

    #[test]
    fn buffers_keep_what_is_written_while_they_grow() {
        let mut numbers: Vec<u64> = Vec::new();
        for number in 0..1_000_000 {
            numbers.push(number);
        }
        assert!(numbers.iter().enumerate().all(|(i, number)| i as u64 == *number));
        drop(numbers);
        assert!(vec![0u64; 1_000_000].iter().all(|number| *number == 0));
    }
}
