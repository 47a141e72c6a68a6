//! Matrices in device memory, in whatever a file or an operation has left them, and the kernels that read them.

use crate::backend::cuda::driver::{Address, Args, Element, MatrixAt};
use zimage_kernels::blocks::{self, Format, Group, Layout, Matrix, ScaleType, Scaled};

/// Planes begin at multiples of this many bytes, as device memory itself does.
const ALIGNMENT: usize = 256;
/// Rows in 8 bits, and their number, are padded to this: products of fp8 take nothing else.
const PADDING: usize = 16;

/// A matrix, and where its bytes are.
#[derive(Clone, Copy, Debug)]
pub struct StoredAt {
    kind: Kind,
    /// Number of rows.
    pub rows: usize,
    /// Values in a row.
    pub cols: usize,
    /// Values from a row to the next, where a value takes whole bytes.
    stride: usize,
    values: Address,
    scales: Option<Address>,
    biases: Option<Address>,
    /// The place of the first row among those of the scales.
    first: usize,
    factor: f32,
}

/// How the values lie.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// As in files.
    File(Layout),
    /// Padded rows in F16, F8 or I8, with a factor for each row.
    Narrow(Element),
}

/// The kernels that read it, by their names.
struct Kernels {
    decode: &'static str,
    quantize: &'static str,
    multipliers: Option<Multipliers>,
}

/// The kernels that decode a weight while they multiply, and the source that they stand in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Multipliers {
    /// The source.
    pub source: &'static str,
    /// For one row or a few.
    pub rows: &'static str,
    /// By tensor cores.
    pub tiles: &'static str,
}

impl StoredAt {
    /// A file's matrix at address 0, with each of its planes where [`plane_offsets`] has it, and the bytes that it takes.
    pub fn file(matrix: &Matrix) -> (StoredAt, usize) {
        let (planes, first) = matrix.bytes();
        let lengths = [planes.values.len(), planes.scales.len(), planes.biases.len()];
        let (offsets, bytes) = plane_offsets(lengths);
        let plane = |at: usize| (lengths[at] > 0).then_some(Address(offsets[at] as u64));
        let stored = StoredAt {
            kind: Kind::File(matrix.layout()),
            rows: matrix.rows(),
            cols: matrix.cols(),
            stride: matrix.cols(),
            values: Address(offsets[0] as u64),
            scales: plane(1),
            biases: plane(2),
            first,
            factor: matrix.factor(),
        };
        (stored, bytes)
    }

    /// Values in f32 or bf16, without gaps.
    pub fn plain(element: Element, rows: usize, cols: usize, values: Address) -> StoredAt {
        let format = match element {
            Element::F32 => Format::F32,
            Element::Bf16 => Format::BF16,
            other => panic!("plain rows are never {other:?}: this is a bug"),
        };
        let kind = Kind::File(Layout::Rows(format));
        StoredAt { kind, rows, cols, stride: cols, values, scales: None, biases: None, first: 0, factor: 1.0 }
    }

    /// What a matrix of this size is, at address 0, once it is in the element of a product, and the bytes that it takes:
    /// plain in f32 and bf16; in others padded, with a factor for each row.
    pub fn made(element: Element, rows: usize, cols: usize) -> (StoredAt, usize) {
        if let Element::F32 | Element::Bf16 = element {
            return (StoredAt::plain(element, rows, cols, Address(0)), rows * cols * element.bytes());
        }
        let stride = cols.next_multiple_of(PADDING);
        let padded = rows.next_multiple_of(PADDING);
        let scales = (padded * stride * element.bytes()).next_multiple_of(ALIGNMENT);
        let made = StoredAt {
            kind: Kind::Narrow(element),
            stride,
            scales: Some(Address(scales as u64)),
            ..StoredAt::plain(Element::F32, rows, cols, Address(0))
        };
        (made, scales + padded * size_of::<f32>())
    }

    /// The same matrix in memory that begins at `base`, where this one is at address 0.
    pub fn located(&self, base: Address) -> StoredAt {
        let at = |plane: Address| base.offset(plane.0 as usize);
        StoredAt { values: at(self.values), scales: self.scales.map(at), biases: self.biases.map(at), ..*self }
    }

    /// As a product reads it.
    pub fn matrix(&self, element: Element) -> MatrixAt {
        assert!(self.is_in(element), "{self:?} is not in {element:?}: this is a bug");
        MatrixAt { address: self.values, element, stride: self.stride }
    }

    /// The factors of the rows, where values were scaled for the product.
    pub fn row_scales(&self) -> Option<Address> {
        matches!(self.kind, Kind::Narrow(_)).then_some(self.scales).flatten()
    }

    /// The rows that a product reads: those of padding are zeros.
    pub fn padded_rows(&self) -> usize {
        match self.kind {
            Kind::Narrow(_) => self.rows.next_multiple_of(PADDING),
            Kind::File(_) => self.rows,
        }
    }

    /// The columns that a product reads.
    pub fn padded_cols(&self) -> usize {
        self.stride
    }

    /// Whether a product in this element reads it as it is.
    pub fn is_in(&self, element: Element) -> bool {
        match self.kind {
            Kind::Narrow(narrow) => narrow == element,
            Kind::File(Layout::Rows(Format::F32)) => element == Element::F32,
            Kind::File(Layout::Rows(Format::BF16)) => element == Element::Bf16,
            Kind::File(_) => false,
        }
    }

    /// Whether it has 16 bits a value or more, with nothing but its values: what is laid out anew once.
    pub fn is_wide(&self) -> bool {
        matches!(self.kind, Kind::File(Layout::Rows(Format::F32 | Format::F16 | Format::BF16)))
    }

    /// Whether its values are of this 8-bit element and each row has one scale, or none: they are kept as they are, and
    /// so are not rounded a second time.
    pub fn keeps_values(&self, element: Element) -> bool {
        match (self.kind, element) {
            (Kind::File(Layout::Rows(Format::F8E4M3)), Element::F8) => true,
            (Kind::File(Layout::Scaled(scaled)), _) => {
                let one_scale = matches!(scaled.group, Group::Row | Group::Tensor);
                let values = match scaled.element {
                    blocks::Element::E4M3 => element == Element::F8,
                    blocks::Element::I8 => element == Element::I8,
                    _ => false,
                };
                one_scale && values && !scaled.biased && !scaled.rotated
            }
            _ => false,
        }
    }

    /// The kernel that widens it, and the one that scales its rows.
    pub fn kernels(&self) -> [&'static str; 2] {
        let Kernels { decode, quantize, .. } = self.all_kernels();
        [decode, quantize]
    }

    /// The kernels that decode it while they multiply, if it is a weight of less than 16 bits a value.
    pub fn multipliers(&self) -> Option<Multipliers> {
        self.all_kernels().multipliers
    }

    fn all_kernels(&self) -> Kernels {
        macro_rules! named {
            ($name:literal) => {
                Kernels { decode: concat!("decode_", $name), quantize: concat!("quantize_", $name), multipliers: None }
            };
            ($name:literal, $source:literal) => {
                Kernels {
                    multipliers: Some(Multipliers {
                        source: concat!("linear_", $source),
                        rows: concat!("multiply_rows_", $name),
                        tiles: concat!("multiply_tiles_", $name),
                    }),
                    ..named!($name)
                }
            };
        }
        match self.kind {
            Kind::Narrow(Element::F16) => named!("scaled_f16"),
            Kind::Narrow(Element::F8) => named!("scaled_e4m3", "bytes"),
            Kind::Narrow(Element::I8) => named!("scaled_i8", "bytes"),
            Kind::Narrow(other) => panic!("rows are never scaled to {other:?}: this is a bug"),
            Kind::File(Layout::Scaled(scaled)) => match scaled.element {
                blocks::Element::Unsigned(4) => named!("scaled_u4", "bits"),
                blocks::Element::Unsigned(8) => named!("scaled_u8", "bytes"),
                blocks::Element::Unsigned(_) => named!("scaled_stream", "bits"),
                blocks::Element::I4 => named!("scaled_i4", "bits"),
                blocks::Element::I8 => named!("scaled_i8", "bytes"),
                blocks::Element::E2M1 => named!("scaled_e2m1", "bits"),
                blocks::Element::E4M3 => named!("scaled_e4m3", "bytes"),
                blocks::Element::E5M2 => named!("scaled_e5m2", "bytes"),
            },
            Kind::File(Layout::Rows(format)) => match format {
                Format::F32 => named!("f32"),
                Format::BF16 => named!("bf16"),
                Format::F16 => named!("f16"),
                Format::F8E4M3 => named!("f8_e4m3", "bytes"),
                Format::F8E5M2 => named!("f8_e5m2", "bytes"),
                Format::Q8_0 => named!("q8_0", "blocks_of_32"),
                Format::Q4_0 => named!("q4_0", "blocks_of_32"),
                Format::Q4_1 => named!("q4_1", "blocks_of_32"),
                Format::Q5_0 => named!("q5_0", "blocks_of_32"),
                Format::Q5_1 => named!("q5_1", "blocks_of_32"),
                Format::Q2K => named!("q2_k", "blocks_of_256"),
                Format::Q3K => named!("q3_k", "blocks_of_256"),
                Format::Q4K => named!("q4_k", "blocks_of_256"),
                Format::Q5K => named!("q5_k", "blocks_of_256"),
                Format::Q6K => named!("q6_k", "blocks_of_256"),
                Format::Iq4Nl => named!("iq4_nl", "blocks_of_32"),
            },
        }
    }

    /// What kernels are told of it: `Stored` in `formats.cuh`.
    pub fn args(&self) -> Args {
        let none = Address::default();
        let args = Args::new().address(self.values).address(self.scales.unwrap_or(none));
        let args = args.address(self.biases.unwrap_or(none)).size(self.rows).size(self.cols);
        let (scaled, row_bytes) = match self.kind {
            Kind::File(Layout::Scaled(scaled)) => (scaled, scaled.row_bytes(self.cols)),
            Kind::File(Layout::Rows(format)) => (PLAIN, format.row_bytes(self.cols)),
            Kind::Narrow(element) => (PLAIN, self.stride * element.bytes()),
        };
        let group = match scaled.group {
            Group::Tensor => 0,
            Group::Row => self.cols,
            Group::Columns(count) => count,
        };
        let scale_type = match scaled.scale {
            ScaleType::F32 => 0,
            ScaleType::F16 => 1,
            ScaleType::BF16 => 2,
            ScaleType::E4M3 => 3,
            ScaleType::E8M0 => 4,
        };
        let args = args.size(row_bytes).size(scaled.element.bits()).size(scaled.high_first.into()).size(group);
        let args = args.size(scale_type).size(self.first).size(scaled.swizzled.into()).size(scaled.rotated.into());
        args.float(self.factor).size(0)
    }
}

/// Bytes with a scale in f32 for each row; what is said of scales does not concern formats that have none.
const PLAIN: Scaled = Scaled {
    element: blocks::Element::I8,
    high_first: false,
    group: Group::Row,
    scale: ScaleType::F32,
    biased: false,
    swizzled: false,
    rotated: false,
};

/// Where planes of these lengths lie one after the other, and the bytes that they take together.
pub fn plane_offsets(lengths: [usize; 3]) -> ([usize; 3], usize) {
    let scales = lengths[0].next_multiple_of(ALIGNMENT);
    let biases = (scales + lengths[1]).next_multiple_of(ALIGNMENT);
    ([0, scales, biases], biases + lengths[2])
}
