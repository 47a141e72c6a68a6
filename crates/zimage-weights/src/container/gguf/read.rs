//! Takes numbers and texts from bytes that may end anywhere and claim anything.

use bytes::Bytes;

use super::GgufProblem;

/// Longest key and longest name of a tensor. The format limits keys to it; no real name comes near.
pub(super) const MAX_NAME_BYTES: u64 = 65535;

/// Longest part before the tensors' bytes, as for safetensors files. A vocabulary of a quarter of a million words with
/// its merges takes a tenth of it; what is read is copied, so this bounds the memory too.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// A place in a file. `what` is always the thing being read, for the message when it is not there.
pub(super) struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes to the end of the file.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8], GgufProblem> {
        let (at, left) = (self.at, self.left());
        if count <= left as u64 && at as u64 + count > MAX_HEADER_BYTES {
            return Err(GgufProblem::HeaderTooLarge { limit: MAX_HEADER_BYTES });
        }
        match usize::try_from(count) {
            Ok(count) if count <= left => {
                self.at += count;
                Ok(&self.bytes[at..at + count])
            }
            _ => Err(GgufProblem::Truncated { what: what.to_owned(), needed: count, at, left }),
        }
    }

    /// A copy of the bytes from `begin` to here.
    pub(super) fn copied(&self, begin: usize) -> Bytes {
        Bytes::copy_from_slice(&self.bytes[begin..self.at])
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufProblem> {
        let bytes = self.take(N as u64, what)?;
        Ok(bytes.try_into().expect("as many bytes as were asked for: this is a bug"))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, GgufProblem> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, GgufProblem> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A count of things of at least `least` bytes each: refused at once where they cannot fit the file, so that
    /// nothing is ever allocated or looped over for a claim.
    pub(super) fn count(&mut self, least: u64, what: &str) -> Result<usize, GgufProblem> {
        let count = self.u64(what)?;
        let left = self.left();
        match usize::try_from(count) {
            Ok(fitting) if count <= left as u64 / least => Ok(fitting),
            _ => Err(GgufProblem::TooMany { what: what.to_owned(), count, least, left }),
        }
    }

    /// Steps over a text without looking at it.
    pub(super) fn skip_text(&mut self, what: &str) -> Result<(), GgufProblem> {
        let len = self.u64(what)?;
        self.take(len, what).map(drop)
    }

    /// A text: its length in 8 bytes, then UTF-8.
    pub(super) fn text(&mut self, what: &str) -> Result<&'a str, GgufProblem> {
        let len = self.u64(what)?;
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes).map_err(|_| GgufProblem::NotUtf8 { what: what.to_owned() })
    }

    /// A text that names something.
    pub(super) fn name(&mut self, what: &str) -> Result<&'a str, GgufProblem> {
        let text = self.text(what)?;
        let (len, limit) = (text.len() as u64, MAX_NAME_BYTES);
        if len > limit {
            return Err(GgufProblem::NameTooLong { what: what.to_owned(), len, limit });
        }
        Ok(text)
    }
}
