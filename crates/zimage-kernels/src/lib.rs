//! CPU kernels of zimage: slices in, slices out.
//!
//! A kernel takes a [`Level`], output and input slices, and integers; it knows no tensor, no file
//! and no thread. The caller splits the work into disjoint rows or [`tile::TileMut`]s and may run
//! them on any thread in any order: a result never depends on how rows were split. What a kernel
//! needs beyond its arguments is a scratch vector of the caller, which it grows as needed; products
//! also keep a block of fixed size per thread.
//!
//! Every operation is a folder: `mod.rs` is the safe wrapper that checks lengths and picks a
//! version, `naive.rs` is the readable oracle with f64 sums, `lanes.rs` is the fast loop that is
//! compiled once per level, `x86.rs` is what needs intrinsics.

pub mod level;

pub mod blocks;
pub mod bytes;
pub mod tile;

pub mod gemm;
pub mod gemm_i8;
pub mod linear;

pub mod attention;
pub mod conv2d;

pub mod activation;
pub mod elementwise;
pub mod group_norm;
pub mod layer_norm;
pub mod rms_norm;
pub mod rope;

pub mod layout;
pub mod pages;
pub mod peak;
pub mod resize;

mod exp;
mod reduce;
mod vector;

#[cfg(test)]
mod testing;

pub use level::Level;
