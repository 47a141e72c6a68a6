//! Products of matrices: values are widened to f32 and multiplied by the CPU's own kernels, bytes by plain loops.

#![allow(unsafe_code)] // Matrices lie in the device's memory, which is reached by address.

use super::super::driver::{Element, Gemm, MatrixAt};
use super::failure;
use super::memory::Memory;
use crate::Result;
use rayon::prelude::*;
use zimage_kernels::Level;
use zimage_kernels::blocks::{Encoder, Format};
use zimage_kernels::gemm::{gemm_nn, gemm_nt};
use zimage_kernels::tile::{MatrixRef, TileMut};

/// Rows of the result that a thread computes at once.
const ROWS: usize = 64;

/// Computes `gemm`.
pub fn gemm(memory: &Memory, gemm: &Gemm) -> Result<()> {
    let Gemm { m, n, k, x, w, y, .. } = *gemm;
    check_units(gemm)?;
    let (w_rows, w_cols) = if gemm.w_is_transposed { (n, k) } else { (k, n) };
    match (x.element, y.element) {
        _ if x.element != w.element => return Err(impossible(gemm)),
        (Element::I8, Element::I32) if gemm.scale == 1.0 && gemm.bias.is_none() => {
            let sums = multiply_bytes(gemm, &read(memory, x, m, k)?, &read(memory, w, w_rows, w_cols)?);
            return write(memory, y, m, n, &sums.iter().flat_map(|sum| sum.to_le_bytes()).collect::<Vec<u8>>());
        }
        (Element::F32 | Element::Bf16 | Element::F16, Element::F32) => {}
        (Element::Bf16, Element::Bf16) | (Element::F16, Element::F16) => {}
        (Element::F8, Element::F32 | Element::Bf16) => {}
        _ => return Err(impossible(gemm)),
    }
    let (x, w) = (widened(memory, x, m, k)?, widened(memory, w, w_rows, w_cols)?);
    let mut product = multiply(gemm, &x, &w);
    let bias = match gemm.bias {
        Some(address) => widened(memory, MatrixAt { address, element: Element::F32, stride: n }, 1, n)?,
        None => vec![0.0; n],
    };
    for row in product.chunks_exact_mut(n.max(1)) {
        row.iter_mut().zip(&bias).for_each(|(value, bias)| *value = *value * gemm.scale + bias);
    }
    let encoder = match y.element {
        Element::F32 => Encoder::F32,
        Element::Bf16 => Encoder::BF16,
        _ => Encoder::F16,
    };
    let mut encoded = vec![0; m * n * y.element.bytes()];
    encoder.encode(&product, &mut encoded);
    write(memory, y, m, n, &encoded)
}

/// What cuBLASLt demands of values of 8 bits, which a device reads in whole words.
fn check_units(gemm: &Gemm) -> Result<()> {
    let Gemm { n, k, x, w, y, .. } = *gemm;
    let unit = match x.element {
        Element::F8 => 16,
        Element::I8 => 4,
        _ => return Ok(()),
    };
    let sizes = [n, k, x.stride, w.stride, y.stride];
    let addresses = [x, w, y].map(|matrix| matrix.address.0 as usize);
    match gemm.w_is_transposed && sizes.iter().chain(&addresses).all(|number| number.is_multiple_of(unit)) {
        true => Ok(()),
        false => Err(failure(format!(
            "{:?} is multiplied only by a factor stored as (n, k), with n, k, strides and addresses in multiples of \
             {unit}; these are {sizes:?} and {addresses:x?}",
            x.element
        ))),
    }
}

fn impossible(gemm: &Gemm) -> crate::Error {
    let [x, w, y] = [gemm.x, gemm.w, gemm.y].map(|matrix| matrix.element);
    failure(format!("no product of {x:?} and {w:?} gives {y:?} with scale {} and bias {:?}", gemm.scale, gemm.bias))
}

/// Both factors as f32.
fn multiply(gemm: &Gemm, x: &[f32], w: &[f32]) -> Vec<f32> {
    let Gemm { m, n, k, .. } = *gemm;
    let mut product = vec![0.0; m * n];
    product.par_chunks_mut((ROWS * n).max(1)).zip(x.par_chunks((ROWS * k).max(1))).for_each(|(product, x)| {
        let rows = product.len() / n;
        let mut tile = TileMut::whole(product, rows, n);
        let x = MatrixRef::contiguous(x, rows, k);
        match gemm.w_is_transposed {
            true => gemm_nt(Level::detect(), &mut tile, x, MatrixRef::contiguous(w, n, k), None),
            false => gemm_nn(Level::detect(), &mut tile, x, MatrixRef::contiguous(w, k, n), false),
        }
    });
    product
}

/// Sums of products of bytes, exactly.
fn multiply_bytes(gemm: &Gemm, x: &[u8], w: &[u8]) -> Vec<i32> {
    let Gemm { m, n, k, .. } = *gemm;
    let widen = |bytes: &[u8]| bytes.iter().map(|byte| i32::from(*byte as i8)).collect::<Vec<i32>>();
    let (x, mut w) = (widen(x), widen(w));
    if !gemm.w_is_transposed {
        w = (0..n * k).map(|at| w[at % k * n + at / k]).collect();
    }
    let mut sums = vec![0; m * n];
    sums.par_chunks_mut(n.max(1)).zip(x.par_chunks(k.max(1))).for_each(|(sums, x)| {
        for (sum, w) in sums.iter_mut().zip(w.chunks_exact(k.max(1))) {
            *sum = x.iter().zip(w).map(|(x, w)| x * w).sum();
        }
    });
    sums
}

/// The bytes of a matrix, row after row.
fn read(memory: &Memory, matrix: MatrixAt, rows: usize, cols: usize) -> Result<Vec<u8>> {
    let (row, stride) = (cols * matrix.element.bytes(), matrix.stride * matrix.element.bytes());
    let start = memory.find(matrix.address, within(matrix, rows, cols)?)?;
    let mut found = vec![0; rows * row];
    for (at, found) in found.chunks_exact_mut(row.max(1)).enumerate() {
        // SAFETY: the row lies within what was found.
        unsafe { start.add(at * stride).copy_to_nonoverlapping(found.as_mut_ptr(), row) };
    }
    Ok(found)
}

/// Writes a matrix whose rows follow each other.
fn write(memory: &Memory, matrix: MatrixAt, rows: usize, cols: usize, values: &[u8]) -> Result<()> {
    let (row, stride) = (cols * matrix.element.bytes(), matrix.stride * matrix.element.bytes());
    let start = memory.find(matrix.address, within(matrix, rows, cols)?)?;
    for (at, values) in values.chunks_exact(row.max(1)).enumerate() {
        // SAFETY: the row lies within what was found.
        unsafe { start.add(at * stride).copy_from_nonoverlapping(values.as_ptr(), row) };
    }
    Ok(())
}

/// Bytes from a matrix's first value to its last.
fn within(matrix: MatrixAt, rows: usize, cols: usize) -> Result<usize> {
    if matrix.stride < cols {
        return Err(failure(format!("rows of {cols} values in steps of {}", matrix.stride)));
    }
    if !matrix.address.0.is_multiple_of(matrix.element.bytes() as u64) {
        return Err(failure(format!("{:?} values at {:#x}", matrix.element, matrix.address.0)));
    }
    Ok((rows.saturating_sub(1) * matrix.stride + cols.min(cols * rows)) * matrix.element.bytes())
}

fn widened(memory: &Memory, matrix: MatrixAt, rows: usize, cols: usize) -> Result<Vec<f32>> {
    let found = read(memory, matrix, rows, cols)?;
    let format = match matrix.element {
        Element::F32 => Format::F32,
        Element::Bf16 => Format::BF16,
        Element::F16 => Format::F16,
        Element::F8 => Format::F8E4M3,
        Element::I8 | Element::I32 => return Err(failure(format!("{:?} is no float", matrix.element))),
    };
    let mut values = vec![0.0; rows * cols];
    format.decode(&found, &mut values);
    Ok(values)
}
