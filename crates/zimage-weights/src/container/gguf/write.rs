//! Writes GGUF files of version 3, one tensor after the other.
//!
//! Source: the writer `gguf.cpp` of ggml: keys, the list of tensors and every tensor's bytes, each padded with zeros to
//! the alignment, the last tensor as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::read::MAX_NAME_BYTES;
use super::{ALIGNMENT, MAX_AXES, Value, alignment};
use crate::container::TensorSource;
use crate::container::output::Output;
use crate::{Error, Result};

/// Longest name of a tensor that ggml reads, whose names have 64 bytes with a zero at the end.
const MAX_TENSOR_NAME_BYTES: usize = 63;

/// Writes a GGUF file with keys and tensors in the given order, aligned to 32 bytes or to what `general.alignment` says.
///
/// The bytes go to a temporary file beside `path`, which is renamed at the end and removed on any error: no reader ever
/// sees half a file. An existing file is replaced. Refuses ([`Error::WriteTensor`]) a key or a name given twice or
/// longer than ggml reads, an element type that ggml does not have, more than four axes, rows that are no whole number
/// of blocks, and a source that writes more or fewer bytes than it announced.
pub fn write_gguf(path: &Path, metadata: &[(String, Value)], tensors: Vec<TensorSource<'_>>) -> Result<()> {
    let file = path.display().to_string();
    let (keys, alignment) = keys(&file, metadata)?;
    let list = list(&file, &tensors, alignment)?;
    let mut out = Output::create(path)?;
    out.bytes(b"GGUF")?;
    out.bytes(&3_u32.to_le_bytes())?;
    out.bytes(&(tensors.len() as u64).to_le_bytes())?;
    out.bytes(&(metadata.len() as u64).to_le_bytes())?;
    out.bytes(&keys)?;
    out.bytes(&list)?;
    out.align(alignment)?;
    for source in tensors {
        out.tensor(source)?;
        out.align(alignment)?;
    }
    out.finish()
}

/// All keys with their values, and the alignment that they ask for.
fn keys(file: &str, metadata: &[(String, Value)]) -> Result<(Vec<u8>, u64)> {
    let mut bytes = Vec::new();
    let mut values = BTreeMap::new();
    for (key, value) in metadata {
        let refuse = |problem: String| Error::WriteTensor { file: file.to_owned(), tensor: key.clone(), problem };
        if values.insert(key.as_str(), value).is_some() {
            return Err(refuse("the key is taken".to_owned()));
        }
        if key.len() as u64 > MAX_NAME_BYTES {
            return Err(refuse(format!("the key has {} bytes, more than the {MAX_NAME_BYTES} allowed", key.len())));
        }
        text(&mut bytes, key);
        value.write(&mut bytes);
    }
    let alignment = alignment(values.get(ALIGNMENT).copied());
    let refuse = |problem: super::GgufProblem| Error::WriteTensor {
        file: file.to_owned(),
        tensor: ALIGNMENT.to_owned(),
        problem: problem.to_string(),
    };
    Ok((bytes, alignment.map_err(refuse)?))
}

/// The list of tensors, each with its place in the data.
fn list(file: &str, tensors: &[TensorSource<'_>], alignment: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut seen = BTreeSet::new();
    let mut at = 0_u64;
    for source in tensors {
        let TensorSource { name, info, .. } = source;
        if !seen.insert(name.as_str()) {
            return Err(source.refuse(file, "the name is taken"));
        }
        if name.len() > MAX_TENSOR_NAME_BYTES {
            let problem = format!("the name has {} bytes, more than the {MAX_TENSOR_NAME_BYTES} allowed", name.len());
            return Err(source.refuse(file, problem));
        }
        if info.shape.len() > MAX_AXES {
            let problem = format!("it has {} axes, more than the {MAX_AXES} allowed", info.shape.len());
            return Err(source.refuse(file, problem));
        }
        let number = info.dtype.to_ggml().ok_or_else(|| source.refuse(file, format!("ggml has no {}", info.dtype)))?;
        let row = info.shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(info.dtype.block_len()) {
            let (dtype, block_len) = (info.dtype, info.dtype.block_len());
            return Err(source.refuse(file, format!("it has rows of {row} values, {dtype} has blocks of {block_len}")));
        }
        text(&mut bytes, name);
        bytes.extend((info.shape.len() as u32).to_le_bytes());
        // The file has the innermost axis first.
        info.shape.iter().rev().for_each(|axis| bytes.extend((*axis as u64).to_le_bytes()));
        bytes.extend(number.to_le_bytes());
        bytes.extend(at.to_le_bytes());
        let end = info.dtype.size_of(&info.shape).and_then(|size| at.checked_add(size as u64));
        let next = end.and_then(|end| end.checked_next_multiple_of(alignment));
        at = next.ok_or_else(|| source.refuse(file, "its size overflows"))?;
    }
    Ok(bytes)
}

/// A text as the format has it: its length in 8 bytes, then UTF-8.
pub(super) fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
