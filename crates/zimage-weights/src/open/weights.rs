//! The weights of one part of a checkpoint.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::container::{Container, TensorInfo, TensorView};
use crate::dialect::{Entry, Reading};
use crate::schema::{Component, TensorSpec};
use crate::{Dtype, Error, Result};

/// The audited weights of one part: every tensor of the schema is there. The files stay mapped until this and every
/// [`TensorView`] taken from it are dropped.
#[derive(Clone, Debug)]
pub struct Weights {
    label: String,
    component: Component,
    container: Container,
    /// By canonical name.
    entries: BTreeMap<String, Entry>,
}

impl Weights {
    pub(crate) fn audited(
        label: &str,
        component: Component,
        specs: &[TensorSpec],
        container: Container,
    ) -> Result<Self> {
        let reading = Reading::of(component, &container);
        let audit = reading.audit(specs);
        if !audit.is_clean() {
            return Err(Error::Audit { label: label.to_owned(), component, audit: Box::new(audit) });
        }
        let weights = Self { label: label.to_owned(), component, container, entries: reading.into_map() };
        weights.check_formats()?;
        Ok(weights)
    }

    fn check_formats(&self) -> Result<()> {
        let mut bad = self.iter().filter(|(_, info)| info.dtype.format().is_none());
        let Some((tensor, info)) = bad.next() else { return Ok(()) };
        let count = 1 + bad.filter(|(_, other)| other.dtype == info.dtype).count();
        let (label, component) = (self.label.clone(), self.component);
        Err(Error::UnsupportedFormat { label, component, dtype: info.dtype, count, tensor: tensor.to_owned() })
    }

    /// Which part this is.
    pub fn component(&self) -> Component {
        self.component
    }

    /// A tensor by its canonical name, or [`Error::NoTensor`].
    pub fn tensor(&self, name: &str) -> Result<TensorView> {
        let missing = || Error::NoTensor { file: format!("{} of {}", self.component, self.label), tensor: name.into() };
        self.entries.get(name).ok_or_else(missing)?.view(&self.container)
    }

    /// Canonical names and kinds of all tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), &entry.info))
    }

    /// The weight files, in order: paths, or what stands for them in an embedded checkpoint.
    pub fn files(&self) -> Vec<String> {
        self.container.files().iter().map(|file| file.label().to_owned()).collect()
    }

    /// Bytes of all tensors of this part; its files may hold others.
    pub fn size_bytes(&self) -> u64 {
        self.iter().map(|(_, info)| info.size_bytes() as u64).sum()
    }

    /// How the weights are stored.
    pub fn precision(&self) -> Precision {
        Precision::of(self.iter().map(|(_, info)| info))
    }
}

/// How many tensors are stored in which element type, the most bytes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Precision {
    /// One entry per element type.
    pub counts: Vec<PrecisionCount>,
}

/// The tensors of one element type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrecisionCount {
    /// The element type.
    pub dtype: Dtype,
    /// Number of tensors.
    pub tensors: usize,
    /// Their elements.
    pub parameters: u64,
    /// Their bytes.
    pub size_bytes: u64,
}

impl Precision {
    /// Counts tensors by element type.
    pub fn of<'a>(infos: impl Iterator<Item = &'a TensorInfo>) -> Self {
        let mut counts: BTreeMap<Dtype, PrecisionCount> = BTreeMap::new();
        for info in infos {
            let none = PrecisionCount { dtype: info.dtype, tensors: 0, parameters: 0, size_bytes: 0 };
            let count = counts.entry(info.dtype).or_insert(none);
            count.tensors += 1;
            count.parameters += info.elements() as u64;
            count.size_bytes += info.size_bytes() as u64;
        }
        let mut counts: Vec<PrecisionCount> = counts.into_values().collect();
        counts.sort_by_key(|count| std::cmp::Reverse(count.size_bytes));
        Self { counts }
    }
}

impl fmt::Display for Precision {
    /// "bf16", or "bf16 (241 tensors), f32 (280 tensors)".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = &*self.counts {
            return f.write_str(&only.dtype.name().to_ascii_lowercase());
        }
        for (at, count) in self.counts.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{} ({} tensors)", count.dtype.name().to_ascii_lowercase(), count.tensors)?;
        }
        Ok(())
    }
}
