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
    /// The thread pool could not be made.
    #[error("could not start {threads} threads: {reason}")]
    Threads {
        /// Number of threads asked for.
        threads: usize,
        /// The operating system's reason.
        reason: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
