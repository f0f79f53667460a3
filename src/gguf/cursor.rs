//! Reads numbers and texts one after another from bytes that are not trusted.

/// Position in a header. Every length is compared with the bytes that are left before it is used.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Number of bytes that have been read.
    pub fn position(&self) -> usize {
        self.position
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// Reads `count` bytes.
    ///
    /// # Errors
    /// A message if fewer are left.
    pub fn take(&mut self, count: u64) -> Result<&'a [u8], String> {
        let taken = usize::try_from(count).ok().and_then(|count| {
            let end = self.position.checked_add(count)?;
            self.bytes.get(self.position..end)
        });
        let Some(taken) = taken else {
            return Err(format!(
                "it is truncated or damaged: {count} bytes are needed at byte {}, but only {} follow",
                self.position,
                self.remaining()
            ));
        };
        self.position += taken.len();
        Ok(taken)
    }

    /// Reads a number of `N` bytes.
    pub fn number<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64)?);
        Ok(bytes)
    }

    pub fn u32(&mut self) -> Result<u32, String> {
        self.number().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, String> {
        self.number().map(u64::from_le_bytes)
    }

    /// Reads a number of entries, each of which takes at least `least` bytes, called `what` in the message.
    ///
    /// # Errors
    /// A message if that many entries cannot follow.
    pub fn count(&mut self, least: usize, what: &str) -> Result<usize, String> {
        let count = self.u64()?;
        let most = self.remaining() / least.max(1);
        match usize::try_from(count) {
            Ok(count) if count <= most => Ok(count),
            _ => Err(format!(
                "it is truncated or damaged: its header counts {count} {what}, but only {} bytes follow",
                self.remaining()
            )),
        }
    }

    /// Reads a text, called `what` in the message.
    ///
    /// # Errors
    /// A message if it is not whole or not UTF-8.
    pub fn text(&mut self, what: &str) -> Result<&'a str, String> {
        let length = self.u64()?;
        let bytes = self.take(length).map_err(|error| format!("{what}: {error}"))?;
        std::str::from_utf8(bytes).map_err(|error| format!("{what} is not UTF-8: {error}"))
    }
}
