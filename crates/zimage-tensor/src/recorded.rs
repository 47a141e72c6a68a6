//! Work that is recorded once and done again and again with other values.

use crate::backend::{Backend, cuda};
use crate::tensor::Storage;
use crate::{Device, Error, Tensor};

/// Recorded work of a device, which [`Device::record`] makes.
///
/// What the work gave, `T`, is kept here: its tensors and findings stay where they are, and each run writes them anew.
#[derive(Debug)]
pub struct Recorded<T> {
    // Dropped first, before the memory that it reads and writes.
    work: cuda::Recorded,
    inputs: Vec<Tensor>,
    given: T,
}

impl Device {
    /// Records what `work` does with tensors like `inputs`, and does it only when the result is run, with the values that
    /// it is given then. `None` on a device that records nothing.
    ///
    /// What is recorded are the operations on the tensors that `work` is given and on all that is made of them. Whatever
    /// else they read, such as weights, is read where it lies now: it must stay there while the result lives. Weights must
    /// have been used before, and values must not leave the device: not by [`Tensor::to_vec`], nor by waiting for
    /// [`crate::ops::find_non_finite`], whose answer may be asked for after a run.
    ///
    /// # Errors
    /// Those of `work`, and [`crate::Error`] where something cannot be recorded. The device can be used as before.
    pub fn record<T, E: From<Error>>(
        &self,
        inputs: &[&Tensor],
        work: impl FnOnce(&[Tensor]) -> Result<T, E>,
    ) -> Result<Option<Recorded<T>>, E> {
        let Device::Cuda(cuda) = self else { return Ok(None) };
        let tape = cuda.tape();
        let own = |input: &&Tensor| Tensor {
            device: Device::Cuda(tape.recording().clone()),
            shape: input.shape.clone(),
            storage: Storage::Cuda(tape.recording().like(cuda.host(input))),
        };
        let inputs: Vec<Tensor> = inputs.iter().map(own).collect();
        let given = work(&inputs)?;
        Ok(Some(Recorded { work: tape.finish()?, inputs, given }))
    }
}

impl<T> Recorded<T> {
    /// Does the work with other values, of the shapes that it was recorded for. What goes wrong is told by
    /// [`Device::check`], as with all operations. `None` when the device needed the memory for something else since, as
    /// it does by [`Device::between_loops`] and [`Device::release_memory`]: then there is no recording any longer.
    pub fn run(&self, inputs: &[&Tensor]) -> Option<&T> {
        let shapes = |inputs: &[&Tensor]| inputs.iter().map(|input| input.shape.clone()).collect::<Vec<_>>();
        assert_eq!(shapes(inputs), shapes(&self.inputs.iter().collect::<Vec<_>>()), "inputs of recorded work");
        let cuda = self.work.device();
        for (own, input) in self.inputs.iter().zip(inputs) {
            cuda.copy_values(cuda.host(own), cuda.host(input));
        }
        self.work.replay().then_some(&self.given)
    }
}
