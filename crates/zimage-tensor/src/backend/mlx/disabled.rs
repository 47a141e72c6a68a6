//! What there is of MLX in a build without it: the list of `enabled.rs`, of which nothing but [`Port::open`] can be called,
//! since no value of these types can exist.

use super::Element;
use crate::{Error, MemoryUse, Result};
use std::convert::Infallible;

/// A handle of MLX.
#[derive(Debug)]
pub struct Port(Infallible);

/// An array of MLX.
#[derive(Clone, Debug)]
pub struct Array(Infallible);

impl Array {
    /// What its values are.
    pub fn element(&self) -> Element {
        match self.0 {}
    }
}

impl Port {
    /// Says how to get a build that has it.
    ///
    /// # Errors
    /// [`Error::Unavailable`], always.
    pub fn open() -> Result<Port> {
        Err(Error::Unavailable {
            what: "this zimage was built without MLX".into(),
            hint: "on a Mac with Apple silicon, build it with `cargo build --release --features mlx`".into(),
        })
    }
}

/// Functions of a value that cannot be.
macro_rules! never {
    ($(fn $name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        impl Port {
            $(pub fn $name(&self, $(_: $argument),*) $(-> $result)? {
                match self.0 {}
            })*
        }
    };
}

never! {
    fn name() -> &str;
    fn is_gpu() -> bool;
    fn take_failure() -> Option<Error>;
    fn memory_use() -> MemoryUse;
    fn free_bytes() -> u64;
    fn release_memory();
    fn upload(&[u8], Element, &[usize]) -> Array;
    fn evaluate(&Array);
    fn download(&Array) -> Option<Vec<f32>>;
    fn all_finite(&Array) -> bool;
    fn cast(&Array, Element) -> Array;
    fn reshape(&Array, &[usize]) -> Array;
    fn transpose(&Array, &[usize]) -> Array;
    fn contiguous(&Array) -> Array;
    fn broadcast(&Array, &[usize]) -> Array;
    fn slice(&Array, &[usize], &[usize]) -> Array;
    fn concatenate(&[&Array], usize) -> Array;
    fn add(&Array, &Array) -> Array;
    fn subtract(&Array, &Array) -> Array;
    fn multiply(&Array, &Array) -> Array;
    fn sigmoid(&Array) -> Array;
    fn tanh(&Array) -> Array;
    fn matmul(&Array, &Array) -> Array;
    fn quantized_matmul(&Array, &[Array; 3], usize, usize) -> Array;
    fn rms_norm(&Array, &Array, f32) -> Array;
    fn layer_norm(&Array, f32) -> Array;
    fn attend([&Array; 3], f32, bool) -> Array;
    fn convolve(&Array, &Array, usize, [usize; 2], [usize; 2]) -> Array;
}

#[cfg(test)]
mod tests {
    use super::Port;

    #[test]
    fn a_build_without_mlx_says_how_to_make_one_with_it() {
        let error = Port::open().expect_err("there is none");
        assert!(error.to_string().contains("--features mlx"), "{error}");
    }
}
