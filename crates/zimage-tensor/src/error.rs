//! What can go wrong when tensors are made from outside data. Wrong shapes between tensors are bugs, and assert.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The number of bytes or values does not fit the shape.
    #[error("data of {found} does not fit the shape {shape:?}, which takes {expected}")]
    Size {
        /// The shape asked for.
        shape: Vec<usize>,
        /// Bytes or values that the shape takes.
        expected: usize,
        /// Bytes or values given.
        found: usize,
    },
    /// A row of a quantized weight does not end where a block ends.
    #[error("a row of {cols} values cannot be stored as {format}, which has blocks of {block_len}")]
    Blocks {
        /// The name of the weight's format.
        format: String,
        /// Values in a row.
        cols: usize,
        /// Values in a block.
        block_len: usize,
    },
    /// The environment variable that lowers the CPU level has an unknown value.
    #[error("{variable} is {value:?}\nhint: it may be naive, portable, avx2 or avx512, or unset for the best one")]
    Level {
        /// Its name.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// A device cannot be used.
    #[error("{what}\nhint: {hint}")]
    Unavailable {
        /// What is missing, or wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A device failed at its work.
    #[error("{device}: {what}")]
    Work {
        /// Which one: `cuda:0`.
        device: String,
        /// What it said, and at what.
        what: String,
    },
    /// A device has no memory left.
    #[error(
        "{device} has not enough memory: {asked_bytes} bytes more were needed, {free_bytes} are free\nhint: make a smaller picture, use a quantized model, or close other programs that use the device"
    )]
    Memory {
        /// Which one: `cuda:0`.
        device: String,
        /// Bytes asked for.
        asked_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// What went wrong with a device at its work; told late, by [`crate::Device::check`].
    #[error(transparent)]
    Device(std::sync::Arc<Error>),
    /// The device has no such arithmetic.
    #[error("{device} does not compute in {compute}\nhint: leave --compute out for the fastest way that it has")]
    Arithmetic {
        /// Its name.
        device: String,
        /// The arithmetic asked for.
        compute: &'static str,
    },
    /// The thread pool could not be made.
    #[error("could not start {threads} threads: {reason}")]
    Threads {
        /// Number of threads asked for.
        threads: usize,
        /// The operating system's reason.
        reason: String,
    },
}

impl Error {
    /// Whether a device had no memory left.
    pub fn is_memory(&self) -> bool {
        match self {
            Error::Memory { .. } => true,
            Error::Device(error) => error.is_memory(),
            _ => false,
        }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
