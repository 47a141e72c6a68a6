//! Every way in which a safetensors file can break its own rules.

/// A broken rule of the safetensors format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Not even the length of the header is there.
    #[error("it has {len} bytes, too few for the length of a header")]
    TooShort {
        /// Bytes in the file.
        len: usize,
    },
    /// The header is longer than any real one.
    #[error("its header claims {header} bytes, more than the {limit} allowed")]
    HeaderTooLarge {
        /// Claimed length.
        header: u64,
        /// The limit.
        limit: usize,
    },
    /// The header does not fit the file.
    #[error("its header claims {header} bytes, the file has {len}")]
    HeaderPastEnd {
        /// Claimed length.
        header: u64,
        /// Bytes in the file.
        len: usize,
    },
    /// The header is not the JSON that it must be, or names a tensor twice.
    #[error("bad header: {message}")]
    Header {
        /// The parser's words, with the tensor's name where it is about one.
        message: String,
    },
    /// The element type is unknown.
    #[error("tensor {tensor} has the unknown dtype {dtype}")]
    UnknownDtype {
        /// The tensor.
        tensor: String,
        /// Its dtype.
        dtype: String,
    },
    /// An axis is negative, fractional, or the size overflows.
    #[error("tensor {tensor} has the impossible shape [{shape}]")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape as written.
        shape: String,
    },
    /// The offsets are not two whole numbers in order.
    #[error("tensor {tensor} has the impossible data_offsets [{offsets}]")]
    Offsets {
        /// The tensor.
        tensor: String,
        /// Its offsets as written.
        offsets: String,
    },
    /// The range is not as long as dtype and shape say.
    #[error("tensor {tensor} takes {found} bytes, its dtype and shape need {expected}")]
    Length {
        /// The tensor.
        tensor: String,
        /// Bytes that dtype and shape need.
        expected: usize,
        /// Bytes between its offsets.
        found: usize,
    },
    /// The file ends before the tensor does.
    #[error("tensor {tensor} ends at byte {end} of the data, the file has {len}: it is truncated or still downloading")]
    PastEnd {
        /// The tensor.
        tensor: String,
        /// End of its range.
        end: usize,
        /// Bytes of data in the file.
        len: usize,
    },
    /// Two tensors share bytes.
    #[error("tensor {tensor} overlaps tensor {other}")]
    Overlap {
        /// The later tensor.
        tensor: String,
        /// The one before it.
        other: String,
    },
    /// Bytes belong to no tensor.
    #[error("{bytes} bytes before tensor {tensor} belong to no tensor")]
    Hole {
        /// The tensor after the hole.
        tensor: String,
        /// Length of the hole.
        bytes: usize,
    },
    /// Bytes after the last tensor.
    #[error("{bytes} bytes after the last tensor belong to no tensor")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}
