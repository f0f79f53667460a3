//! Everything that differs between a desktop and a browser tab: the clock, storage, memory-mapped files and
//! memory accounting. This is the only file of the library that asks which platform it is compiled for;
//! clippy (`clippy.toml`) refuses the functions wrapped here everywhere else.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub use web_time::{Instant, SystemTime};

/// Seconds since 1970-01-01 UTC.
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// Largest resident memory of this process so far, in bytes; `None` if the platform does not report it.
pub fn peak_memory_bytes() -> Option<u64> {
    // Where it tells, Linux means this program; what follows counts the one that started it, too.
    #[cfg(target_os = "linux")]
    if let Some(peak) = status_bytes("VmHWM:") {
        return Some(peak);
    }
    #[cfg(unix)]
    {
        let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).ok()?;
        let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
        u64::try_from(usage.max_rss()).ok().map(|n| n * unit)
    }
    #[cfg(not(unix))]
    None
}

/// Resident memory of this process now, in bytes; `None` if the platform does not report it.
pub fn memory_of_program() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        status_bytes("VmRSS:")
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// Restarts the measurement of the peak memory and returns the resident memory of this process now, in bytes;
/// `None` if the platform cannot do this.
pub fn restart_peak_memory() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        std::fs::write("/proc/self/clear_refs", "5").ok()?;
        status_bytes("VmRSS:")
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(target_os = "linux")]
fn status_bytes(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(key))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// Lets a write to a closed pipe end the process quietly, as with other shell commands. By default Rust
/// reports an error instead, on which `println!` panics. Platforms without signals keep the default.
pub fn end_on_closed_pipe() {
    #[cfg(unix)]
    {
        use nix::sys::signal::{SigHandler, Signal, signal};
        // SAFETY: the default action runs no code of this process.
        let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    }
}

/// Main memory of this machine, total and currently available, in bytes; `None` in a browser.
pub fn memory_bytes() -> Option<(u64, u64)> {
    #[cfg(not(target_family = "wasm"))]
    {
        let mut system = sysinfo::System::new().ok()?;
        system.refresh_memory();
        (system.total_memory() > 0).then(|| (system.total_memory(), system.available_memory()))
    }
    #[cfg(target_family = "wasm")]
    None
}

/// Whether this platform can wait for a device without giving up control, which a browser cannot.
pub const fn can_wait() -> bool {
    !cfg!(target_family = "wasm")
}

/// Number of hardware threads that this process may use.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Makes the calling thread a worker of the CPU thread pool, so that it computes itself instead of waking
/// another thread and waiting for it. Call it when the process starts.
pub fn compute_on_this_thread() {
    #[cfg(all(feature = "flex", not(target_family = "wasm")))]
    // It fails where a pool was made before, which then computes just as rightly.
    drop(rayon::ThreadPoolBuilder::new().use_current_thread().build_global());
}

/// Calls `work` with every item and returns the results in order. The threads of the CPU pool take the next
/// item when they finish one; where there is one thread, it does all.
pub fn map_in_parallel<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    #[cfg(feature = "flex")]
    if rayon::current_num_threads() > 1 {
        use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
        return items.into_par_iter().with_max_len(1).map(work).collect();
    }
    items.into_iter().map(work).collect()
}

/// Name of the processor; `None` if the platform does not report it.
pub fn cpu_name() -> Option<String> {
    #[cfg(not(target_family = "wasm"))]
    {
        let mut system = sysinfo::System::new().ok()?;
        system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
        let name = system.cpus().first()?.brand().trim().to_owned();
        (!name.is_empty()).then_some(name)
    }
    #[cfg(target_family = "wasm")]
    None
}

/// Operations on files and folders. Every error names the path and the operation. In a browser all of them
/// return an error: the page stores its files elsewhere and passes bytes to the library.
pub mod storage {
    use crate::error::{Error, Result};
    use std::{
        fs::{self, File},
        io::{Read, Write},
        ops::{Deref, DerefMut, Range},
        path::{Path, PathBuf},
    };

    /// Bytes of a file, mapped into memory if the platform supports it, otherwise read.
    pub struct Mapped(MappedInner);

    #[cfg(not(target_family = "wasm"))]
    type MappedInner = memmap2::Mmap;
    #[cfg(target_family = "wasm")]
    type MappedInner = Vec<u8>;

    impl Deref for Mapped {
        type Target = [u8];
        fn deref(&self) -> &[u8] {
            &self.0
        }
    }

    /// Maps a file read-only. The file must not be truncated while it is mapped.
    pub fn map(path: &Path) -> Result<Mapped> {
        #[cfg(not(target_family = "wasm"))]
        {
            let file = open(path)?;
            // SAFETY: the mapping is read-only and private to us; kiln never truncates or rewrites
            // shards and weights in place (they are renamed into position), which is the documented
            // contract. Who cuts a file of their own while it is read ends the process.
            let mapped = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io("map", path, e))?;
            Ok(Mapped(mapped))
        }
        #[cfg(target_family = "wasm")]
        read(path).map(Mapped)
    }

    /// Bytes of a file that this process alone uses, mapped into memory for reading and writing. On Unix the file is
    /// gone when the process ends, however it does.
    pub struct Scratch(ScratchInner);

    #[cfg(not(target_family = "wasm"))]
    type ScratchInner = memmap2::MmapMut;
    #[cfg(target_family = "wasm")]
    type ScratchInner = Vec<u8>;

    impl Scratch {
        /// Lets the system take back the memory of a range of bytes, which stay in the file.
        #[cfg_attr(
            not(target_os = "linux"),
            allow(unused_variables, reason = "others take it back when they need it")
        )]
        pub fn release(&mut self, range: Range<usize>) {
            #[cfg(target_os = "linux")]
            {
                let advice = memmap2::UncheckedAdvice::DontNeed;
                // SAFETY: nothing borrows the bytes, since this borrows all of them. The mapping is shared with its file,
                // from which they are read again.
                let released = unsafe { self.0.unchecked_advise_range(advice, range.start, range.len()) };
                // It is only advice.
                drop(released);
            }
        }
    }

    impl Deref for Scratch {
        type Target = [u8];
        fn deref(&self) -> &[u8] {
            &self.0
        }
    }

    impl DerefMut for Scratch {
        fn deref_mut(&mut self) -> &mut [u8] {
            &mut self.0
        }
    }

    /// Makes a file of `length` zeros and maps it into memory. The zeros are written, so that a disk that is full is found
    /// out here, where that is an error, and not when the mapped bytes are written.
    #[cfg(not(target_family = "wasm"))]
    pub fn create_scratch(path: &Path, length: usize) -> Result<Scratch> {
        const PART: usize = 1 << 20;
        let fill = || -> std::io::Result<memmap2::MmapMut> {
            let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
            let zeros = vec![0; PART];
            // No system maps a file without bytes.
            let mut missing = length.max(1);
            while missing > 0 {
                let part = missing.min(PART);
                file.write_all(&zeros[..part])?;
                missing -= part;
            }
            // SAFETY: the file has been made by this process, for itself alone, and soon has no name.
            unsafe { memmap2::MmapMut::map_mut(&file) }
        };
        let mapped = fill().map_err(|e| Error::io("create", path, e));
        if mapped.is_err() || cfg!(unix) {
            let _ = fs::remove_file(path);
        }
        mapped.map(Scratch)
    }

    /// Without files, the bytes are in memory.
    #[cfg(target_family = "wasm")]
    pub fn create_scratch(_: &Path, length: usize) -> Result<Scratch> {
        Ok(Scratch(vec![0; length]))
    }

    /// Opens a file for reading.
    fn open(path: &Path) -> Result<File> {
        File::open(path).map_err(|e| Error::io("open", path, e))
    }

    /// Reads a whole file.
    pub fn read(path: &Path) -> Result<Vec<u8>> {
        fs::read(path).map_err(|e| Error::io("read", path, e))
    }

    /// Reads a whole file as text, without a byte-order mark.
    pub fn read_to_string(path: &Path) -> Result<String> {
        let mut text = String::from_utf8(read(path)?)
            .map_err(|e| Error::InvalidUtf8 { path: path.into(), offset: e.utf8_error().valid_up_to() })?;
        if text.starts_with('\u{FEFF}') {
            text.drain(..'\u{FEFF}'.len_utf8());
        }
        Ok(text)
    }

    /// Reads the first `limit` bytes of a file, or the whole file if it is shorter.
    pub fn read_prefix(path: &Path, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        open(path)?.take(limit).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
        Ok(bytes)
    }

    /// Opens a file for appending, creating it if needed.
    pub fn append(path: &Path) -> Result<File> {
        File::options().create(true).append(true).open(path).map_err(|e| Error::io("open", path, e))
    }

    /// Lock file that this process holds. The operating system releases it however the process ends.
    #[derive(Debug)]
    pub struct Lock(#[allow(dead_code, reason = "held open for its lock")] File);

    /// Takes a lock file, creating it if needed; `None` if another process holds it.
    pub fn lock(path: &Path) -> Result<Option<Lock>> {
        let opened = File::options().create(true).read(true).write(true).truncate(false).open(path);
        let file = opened.map_err(|e| Error::io("open", path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(Error::io("lock", path, error)),
        }
    }

    /// Writes a file and waits until it is on the disk.
    pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
        let write = || -> std::io::Result<()> {
            let mut file = File::create(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|e| Error::io("write", path, e))
    }

    /// Makes a file that either exists completely or not at all: `write` fills it under a temporary name,
    /// which is changed when all is on the disk.
    pub fn write_whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.tmp"));
        let fill = || -> std::io::Result<()> {
            let mut file = File::create(&temporary)?;
            write(&mut file)?;
            file.sync_all()
        };
        let filled = fill().map_err(|e| Error::io("write", path, e));
        let written = filled.and_then(|()| rename(&temporary, path));
        if written.is_err() {
            // What is half written helps nobody and may be what fills the disk.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Replaces a file in one step: a reader sees the old bytes or the new ones, never a mixture.
    pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".tmp");
        let temporary = path.with_file_name(name);
        write_synced(&temporary, bytes)?;
        rename(&temporary, path)
    }

    /// Renames a file or folder, then syncs the folder that holds it.
    pub fn rename(from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(|e| Error::io("rename", from, e))?;
        to.parent().map_or(Ok(()), sync_folder)
    }

    /// Makes renames and new names in a folder durable. Does nothing on platforms that cannot do this.
    pub fn sync_folder(path: &Path) -> Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        if cfg!(unix) {
            open(path)?.sync_all().map_err(|e| Error::io("sync", path, e))?;
        }
        Ok(())
    }

    /// Creates a folder and its parents.
    pub fn create_folder(path: &Path) -> Result<()> {
        fs::create_dir_all(path).map_err(|e| Error::io("create", path, e))
    }

    /// Removes a folder and everything in it. The folder is renamed first, so that a kill in between never
    /// leaves half of it under its name.
    pub fn remove_folder(path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = match name.ends_with(".tmp") {
            true => path.to_path_buf(),
            false => path.with_file_name(format!(".{name}.removed.tmp")),
        };
        if aside != path {
            rename(path, &aside)?;
        }
        fs::remove_dir_all(&aside).map_err(|e| Error::io("remove", path, e))
    }

    /// Entries of a folder, sorted by name so that every machine sees the same order.
    pub fn list(path: &Path) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(path).map_err(|e| Error::io("list", path, e))?;
        let mut paths = entries
            .map(|entry| entry.map(|e| e.path()))
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(|e| Error::io("list", path, e))?;
        paths.sort();
        Ok(paths)
    }

    /// Whether a path leads to a folder; false if nothing exists there.
    pub fn is_folder(path: &Path) -> bool {
        path.is_dir()
    }

    /// Whether a path leads to a file or folder.
    pub fn exists(path: &Path) -> bool {
        path.exists()
    }

    /// Length of a file in bytes.
    pub fn len(path: &Path) -> Result<u64> {
        fs::metadata(path).map(|m| m.len()).map_err(|e| Error::io("open", path, e))
    }

    /// Points `link` to `target`, a name in the same folder, in one step. It is a symbolic link on platforms
    /// where every user may create one, otherwise a file that contains the name.
    pub fn set_link(link: &Path, target: &str) -> Result<()> {
        #[cfg(unix)]
        {
            let name = link.file_name().unwrap_or_default().to_string_lossy();
            let temporary = link.with_file_name(format!(".{name}.link"));
            let _ = fs::remove_file(&temporary);
            std::os::unix::fs::symlink(target, &temporary).map_err(|e| Error::io("create", link, e))?;
            rename(&temporary, link)
        }
        #[cfg(not(unix))]
        write_atomic(link, target.as_bytes())
    }

    /// The target that [`set_link`] stored; `None` if there is no link.
    pub fn read_link(link: &Path) -> Option<String> {
        let target = fs::read_link(link).map(|target| target.to_string_lossy().into_owned());
        target.ok().or_else(|| if link.is_file() { fs::read_to_string(link).ok() } else { None })
    }
}
