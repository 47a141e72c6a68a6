//! Weights that stay in device memory.

use super::stored::{StoredAt, plane_offsets};
use crate::Weight;
use crate::backend::cuda::Cuda;
use crate::backend::cuda::driver::{Address, Element};
use crate::backend::cuda::memory::Memory;
use crate::{Compute, linear::PlacedBytes};
use zimage_kernels::blocks::Matrix;

/// A weight in device memory of its own.
#[derive(Debug)]
pub struct Placed {
    memory: Memory,
    /// What it is at address 0.
    form: StoredAt,
}

impl Placed {
    /// The weight where it is.
    pub fn at(&self) -> StoredAt {
        self.form.located(self.memory.address())
    }
}

impl Cuda {
    /// Brings a weight into device memory to stay there, as products in `element` will read it:
    ///
    /// ```text
    /// 8 bits       laid out for them: a byte a value
    /// bf16, f16    floats of the file are rounded once, what is quantized stays as it is
    /// f32          the bytes of the file
    /// ```
    pub(super) fn place(&self, weight: &Weight, element: Element) -> Placed {
        let matrix = weight.matrix();
        let (file, bytes) = StoredAt::file(&matrix);
        let anew = match element {
            Element::F8 | Element::I8 => true,
            Element::Bf16 | Element::F16 => file.is_wide() && !file.is_in(element),
            _ => false,
        };
        if !anew {
            let memory = self.memory_to_stay(bytes);
            self.upload_planes(memory.address(), &matrix);
            return Placed { memory, form: file };
        }
        let (form, made_bytes) = StoredAt::made(element, file.rows, file.cols);
        let memory = self.memory_to_stay(made_bytes);
        let scratch = self.take(Element::I8, bytes);
        self.upload_planes(scratch.address(), &matrix);
        self.convert(&file.located(scratch.address()), &form.located(memory.address()), element);
        Placed { memory, form }
    }

    /// What [`Cuda::place`] takes of device memory for a weight of `(rows, cols)` that is stored in so many bytes, and what
    /// its uses take, which is that of many rows: for few it is less, since they are multiplied with the weight as it is
    /// stored. `in_block` is whether it is multiplied in 8 bits where the device does so.
    pub fn placed_bytes(&self, (rows, cols): (usize, usize), stored_bytes: u64, in_block: bool) -> PlacedBytes {
        let element = match self.compute() {
            Compute::Fp8 if in_block => Element::F8,
            Compute::Int8 if in_block => Element::I8,
            _ => self.product_element(),
        };
        let made = StoredAt::made(element, rows, cols).1 as u64;
        let is_wide = stored_bytes >= 2 * (rows * cols) as u64;
        let widened = if stored_bytes == made { 0 } else { made };
        let anew = match element {
            Element::F8 | Element::I8 => true,
            Element::Bf16 | Element::F16 => is_wide,
            _ => false,
        };
        match anew {
            // The file's bytes are there too while it is made.
            true => {
                PlacedBytes { stays: made, use_bytes: if widened == 0 { 0 } else { stored_bytes }, streamed: widened }
            }
            false => PlacedBytes { stays: stored_bytes, use_bytes: widened, streamed: widened },
        }
    }

    /// Memory beside the pool, whose free memory is given back to the device if that is what it takes, and with it that
    /// of recordings.
    pub(in crate::backend::cuda) fn memory_to_stay(&self, bytes: usize) -> Memory {
        Memory::beside(&self.port, bytes, || {
            self.give_recordings_up();
            self.pool.release();
        })
    }

    /// Copies the bytes of a matrix, straight from where the file is mapped.
    pub(in crate::backend::cuda) fn upload_planes(&self, base: Address, matrix: &Matrix) {
        let (planes, _) = matrix.bytes();
        let planes = [planes.values, planes.scales, planes.biases];
        let (offsets, _) = plane_offsets(planes.map(<[u8]>::len));
        for (bytes, offset) in planes.into_iter().zip(offsets).filter(|(bytes, _)| !bytes.is_empty()) {
            self.port.attempt(|driver| driver.upload(base.offset(offset), bytes));
        }
    }
}
