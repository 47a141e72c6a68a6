//! One file of tensors, whichever container it is.

use std::path::Path;

use bytes::Bytes;

use super::mmap::map_pages;
use super::{Gguf, Kind, SafeTensors, TensorInfo, TensorView, sniff};
use crate::{Error, Result};

/// A safetensors or a GGUF file.
#[derive(Clone, Debug)]
pub enum File {
    /// A safetensors file.
    SafeTensors(SafeTensors),
    /// A GGUF file.
    Gguf(Gguf),
}

impl File {
    /// Maps and checks a file; its first bytes say what it is, not its name.
    ///
    /// Refuses one part of a GGUF file that was split ([`Error::SplitGguf`]); other files are refused by what they are
    /// ([`Error::NotSafetensors`]).
    pub fn open(path: &Path) -> Result<Self> {
        let mapped = map_pages(path)?;
        match sniff(&mapped.0) {
            Kind::Gguf => Gguf::mapped(path, mapped).and_then(whole).map(File::Gguf),
            _ => SafeTensors::mapped(path, mapped).map(File::SafeTensors),
        }
    }

    /// Checks bytes that are already in memory, as [`File::open`] does; `label` stands for the file in messages.
    pub fn from_bytes(label: &str, bytes: Bytes) -> Result<Self> {
        match sniff(&bytes) {
            Kind::Gguf => Gguf::from_bytes(label, bytes).and_then(whole).map(File::Gguf),
            _ => SafeTensors::from_bytes(label, bytes).map(File::SafeTensors),
        }
    }

    /// The GGUF file, if it is one.
    pub fn as_gguf(&self) -> Option<&Gguf> {
        match self {
            File::SafeTensors(_) => None,
            File::Gguf(file) => Some(file),
        }
    }

    /// The path, or what stands for it in messages.
    pub fn label(&self) -> &str {
        match self {
            File::SafeTensors(file) => file.label(),
            File::Gguf(file) => file.label(),
        }
    }

    /// The file on disk, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            File::SafeTensors(file) => file.path(),
            File::Gguf(file) => file.path(),
        }
    }

    /// Lets the system take back the memory of what was read; it is read again from the file when it is needed.
    pub fn release_pages(&self) {
        match self {
            File::SafeTensors(file) => file.release_pages(),
            File::Gguf(file) => file.release_pages(),
        }
    }

    /// Bytes of all tensors together.
    pub fn data_bytes(&self) -> usize {
        match self {
            File::SafeTensors(file) => file.data_bytes(),
            File::Gguf(file) => file.data_bytes(),
        }
    }

    /// Names and kinds of all tensors, sorted by name.
    pub fn iter(&self) -> Box<dyn Iterator<Item = (&str, &TensorInfo)> + '_> {
        match self {
            File::SafeTensors(file) => Box::new(file.iter()),
            File::Gguf(file) => Box::new(file.iter()),
        }
    }

    /// Type and shape of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        match self {
            File::SafeTensors(file) => file.info(name),
            File::Gguf(file) => file.info(name),
        }
    }

    /// A tensor's bytes with its type and shape, or [`Error::NoTensor`].
    pub fn tensor(&self, name: &str) -> Result<TensorView> {
        match self {
            File::SafeTensors(file) => file.tensor(name),
            File::Gguf(file) => file.tensor(name),
        }
    }
}

impl From<SafeTensors> for File {
    fn from(file: SafeTensors) -> Self {
        File::SafeTensors(file)
    }
}

impl From<Gguf> for File {
    fn from(file: Gguf) -> Self {
        File::Gguf(file)
    }
}

/// A part of a split file has some of the tensors only, and nothing in it but these keys says so.
fn whole(file: Gguf) -> Result<Gguf> {
    let key = |name: &str| file.metadata().get(name).and_then(super::Value::as_u64);
    match key("split.count") {
        Some(count) if count > 1 => {
            let part = key("split.no").map_or(0, |number| number.saturating_add(1));
            Err(Error::SplitGguf { file: file.label().to_owned(), part, count })
        }
        _ => Ok(file),
    }
}
