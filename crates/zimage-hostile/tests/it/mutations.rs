//! Changes of files, the same ones on every run.

/// Numbers that break arithmetic.
const NUMBERS: [u64; 10] = [0, 1, 255, (1 << 31) - 1, 1 << 32, 1 << 40, 1 << 61, i64::MAX as u64, 1 << 63, u64::MAX];

/// Changed files without end.
pub struct Mutations<'a> {
    corpus: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutations<'a> {
    /// Changes of the files of a corpus, which has at least one.
    pub fn new(corpus: &'a [Vec<u8>], seed: u64) -> Self {
        Self { corpus, state: seed }
    }

    /// A file with one to four changes.
    pub fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.file().to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn file(&mut self) -> &'a [u8] {
        let at = self.below(self.corpus.len());
        &self.corpus[at]
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            *bytes = self.file().to_vec();
            return;
        }
        // Headers are what is parsed, so that half of the changes lie near the beginning.
        let reach = if self.below(2) == 0 { bytes.len().min(256) } else { bytes.len() };
        let at = self.below(reach);
        match self.below(6) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes.truncate(at),
            2 => self.length(bytes, at),
            3 => self.number(bytes, at),
            4 => self.splice(bytes, at),
            _ => drop(bytes.drain(at..(at + 1 + self.below(16)).min(bytes.len()))),
        }
    }

    /// Writes a number of 4 or 8 bytes over what is there.
    fn length(&mut self, bytes: &mut [u8], at: usize) {
        let number = NUMBERS[self.below(NUMBERS.len())].to_le_bytes();
        let width = if self.below(2) == 0 { 4 } else { 8 };
        for (byte, new) in bytes[at..].iter_mut().zip(&number[..width]) {
            *byte = *new;
        }
    }

    /// Replaces the next number that is written in digits.
    fn number(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let Some(begin) = (at..bytes.len()).find(|&i| bytes[i].is_ascii_digit()) else { return };
        let end = (begin..bytes.len()).find(|&i| !bytes[i].is_ascii_digit()).unwrap_or(bytes.len());
        let number = NUMBERS[self.below(NUMBERS.len())].to_string();
        bytes.splice(begin..end, number.into_bytes());
    }

    /// Puts a piece of another file in.
    fn splice(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let other = self.file();
        let from = self.below(other.len().max(1)).min(other.len());
        let len = self.below(64).min(other.len() - from);
        bytes.splice(at..at, other[from..from + len].iter().copied());
    }

    /// A number below `n`, which is above 0 (SplitMix64).
    fn below(&mut self, n: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}
