//! Every way in which a GGUF file can break its own rules.

/// A broken rule of the GGUF format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufProblem {
    /// The first four bytes are not `GGUF`.
    #[error("it does not begin with the letters GGUF")]
    Magic,
    /// The numbers are stored with the most significant byte first.
    #[error("it is big-endian, only little-endian files are read")]
    BigEndian,
    /// The version is unknown.
    #[error("it has version {version}, only 2 and 3 are read")]
    Version {
        /// Its version.
        version: u32,
    },
    /// The file ends too soon, or something in it claims to be longer than it can be.
    #[error("{what} takes {needed} bytes from byte {at} on, {left} are left: the file is damaged or truncated")]
    Truncated {
        /// What is cut.
        what: String,
        /// Bytes that it takes.
        needed: u64,
        /// Where it begins.
        at: usize,
        /// Bytes from there to the end of the file.
        left: usize,
    },
    /// Keys and list of tensors are longer than any real ones.
    #[error("its keys and its list of tensors take more than the {limit} bytes allowed")]
    HeaderTooLarge {
        /// The limit.
        limit: u64,
    },
    /// A count is larger than what fits the file.
    #[error("it claims {count} {what}, at least {least} bytes each, and {left} bytes are left")]
    TooMany {
        /// What is counted.
        what: String,
        /// How many are claimed.
        count: u64,
        /// The least that one of them takes.
        least: u64,
        /// Bytes to the end of the file.
        left: usize,
    },
    /// A text is not UTF-8.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// Which text.
        what: String,
    },
    /// A key or a name is longer than the format allows.
    #[error("{what} has {len} bytes, more than the {limit} allowed")]
    NameTooLong {
        /// Which one.
        what: String,
        /// Its length.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// A key comes twice.
    #[error("the key {key} is there twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A value has an unknown type.
    #[error("the value of {key} has the unknown type {number}")]
    ValueType {
        /// The key.
        key: String,
        /// Its type.
        number: u32,
    },
    /// An array holds arrays.
    #[error("the value of {key} is an array of arrays")]
    NestedArray {
        /// The key.
        key: String,
    },
    /// A truth value is neither 0 nor 1.
    #[error("{what} has the truth value {byte}, which is neither 0 nor 1")]
    Bool {
        /// Where it is.
        what: String,
        /// The value.
        byte: u8,
    },
    /// The alignment is not a power of two.
    #[error("general.alignment is {found}, expected a u32 that is a power of two")]
    Alignment {
        /// Its value.
        found: String,
    },
    /// A tensor comes twice.
    #[error("tensor {tensor} is there twice")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
    },
    /// A tensor has too many axes.
    #[error("tensor {tensor} has {count} axes, more than the {limit} allowed")]
    Axes {
        /// The tensor.
        tensor: String,
        /// How many.
        count: u32,
        /// The limit.
        limit: usize,
    },
    /// The element type is unknown.
    #[error("tensor {tensor} has the unknown type {number}")]
    UnknownDtype {
        /// The tensor.
        tensor: String,
        /// Its type.
        number: u32,
    },
    /// The size overflows.
    #[error("tensor {tensor} has the impossible shape {shape:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its axes, outermost first.
        shape: Vec<u64>,
    },
    /// The rows are no whole number of blocks.
    #[error("tensor {tensor} has rows of {row} values, {dtype} has blocks of {block_len}")]
    Blocks {
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: crate::Dtype,
        /// Values in a row.
        row: usize,
        /// Values in a block.
        block_len: usize,
    },
    /// The shape that a tensor had before it was folded is not one of its values.
    #[error("comfy.gguf.orig_shape.{tensor} is {found}, expected the sizes of the axes of {elements} values")]
    OriginalShape {
        /// The tensor.
        tensor: String,
        /// What the key says.
        found: String,
        /// Number of values that are stored.
        elements: usize,
    },
    /// A tensor does not begin where tensors may begin.
    #[error("tensor {tensor} begins at byte {offset} of the data, which is no multiple of {alignment}")]
    Misaligned {
        /// The tensor.
        tensor: String,
        /// Where it begins.
        offset: u64,
        /// The alignment of the file.
        alignment: u64,
    },
    /// The file ends before the tensor does.
    #[error("tensor {tensor} ends at byte {end} of the data, the file has {len}: it is truncated or still downloading")]
    PastEnd {
        /// The tensor.
        tensor: String,
        /// End of its range.
        end: u64,
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
    /// Bytes belong to no tensor, beside those that align the next one.
    #[error("{bytes} bytes before tensor {tensor} belong to no tensor")]
    Hole {
        /// The tensor after the hole.
        tensor: String,
        /// Length of the hole.
        bytes: usize,
    },
}
