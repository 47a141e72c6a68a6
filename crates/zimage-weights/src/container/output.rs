//! A file that is written from beginning to end, and is there under its name only when it is whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::TensorInfo;
use crate::{Dtype, Error, Result};

/// Writes a tensor's little-endian bytes.
type Fill<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + 'a>;

/// A tensor to be written; its bytes are produced when its turn comes, so that a 12 GB file needs no 12 GB of memory.
pub struct TensorSource<'a> {
    pub(super) name: String,
    pub(super) info: TensorInfo,
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

    /// An [`Error::WriteTensor`] about this tensor.
    pub(super) fn refuse(&self, file: &str, problem: impl Into<String>) -> Error {
        Error::WriteTensor { file: file.to_owned(), tensor: self.name.clone(), problem: problem.into() }
    }
}

/// The bytes go to a temporary file beside the path, which is renamed at the end and removed on any error: no reader
/// ever sees half a file, and a file that was there before stays until then.
pub(super) struct Output<'a> {
    path: &'a Path,
    out: BufWriter<File>,
    /// Bytes so far.
    written: u64,
    temporary: Temporary,
}

impl<'a> Output<'a> {
    pub(super) fn create(path: &'a Path) -> Result<Self> {
        let temporary = Temporary::beside(path)?;
        let file = File::create(&temporary.0).map_err(Error::io("create", &temporary.0))?;
        Ok(Self { path, out: BufWriter::with_capacity(1 << 20, file), written: 0, temporary })
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.path;
        self.write_all(bytes).map_err(Error::io("write", path))
    }

    /// Zeros up to a multiple of `alignment`.
    pub(super) fn align(&mut self, alignment: u64) -> Result<()> {
        let path = self.path;
        let zeros = self.written.next_multiple_of(alignment) - self.written;
        io::copy(&mut io::repeat(0).take(zeros), self).map(drop).map_err(Error::io("write", path))
    }

    /// The bytes of a tensor. Refuses a source that writes more or fewer than it announced ([`Error::WriteTensor`]).
    pub(super) fn tensor(&mut self, source: TensorSource<'_>) -> Result<()> {
        let TensorSource { name, info, fill } = source;
        let (begin, path) = (self.written, self.path);
        fill(self).map_err(Error::io("write", path))?;
        let (produced, expected) = (self.written - begin, info.size_bytes() as u64);
        if produced == expected {
            return Ok(());
        }
        let problem = format!("{produced} bytes were produced, expected {expected}");
        Err(Error::WriteTensor { file: path.display().to_string(), tensor: name, problem })
    }

    /// Gives the file its name, once its bytes are on the disk: a loss of power leaves the old file or the new one.
    pub(super) fn finish(mut self) -> Result<()> {
        self.out.flush().map_err(Error::io("write", self.path))?;
        self.out.get_ref().sync_all().map_err(Error::io("write", self.path))?;
        drop(self.out);
        self.temporary.rename(self.path)
    }
}

/// What is written is counted.
impl Write for Output<'_> {
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
