//! Z-Image as a library: the model, and the pipeline from a prompt to a picture.
//!
//! ```no_run
//! use zimage::{Device, GenerateRequest, Pipeline};
//!
//! # fn main() -> zimage::Result<()> {
//! let pipeline = Pipeline::load("path/to/Z-Image-Turbo".as_ref(), Device::cpu(2)?)?;
//! let request = GenerateRequest::text_to_image("a red fox in the snow", 1024, 1024, 8, 42)?;
//! let picture = pipeline.generate(&request)?;
//! picture.image.save("fox.png")?;
//! # Ok(())
//! # }
//! ```
//!
//! The library is synchronous, prints nothing, and starts no thread but through the device.

pub mod bench;
mod error;
#[cfg(test)]
mod goldens;
pub mod model;
pub mod pipeline;

pub use error::{Error, Result};
pub use model::Lora;
pub use pipeline::request::{GenerateRequest, Task};
pub use pipeline::{ComputeChoice, Denoise, Picture, Pipeline, Step};
pub use zimage_tensor::{Compute, Device, Error as TensorError};
