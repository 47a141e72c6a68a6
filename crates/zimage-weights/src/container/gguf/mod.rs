//! The GGUF container of llama.cpp and its relatives: magic and version, the counts, keys with typed values, the list
//! of tensors, then their bytes.
//!
//! Source: the format description `docs/gguf.md` of ggml, and what its reader `gguf.cpp` refuses beyond that: keys and
//! tensors named twice, arrays of arrays, more than four axes, and tensors that do not follow each other without gaps
//! other than those of the alignment. As there, bytes after the last tensor are allowed.

mod original_shape;
mod problem;
mod read;
mod value;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;

use super::listing::{Entry, Listing};
use super::mmap::{Pages, map_pages};
use super::{TensorInfo, TensorView};
use crate::{Dtype, Error, Result};

pub use problem::GgufProblem;
use read::Reader;
pub use value::{Array, Value, ValueType};
pub use write::write_gguf;

/// The key of what tensors are aligned to.
const ALIGNMENT: &str = "general.alignment";

/// What tensors are aligned to where the metadata does not say.
const DEFAULT_ALIGNMENT: u64 = 32;

/// Most axes of a tensor in ggml.
const MAX_AXES: usize = 4;

/// The least that a key with its value takes: an empty name, a type, one byte.
const LEAST_KEY_BYTES: u64 = 8 + 4 + 1;

/// The least that a tensor takes in the list: an empty name, no axes, a type, an offset.
const LEAST_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

/// One GGUF file, checked in full when opened.
#[derive(Clone, Debug)]
pub struct Gguf {
    tensors: Listing,
    version: u32,
    metadata: BTreeMap<String, Value>,
}

impl Gguf {
    /// Maps and checks a file.
    pub fn open(path: &Path) -> Result<Self> {
        Self::mapped(path, map_pages(path)?)
    }

    /// Checks the mapped bytes of a file.
    pub(super) fn mapped(path: &Path, (bytes, pages): (Bytes, Pages)) -> Result<Self> {
        let mut file = Self::from_bytes(&path.display().to_string(), bytes)?;
        file.tensors.map(path, pages);
        Ok(file)
    }

    /// Checks bytes that are already in memory; `label` stands for the file in messages.
    pub fn from_bytes(label: &str, bytes: Bytes) -> Result<Self> {
        parse(label, &bytes).map_err(|problem| Error::Gguf { file: label.to_owned(), problem })
    }

    /// The path, or what stands for it in messages.
    pub fn label(&self) -> &str {
        self.tensors.label()
    }

    /// The file on disk, if it is one.
    pub fn path(&self) -> Option<&Path> {
        self.tensors.path()
    }

    /// See [`File::release_pages`](super::File::release_pages).
    pub(super) fn release_pages(&self) {
        self.tensors.release_pages();
    }

    /// Version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All keys and values.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// What the file says it is, `general.architecture`: "lumina2", "qwen3". Some programs do not write it.
    pub fn architecture(&self) -> Option<&str> {
        self.metadata.get("general.architecture").and_then(Value::as_str)
    }

    /// Bytes of all tensors together.
    pub fn data_bytes(&self) -> usize {
        self.tensors.data_bytes()
    }

    /// Names and kinds of all tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter()
    }

    /// Type and shape of a tensor, outermost axis first: its original shape, where the file says that it was folded and
    /// its rows are whole blocks in both.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.info(name)
    }

    /// A tensor's bytes with its type and shape, or [`Error::NoTensor`].
    pub fn tensor(&self, name: &str) -> Result<TensorView> {
        self.tensors.tensor(name)
    }
}

fn parse(label: &str, bytes: &Bytes) -> Result<Gguf, GgufProblem> {
    if !bytes.starts_with(b"GGUF") {
        return Err(GgufProblem::Magic);
    }
    let mut reader = Reader::new(bytes);
    reader.take(4, "the magic")?;
    let version = reader.u32("the version")?;
    match version {
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 1..=3) => return Err(GgufProblem::BigEndian),
        _ => return Err(GgufProblem::Version { version }),
    }
    let tensors = reader.count(LEAST_TENSOR_BYTES, "tensors")?;
    let keys = reader.count(LEAST_KEY_BYTES, "keys")?;
    let metadata = read_metadata(&mut reader, keys)?;
    let alignment = alignment(metadata.get(ALIGNMENT))?;
    let listed = read_tensors(&mut reader, tensors, alignment)?;
    let begin = (reader.at() as u64).checked_next_multiple_of(alignment).and_then(|begin| usize::try_from(begin).ok());
    // Without tensors there is nothing to align, and the file may end with the list.
    let begin = begin.filter(|begin| *begin <= bytes.len()).unwrap_or(bytes.len());
    let data = bytes.slice(begin..);
    let mut entries = place(listed, alignment, data.len())?;
    for entry in &mut entries {
        entry.info = original_shape::restore(&metadata, &entry.name, entry.info.clone())?;
    }
    Ok(Gguf { tensors: Listing::new(label, entries, data), version, metadata })
}

fn read_metadata(reader: &mut Reader<'_>, count: usize) -> Result<BTreeMap<String, Value>, GgufProblem> {
    let mut metadata = BTreeMap::new();
    for at in 0..count {
        let key = reader.name(&format!("key {at}"))?;
        let value = Value::read(reader, key)?;
        if metadata.insert(key.to_owned(), value).is_some() {
            return Err(GgufProblem::DuplicateKey { key: key.to_owned() });
        }
    }
    Ok(metadata)
}

/// What tensors are aligned to, by the value of the key for it.
fn alignment(value: Option<&Value>) -> Result<u64, GgufProblem> {
    match value {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(value)) if value.is_power_of_two() => Ok(u64::from(*value)),
        Some(other) => Err(GgufProblem::Alignment { found: other.to_string() }),
    }
}

/// A tensor as the list has it: its type and shape were checked, its place was not.
struct Listed {
    name: String,
    info: TensorInfo,
    offset: u64,
}

fn read_tensors(reader: &mut Reader<'_>, count: usize, alignment: u64) -> Result<Vec<Listed>, GgufProblem> {
    let mut seen = BTreeSet::new();
    let mut listed = Vec::new();
    for at in 0..count {
        let name = reader.name(&format!("the name of tensor {at}"))?;
        if !seen.insert(name) {
            return Err(GgufProblem::DuplicateTensor { tensor: name.to_owned() });
        }
        let tensor = read_tensor(reader, name)?;
        if !tensor.offset.is_multiple_of(alignment) {
            return Err(GgufProblem::Misaligned { tensor: tensor.name, offset: tensor.offset, alignment });
        }
        listed.push(tensor);
    }
    Ok(listed)
}

fn read_tensor(reader: &mut Reader<'_>, name: &str) -> Result<Listed, GgufProblem> {
    let what = format!("the description of tensor {name}");
    let tensor = || name.to_owned();
    let count = reader.u32(&what)?;
    if count as usize > MAX_AXES {
        return Err(GgufProblem::Axes { tensor: tensor(), count, limit: MAX_AXES });
    }
    let mut axes = (0..count).map(|_| reader.u64(&what)).collect::<Result<Vec<u64>, _>>()?;
    // The file has the innermost axis first.
    axes.reverse();
    let number = reader.u32(&what)?;
    let offset = reader.u64(&what)?;
    let dtype = Dtype::from_ggml(number).ok_or_else(|| GgufProblem::UnknownDtype { tensor: tensor(), number })?;
    let sizes: Option<Vec<usize>> = axes.iter().map(|axis| usize::try_from(*axis).ok()).collect();
    let Some(shape) = sizes else { return Err(GgufProblem::Shape { tensor: tensor(), shape: axes }) };
    let (row, block_len) = (shape.last().copied().unwrap_or(1), dtype.block_len());
    if !row.is_multiple_of(block_len) {
        return Err(GgufProblem::Blocks { tensor: tensor(), dtype, row, block_len });
    }
    if dtype.size_of(&shape).is_none() {
        return Err(GgufProblem::Shape { tensor: tensor(), shape: axes });
    }
    Ok(Listed { name: tensor(), info: TensorInfo { dtype, shape }, offset })
}

/// Finds the range of every tensor: inside the data, one after the other, with no more between them than aligns the
/// next one.
fn place(mut listed: Vec<Listed>, alignment: u64, len: usize) -> Result<Vec<Entry>, GgufProblem> {
    listed.sort_by_key(|tensor| (tensor.offset, tensor.info.size_bytes()));
    let mut entries: Vec<Entry> = Vec::with_capacity(listed.len());
    let mut at = 0;
    for Listed { name, info, offset } in listed {
        let end = offset.saturating_add(info.size_bytes() as u64);
        if end > len as u64 {
            return Err(GgufProblem::PastEnd { tensor: name, end, len });
        }
        let (begin, end) = (offset as usize, end as usize);
        if begin < at {
            let other = entries.last().map(|entry| entry.name.clone()).unwrap_or_default();
            return Err(GgufProblem::Overlap { tensor: name, other });
        }
        let padded = (at as u64).next_multiple_of(alignment) as usize;
        if begin > padded {
            return Err(GgufProblem::Hole { tensor: name, bytes: begin - padded });
        }
        at = end;
        entries.push(Entry { name, info, begin, end });
    }
    Ok(entries)
}
