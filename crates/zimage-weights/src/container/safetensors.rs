//! The safetensors container: 8 bytes of header length (little-endian), a JSON header, then the tensors' bytes.
//!
//! Source: the format description of the safetensors project. As there, the tensors must cover the data without
//! overlaps and without holes, so that a file cannot hide anything or name the same bytes twice.

use std::fmt;
use std::path::Path;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::listing::{Entry, Listing};
use super::mmap::{Pages, map_pages};
use super::{Metadata, Problem, TensorInfo, TensorView, sniff};
use crate::{Dtype, Error, Result};

/// Longest header accepted, as in the reference implementation.
const MAX_HEADER_BYTES: usize = 100_000_000;

/// More axes than any tensor has. A number takes two bytes of a header and thirty of memory.
const MAX_NUMBERS: usize = 64;

/// One safetensors file, checked in full when opened.
#[derive(Clone, Debug)]
pub struct SafeTensors {
    tensors: Listing,
    metadata: Metadata,
}

impl SafeTensors {
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
        sniff::refuse_others(label, &bytes)?;
        let parse = || -> Result<Self, Problem> {
            let (header, data) = split(&bytes)?;
            let header: Header =
                serde_json::from_slice(header).map_err(|error| Problem::Header { message: error.to_string() })?;
            let mut entries =
                header.tensors.into_iter().map(|(name, raw)| raw.check(name)).collect::<Result<Vec<_>, _>>()?;
            entries.sort_by(|a, b| (a.begin, a.end, &a.name).cmp(&(b.begin, b.end, &b.name)));
            check_coverage(&entries, data.len())?;
            Ok(Self { tensors: Listing::new(label, entries, data), metadata: header.metadata })
        };
        parse().map_err(|problem| Error::Safetensors { file: label.to_owned(), problem })
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

    /// The free text of the header.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Bytes of all tensors together.
    pub fn data_bytes(&self) -> usize {
        self.tensors.data_bytes()
    }

    /// Names and kinds of all tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter()
    }

    /// Type and shape of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.info(name)
    }

    /// A tensor's bytes with its type and shape, or [`Error::NoTensor`].
    pub fn tensor(&self, name: &str) -> Result<TensorView> {
        self.tensors.tensor(name)
    }
}

/// Splits a file into header and data.
fn split(bytes: &Bytes) -> Result<(&[u8], Bytes), Problem> {
    let len = bytes.len();
    let (prefix, rest) = bytes.split_first_chunk::<8>().ok_or(Problem::TooShort { len })?;
    let header = u64::from_le_bytes(*prefix);
    if header > MAX_HEADER_BYTES as u64 {
        return Err(Problem::HeaderTooLarge { header, limit: MAX_HEADER_BYTES });
    }
    let header_len = header as usize;
    let json = rest.get(..header_len).ok_or(Problem::HeaderPastEnd { header, len })?;
    Ok((json, bytes.slice(8 + header_len..)))
}

/// Every byte of the data belongs to exactly one tensor. `entries` are sorted by their begin.
fn check_coverage(entries: &[Entry], len: usize) -> Result<(), Problem> {
    let mut at = 0;
    let mut previous = "";
    for entry in entries {
        let tensor = || entry.name.clone();
        if entry.end > len {
            return Err(Problem::PastEnd { tensor: tensor(), end: entry.end, len });
        }
        if entry.begin < at {
            return Err(Problem::Overlap { tensor: tensor(), other: previous.to_owned() });
        }
        if entry.begin > at {
            return Err(Problem::Hole { tensor: tensor(), bytes: entry.begin - at });
        }
        at = entry.end;
        previous = &entry.name;
    }
    if at < len { Err(Problem::Trailing { bytes: len - at }) } else { Ok(()) }
}

/// The JSON header. A hand-written visitor, because the derived one would let a second entry of a name replace the first.
struct Header {
    tensors: Vec<(String, RawEntry)>,
    metadata: Metadata,
}

/// A tensor as the header writes it; numbers are kept as written so that a bad one can be shown.
#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    #[serde(deserialize_with = "numbers")]
    shape: Vec<Number>,
    #[serde(deserialize_with = "numbers")]
    data_offsets: Vec<Number>,
}

/// A list of at most [`MAX_NUMBERS`] numbers.
fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Number>, D::Error> {
    struct Numbers;

    impl<'de> Visitor<'de> for Numbers {
        type Value = Vec<Number>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX_NUMBERS} numbers")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Number>, A::Error> {
            let mut numbers = Vec::new();
            while let Some(number) = seq.next_element()? {
                if numbers.len() == MAX_NUMBERS {
                    return Err(A::Error::invalid_length(MAX_NUMBERS + 1, &self));
                }
                numbers.push(number);
            }
            Ok(numbers)
        }
    }

    deserializer.deserialize_seq(Numbers)
}

impl RawEntry {
    fn check(self, tensor: String) -> Result<Entry, Problem> {
        let Some(dtype) = Dtype::from_name(&self.dtype) else {
            return Err(Problem::UnknownDtype { tensor, dtype: self.dtype });
        };
        let shape: Option<Vec<usize>> = self.shape.iter().map(whole).collect();
        let sized = shape.and_then(|shape| Some((dtype.size_of(&shape)?, shape)));
        let Some((expected, shape)) = sized else {
            return Err(Problem::Shape { tensor, shape: join(&self.shape) });
        };
        let offsets: Option<Vec<usize>> = self.data_offsets.iter().map(whole).collect();
        let (begin, end) = match offsets.as_deref() {
            Some(&[begin, end]) if begin <= end => (begin, end),
            _ => return Err(Problem::Offsets { tensor, offsets: join(&self.data_offsets) }),
        };
        if end - begin != expected {
            return Err(Problem::Length { tensor, expected, found: end - begin });
        }
        Ok(Entry { name: tensor, info: TensorInfo { dtype, shape }, begin, end })
    }
}

fn whole(number: &Number) -> Option<usize> {
    usize::try_from(number.as_u64()?).ok()
}

fn join(numbers: &[Number]) -> String {
    numbers.iter().map(Number::to_string).collect::<Vec<_>>().join(", ")
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut tensors = Vec::new();
        let mut metadata = None;
        let mut seen = std::collections::HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("{name} is there twice")));
            }
            let named = |error: A::Error| A::Error::custom(format_args!("{name}: {error}"));
            if name == "__metadata__" {
                metadata = Some(map.next_value::<Metadata>().map_err(named)?);
            } else {
                let entry = map.next_value::<RawEntry>().map_err(named)?;
                tensors.push((name, entry));
            }
        }
        Ok(Header { tensors, metadata: metadata.unwrap_or_default() })
    }
}
