//! Writes safetensors files, one tensor after the other.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, json};

use super::output::Output;
use super::{Metadata, TensorSource};
use crate::Result;

/// Writes a safetensors file with the tensors in the given order.
///
/// The bytes go to a temporary file beside `path`, which is renamed at the end and removed on any error: no reader ever
/// sees half a file. An existing file is replaced. Refuses a name given twice, an element type of GGUF, a shape whose
/// size overflows, and a source that writes more or fewer bytes than it announced ([`crate::Error::WriteTensor`]).
pub fn write_safetensors(path: &Path, metadata: &Metadata, tensors: Vec<TensorSource<'_>>) -> Result<()> {
    let header = header(&path.display().to_string(), metadata, &tensors)?;
    let mut out = Output::create(path)?;
    out.bytes(&(header.len() as u64).to_le_bytes())?;
    out.bytes(&header)?;
    for source in tensors {
        out.tensor(source)?;
    }
    out.finish()
}

/// The JSON header, padded with spaces so that the data begins at a multiple of 8 bytes.
fn header(file: &str, metadata: &Metadata, tensors: &[TensorSource<'_>]) -> Result<Vec<u8>> {
    let mut map = Map::new();
    if !metadata.is_empty() {
        map.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut at = 0_usize;
    let mut seen = BTreeSet::from(["__metadata__"]);
    for source in tensors {
        let TensorSource { name, info, .. } = source;
        if !seen.insert(name.as_str()) {
            return Err(source.refuse(file, "the name is taken"));
        }
        if !info.dtype.in_safetensors() {
            return Err(source.refuse(file, format!("safetensors files have no {}", info.dtype)));
        }
        let end = info.dtype.size_of(&info.shape).and_then(|bytes| at.checked_add(bytes));
        let end = end.ok_or_else(|| source.refuse(file, "its size overflows"))?;
        let entry = json!({ "dtype": info.dtype.name(), "shape": info.shape, "data_offsets": [at, end] });
        map.insert(name.clone(), entry);
        at = end;
    }
    let mut text = serde_json::Value::Object(map).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok(text)
}
