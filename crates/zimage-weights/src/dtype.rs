//! Element types of stored tensors: those of safetensors files, and those of GGUF files, most of which come in blocks.

use std::fmt;

use serde::Serialize;
use zimage_kernels::blocks::Format;

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $len:literal, $bytes:literal;)*) => {
        /// Element type of a stored tensor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[non_exhaustive]
        pub enum Dtype { $($(#[$doc])* #[serde(rename = $name)] $variant,)* }

        impl Dtype {
            /// Every element type, in order of declaration.
            pub const ALL: &[Dtype] = &[$(Dtype::$variant),*];

            /// The name that safetensors headers and ggml use, `"BF16"`, `"Q4_K"`.
            pub fn name(self) -> &'static str {
                match self { $(Dtype::$variant => $name),* }
            }

            /// Elements in a block, along the innermost axis; 1 for the types without blocks.
            pub fn block_len(self) -> usize {
                match self { $(Dtype::$variant => $len),* }
            }

            /// Bytes of a block.
            pub fn block_bytes(self) -> usize {
                match self { $(Dtype::$variant => $bytes),* }
            }
        }
    };
}

dtypes! {
    /// 64-bit float.
    F64 = "F64", 1, 8;
    /// 32-bit float.
    F32 = "F32", 1, 4;
    /// IEEE half float.
    F16 = "F16", 1, 2;
    /// Brain float: the upper half of an `F32`.
    BF16 = "BF16", 1, 2;
    /// 8-bit float with 4 exponent bits, no infinities.
    F8E4M3 = "F8_E4M3", 1, 1;
    /// 8-bit float with 5 exponent bits.
    F8E5M2 = "F8_E5M2", 1, 1;
    /// 8-bit power of two, a block scale.
    F8E8M0 = "F8_E8M0", 1, 1;
    /// Complex of two 32-bit floats.
    C64 = "C64", 1, 8;
    /// Signed 64-bit integer.
    I64 = "I64", 1, 8;
    /// Signed 32-bit integer.
    I32 = "I32", 1, 4;
    /// Signed 16-bit integer.
    I16 = "I16", 1, 2;
    /// Signed 8-bit integer.
    I8 = "I8", 1, 1;
    /// Unsigned 64-bit integer.
    U64 = "U64", 1, 8;
    /// Unsigned 32-bit integer.
    U32 = "U32", 1, 4;
    /// Unsigned 16-bit integer.
    U16 = "U16", 1, 2;
    /// Unsigned 8-bit integer.
    U8 = "U8", 1, 1;
    /// One byte per truth value.
    Bool = "BOOL", 1, 1;
    /// ggml: 8-bit numbers, a scale for 32.
    Q8_0 = "Q8_0", 32, 34;
    /// ggml: 4-bit numbers, a scale for 32.
    Q4_0 = "Q4_0", 32, 18;
    /// ggml: 4-bit numbers, a scale and a minimum for 32.
    Q4_1 = "Q4_1", 32, 20;
    /// ggml: 5-bit numbers, a scale for 32.
    Q5_0 = "Q5_0", 32, 22;
    /// ggml: 5-bit numbers, a scale and a minimum for 32.
    Q5_1 = "Q5_1", 32, 24;
    /// ggml: 8-bit numbers, a scale and a sum for 32.
    Q8_1 = "Q8_1", 32, 40;
    /// ggml: 2-bit numbers, 4-bit scales and minima.
    Q2K = "Q2_K", 256, 84;
    /// ggml: 3-bit numbers, 6-bit scales.
    Q3K = "Q3_K", 256, 110;
    /// ggml: 4-bit numbers, 6-bit scales and minima.
    Q4K = "Q4_K", 256, 144;
    /// ggml: 5-bit numbers, 6-bit scales and minima.
    Q5K = "Q5_K", 256, 176;
    /// ggml: 6-bit numbers, 8-bit scales.
    Q6K = "Q6_K", 256, 210;
    /// ggml: 8-bit numbers, a scale and sums for 256.
    Q8K = "Q8_K", 256, 292;
    /// ggml: 2.06 bits, from a table of groups.
    Iq2Xxs = "IQ2_XXS", 256, 66;
    /// ggml: 2.31 bits, from a table of groups.
    Iq2Xs = "IQ2_XS", 256, 74;
    /// ggml: 3.06 bits, from a table of groups.
    Iq3Xxs = "IQ3_XXS", 256, 98;
    /// ggml: 1.56 bits, from a table of groups.
    Iq1S = "IQ1_S", 256, 50;
    /// ggml: 4-bit places in a table, a scale for 32.
    Iq4Nl = "IQ4_NL", 32, 18;
    /// ggml: 3.44 bits, from a table of groups.
    Iq3S = "IQ3_S", 256, 110;
    /// ggml: 2.56 bits, from a table of groups.
    Iq2S = "IQ2_S", 256, 82;
    /// ggml: 4-bit places in a table, 6-bit scales.
    Iq4Xs = "IQ4_XS", 256, 136;
    /// ggml: 1.75 bits, from a table of groups.
    Iq1M = "IQ1_M", 256, 56;
    /// ggml: 1.69 bits, three values.
    Tq1_0 = "TQ1_0", 256, 54;
    /// ggml: 2.06 bits, three values.
    Tq2_0 = "TQ2_0", 256, 66;
    /// ggml: 4-bit floats, a power of two for 32.
    Mxfp4 = "MXFP4", 32, 17;
    /// ggml: 4-bit floats, an 8-bit float for 16.
    Nvfp4 = "NVFP4", 64, 36;
}

/// The numbers of element types in GGUF files (`ggml_type`); some numbers were given up by ggml.
const GGML: &[(u32, Dtype)] = &[
    (0, Dtype::F32),
    (1, Dtype::F16),
    (2, Dtype::Q4_0),
    (3, Dtype::Q4_1),
    (6, Dtype::Q5_0),
    (7, Dtype::Q5_1),
    (8, Dtype::Q8_0),
    (9, Dtype::Q8_1),
    (10, Dtype::Q2K),
    (11, Dtype::Q3K),
    (12, Dtype::Q4K),
    (13, Dtype::Q5K),
    (14, Dtype::Q6K),
    (15, Dtype::Q8K),
    (16, Dtype::Iq2Xxs),
    (17, Dtype::Iq2Xs),
    (18, Dtype::Iq3Xxs),
    (19, Dtype::Iq1S),
    (20, Dtype::Iq4Nl),
    (21, Dtype::Iq3S),
    (22, Dtype::Iq2S),
    (23, Dtype::Iq4Xs),
    (24, Dtype::I8),
    (25, Dtype::I16),
    (26, Dtype::I32),
    (27, Dtype::I64),
    (28, Dtype::F64),
    (29, Dtype::Iq1M),
    (30, Dtype::BF16),
    (34, Dtype::Tq1_0),
    (35, Dtype::Tq2_0),
    (39, Dtype::Mxfp4),
    (40, Dtype::Nvfp4),
];

impl Dtype {
    /// The element type that a safetensors header calls `name`.
    pub fn from_name(name: &str) -> Option<Dtype> {
        Dtype::ALL.iter().copied().find(|dtype| dtype.name() == name && dtype.in_safetensors())
    }

    /// The element type that a GGUF file calls by this number.
    pub fn from_ggml(number: u32) -> Option<Dtype> {
        GGML.iter().find(|(known, _)| *known == number).map(|(_, dtype)| *dtype)
    }

    /// The number of the element type in GGUF files, if they have it.
    pub fn to_ggml(self) -> Option<u32> {
        GGML.iter().find(|(_, dtype)| *dtype == self).map(|(number, _)| *number)
    }

    /// Whether safetensors files have this element type; the others are those of ggml that come in blocks.
    pub fn in_safetensors(self) -> bool {
        self.block_len() == 1
    }

    /// The weight storage format with the same bytes, if the kernels can read this element type as a weight.
    pub fn format(self) -> Option<Format> {
        match self {
            Dtype::F32 => Some(Format::F32),
            Dtype::BF16 => Some(Format::BF16),
            Dtype::F16 => Some(Format::F16),
            Dtype::F8E4M3 => Some(Format::F8E4M3),
            Dtype::F8E5M2 => Some(Format::F8E5M2),
            Dtype::Q8_0 => Some(Format::Q8_0),
            Dtype::Q4_0 => Some(Format::Q4_0),
            Dtype::Q4_1 => Some(Format::Q4_1),
            Dtype::Q5_0 => Some(Format::Q5_0),
            Dtype::Q5_1 => Some(Format::Q5_1),
            Dtype::Q2K => Some(Format::Q2K),
            Dtype::Q3K => Some(Format::Q3K),
            Dtype::Q4K => Some(Format::Q4K),
            Dtype::Q5K => Some(Format::Q5K),
            Dtype::Q6K => Some(Format::Q6K),
            Dtype::Iq4Nl => Some(Format::Iq4Nl),
            _ => None,
        }
    }

    /// Bytes of a tensor of this type and shape, or `None` where the innermost axis is no whole number of blocks or a
    /// product does not fit a `usize`.
    pub fn size_of(self, shape: &[usize]) -> Option<usize> {
        let elements = shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n))?;
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(self.block_len()) {
            return None;
        }
        (elements / self.block_len()).checked_mul(self.block_bytes())
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
#[path = "dtype/tests.rs"]
mod tests;
