//! Writes safetensors files, one tensor after the other, so that a 12 GB file needs no 12 GB of memory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, json};

use super::{Metadata, TensorInfo};
use crate::{Dtype, Error, Result};

/// Writes a tensor's little-endian bytes.
type Fill<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + 'a>;

/// A tensor to be written; its bytes are produced when its turn comes.
pub struct TensorSource<'a> {
    name: String,
    info: TensorInfo,
    fill: Fill<'a>,
}

impl<'a> TensorSource<'a> {
    /// A tensor whose bytes `fill` writes: exactly as many as `dtype` and `shape` need, little-endian, row-major.
    pub fn new(
        name: impl Into<String>,
        dtype: Dtype,
        shape: &[usize],
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()> + 'a,
    ) -> Self {
        Self { name: name.into(), info: TensorInfo { dtype, shape: shape.to_vec() }, fill: Box::new(fill) }
    }

    /// A tensor of `F32` values.
    pub fn f32(name: impl Into<String>, shape: &[usize], values: &'a [f32]) -> Self {
        Self::new(name, Dtype::F32, shape, move |out| {
            values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
        })
    }
}

/// Writes a safetensors file with the tensors in the given order.
///
/// The bytes go to a temporary file beside `path`, which is renamed at the end and removed on any error: no reader ever
/// sees half a file. An existing file is replaced. Refuses a name given twice, an element type of GGUF, a shape whose size overflows, and a
/// source that writes more or fewer bytes than it announced ([`Error::WriteTensor`]).
pub fn write_safetensors(path: &Path, metadata: &Metadata, tensors: Vec<TensorSource<'_>>) -> Result<()> {
    let file = path.display().to_string();
    let header = header(&file, metadata, &tensors)?;
    let temporary = Temporary::beside(path)?;
    let out = File::create(&temporary.0).map_err(Error::io("create", &temporary.0))?;
    let mut out = BufWriter::with_capacity(1 << 20, out);
    let write = |out: &mut BufWriter<File>, bytes: &[u8]| out.write_all(bytes).map_err(Error::io("write", path));
    write(&mut out, &(header.len() as u64).to_le_bytes())?;
    write(&mut out, &header)?;
    for TensorSource { name, info, fill } in tensors {
        let expected = info.size_bytes() as u64;
        let mut counted = Counted { out: &mut out, written: 0 };
        fill(&mut counted).map_err(Error::io("write", path))?;
        if counted.written != expected {
            let problem = format!("{} bytes were produced, expected {expected}", counted.written);
            return Err(Error::WriteTensor { file, tensor: name, problem });
        }
    }
    out.flush().map_err(Error::io("write", path))?;
    drop(out);
    temporary.rename(path)
}

/// The JSON header, padded with spaces so that the data begins at a multiple of 8 bytes.
fn header(file: &str, metadata: &Metadata, tensors: &[TensorSource<'_>]) -> Result<Vec<u8>> {
    let mut map = Map::new();
    if !metadata.is_empty() {
        map.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut at = 0_usize;
    let mut seen = BTreeSet::from(["__metadata__"]);
    for TensorSource { name, info, .. } in tensors {
        let refuse = |problem: &str| Error::WriteTensor {
            file: file.to_owned(),
            tensor: name.clone(),
            problem: problem.to_owned(),
        };
        if !seen.insert(name.as_str()) {
            return Err(refuse("the name is taken"));
        }
        if !info.dtype.in_safetensors() {
            return Err(refuse(&format!("safetensors files have no {}", info.dtype)));
        }
        let end = info.dtype.size_of(&info.shape).and_then(|bytes| at.checked_add(bytes));
        let end = end.ok_or_else(|| refuse("its size overflows"))?;
        let entry = json!({ "dtype": info.dtype.name(), "shape": info.shape, "data_offsets": [at, end] });
        map.insert(name.clone(), entry);
        at = end;
    }
    let mut text = serde_json::Value::Object(map).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok(text)
}

/// Counts what a source writes.
struct Counted<'a> {
    out: &'a mut BufWriter<File>,
    written: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A file that is removed when dropped, unless it was renamed before.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(path: &Path) -> Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let name = path.file_name().ok_or_else(|| Error::io("write", path)(invalid()))?;
        Ok(Self(path.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()))))
    }

    fn rename(mut self, path: &Path) -> Result<()> {
        fs::rename(&self.0, path).map_err(Error::io("write", path))?;
        self.0 = PathBuf::new();
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // There is nothing better to do: the error that brought us here is already on its way to the caller.
            let _ = fs::remove_file(&self.0);
        }
    }
}
