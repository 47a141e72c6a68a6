//! What only moves values: they keep their element.

use super::driver::{Address, Args, Element};
use super::memory::Buffer;
use super::{Cuda, THREADS, kernel_of};

/// Values along an edge of the square that a block transposes.
const TILE: usize = 32;

impl Cuda {
    pub(super) fn concat_rows(&self, a: &Buffer, b: &Buffer) -> Buffer {
        let mut held = None;
        let b = self.in_element(b, a.element(), &mut held);
        let out = self.take(a.element(), a.len() + b.len());
        self.copy(out.address(), a.address(), bytes(a));
        self.copy(out.address().offset(bytes(a)), b.address(), bytes(b));
        out
    }

    pub(super) fn slice(&self, x: &Buffer, start: usize, end: usize) -> Buffer {
        let out = self.take(x.element(), end - start);
        self.copy(out.address(), x.address().offset(start * x.element().bytes()), bytes(&out));
        out
    }

    pub(super) fn append_token(&self, x: &Buffer, token: &Buffer, count: usize) -> Buffer {
        let mut held = None;
        let token = self.in_element(token, x.element(), &mut held);
        let len = count * token.len();
        let out = self.take(x.element(), x.len() + len);
        self.copy(out.address(), x.address(), bytes(x));
        let behind = out.address().offset(bytes(x));
        let args = Args::new().address(behind).address(token.address()).size(token.len()).size(len);
        self.run("moves", kernel_of!(x.element(), "repeat"), [blocks(len), 1, 1], THREADS, 0, args);
        out
    }

    /// Copies within the device.
    pub(super) fn copy(&self, to: Address, from: Address, bytes: usize) {
        if bytes > 0 {
            self.port.attempt(|driver| driver.copy(to, from, bytes));
        }
    }

    pub(super) fn patchify(&self, x: &Buffer, channels: usize, height: usize, width: usize) -> Buffer {
        self.rearrange(kernel_of!(x.element(), "patchify"), x, [channels, height, width])
    }

    pub(super) fn unpatchify(&self, x: &Buffer, channels: usize, height: usize, width: usize) -> Buffer {
        self.rearrange(kernel_of!(x.element(), "unpatchify"), x, [channels, height, width])
    }

    /// Runs a kernel that gives every value another place.
    fn rearrange(&self, kernel: &'static str, x: &Buffer, [channels, height, width]: [usize; 3]) -> Buffer {
        let out = self.take(x.element(), x.len());
        let args = Args::new().address(out.address()).address(x.address()).size(channels).size(height).size(width);
        self.run("moves", kernel, [blocks(x.len()), 1, 1], THREADS, 0, args);
        out
    }

    pub(super) fn transpose(&self, x: &Buffer, rows: usize, cols: usize) -> Buffer {
        let out = self.take(x.element(), x.len());
        let args = Args::new().address(out.address()).address(x.address()).size(rows).size(cols);
        let tiles = rows.div_ceil(TILE) * cols.div_ceil(TILE);
        self.run("moves", kernel_of!(x.element(), "transpose"), [tiles, 1, 1], THREADS, 0, args);
        out
    }

    /// Starts to look for the first value that is infinite or not a number.
    pub fn find_non_finite(&self, x: &Buffer) -> Buffer {
        let first = self.take(Element::I32, 1);
        self.port.attempt(|driver| driver.fill(first.address(), u32::MAX, 1));
        let args = Args::new().address(first.address()).address(x.address()).size(x.len());
        let threads = x.len().div_ceil(16 / x.element().bytes());
        self.run("moves", kernel_of!(x.element(), "first_non_finite"), [blocks(threads), 1, 1], THREADS, 0, args);
        first
    }

    /// What each of these found. They are brought together first, so that the device is waited for once.
    pub fn first_found(&self, firsts: &[&Buffer]) -> Vec<Option<usize>> {
        let together = self.take(Element::I32, firsts.len());
        let word = Element::I32.bytes();
        for (at, first) in firsts.iter().enumerate() {
            self.copy(together.address().offset(at * word), first.address(), word);
        }
        let mut found = vec![u8::MAX; firsts.len() * word];
        self.port.attempt(|driver| driver.download(together.address(), &mut found));
        let (words, _) = found.as_chunks();
        let places = words.iter().map(|word| u32::from_le_bytes(*word));
        places.map(|place| (place != u32::MAX).then_some(place as usize)).collect()
    }
}

/// What the values take.
fn bytes(buffer: &Buffer) -> usize {
    buffer.len() * buffer.element().bytes()
}

/// Blocks of a kernel with a thread for each of `count` things.
fn blocks(count: usize) -> usize {
    count.div_ceil(THREADS as usize)
}
