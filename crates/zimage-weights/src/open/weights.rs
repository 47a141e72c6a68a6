//! The weights of one part of a checkpoint.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::WeightView;
use crate::container::Container;
use crate::dialect::{Entry, Reading, mlx};
use crate::packing::Kind;
use crate::schema::{Component, TensorSpec};
use crate::{Error, Result};

/// The audited weights of one part: every tensor of the schema is there. The files stay mapped until this and every
/// [`WeightView`] taken from it are dropped.
#[derive(Clone, Debug)]
pub struct Weights {
    label: String,
    component: Component,
    /// That of the part, and those that lend it tensors.
    containers: Vec<Container>,
    /// By canonical name.
    entries: BTreeMap<String, Entry>,
}

impl Weights {
    /// `pads` is where the transformer's pad tokens are taken from when its own file has none.
    pub(crate) fn audited(
        label: &str,
        component: Component,
        specs: &[TensorSpec],
        container: Container,
        pads: Option<Container>,
    ) -> Result<Self> {
        let mut reading = Reading::of(component, &container);
        if let Some(pads) = pads.as_ref().filter(|_| component == Component::Transformer) {
            reading.adopt(&mlx::DROPPED, Reading::of(component, pads), 1);
        }
        reading.fit(specs);
        refuse(label, component, broken(&reading, specs))?;
        let audit = reading.audit(specs);
        if audit.lacks_only(&mlx::DROPPED) {
            return Err(Error::MissingPads { label: label.to_owned() });
        }
        if !audit.is_clean() {
            return Err(Error::Audit { label: label.to_owned(), component, audit: Box::new(audit) });
        }
        let entries = reading.entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        let containers = std::iter::once(container).chain(pads).collect();
        let weights = Self { label: label.to_owned(), component, containers, entries };
        weights.check_formats()?;
        Ok(weights)
    }

    /// Every tensor can be read; names the first that cannot.
    fn check_formats(&self) -> Result<()> {
        let unreadable = self.entries.values().filter_map(|entry| Some((entry, entry.unreadable(&entry.shape)?)));
        refuse(&self.label, self.component, unreadable)?;
        // Kernels in another order are copied when they are read; their bytes were counted with their shape.
        let mut plain = self.entries.values().filter(|entry| !entry.transposed);
        plain.try_for_each(|entry| self.view(entry).map(drop))
    }

    fn view(&self, entry: &Entry) -> Result<WeightView> {
        WeightView::of(entry, &self.containers[entry.container], &self.label)
    }

    /// Which part this is.
    pub fn component(&self) -> Component {
        self.component
    }

    /// A tensor by its canonical name, or [`Error::NoTensor`].
    pub fn tensor(&self, name: &str) -> Result<WeightView> {
        let missing = || Error::NoTensor { file: format!("{} of {}", self.component, self.label), tensor: name.into() };
        self.view(self.entries.get(name).ok_or_else(missing)?)
    }

    /// Canonical names and shapes of all tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), &*entry.shape))
    }

    /// The weight files, in order: paths, or what stands for them in an embedded checkpoint.
    pub fn files(&self) -> Vec<String> {
        self.containers.iter().flat_map(Container::files).map(|file| file.label().to_owned()).collect()
    }

    /// Lets the system take back the memory of the weights that were read; they are read again when they are needed.
    pub fn release_pages(&self) {
        self.containers.iter().flat_map(Container::files).for_each(crate::container::File::release_pages);
    }

    /// Bytes of all tensors of this part; its files may hold others.
    pub fn size_bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.size_bytes() as u64).sum()
    }

    /// Bytes of the tensors whose names begin with `prefix`.
    pub fn size_bytes_below(&self, prefix: &str) -> u64 {
        let below = self.entries.iter().filter(|(name, _)| name.starts_with(prefix));
        below.map(|(_, entry)| entry.size_bytes() as u64).sum()
    }

    /// Number of values of all tensors of this part.
    pub fn parameters(&self) -> u64 {
        self.entries.values().map(|entry| entry.elements() as u64).sum()
    }

    /// How the weights are stored.
    pub fn precision(&self) -> Precision {
        Precision::of(self.entries.values())
    }
}

/// Weights in several tensors that do not belong together. Their shapes tell nothing, so they come before the audit.
fn broken<'a>(reading: &'a Reading, specs: &'a [TensorSpec]) -> impl Iterator<Item = (&'a Entry, String)> {
    let specs: BTreeMap<&str, &TensorSpec> = specs.iter().map(|spec| (&*spec.name, spec)).collect();
    let packed = reading.entries.iter().filter(|entry| entry.packed.kind != Kind::Plain);
    packed.filter_map(move |entry| Some((entry, entry.unreadable(&specs.get(&*entry.name)?.shape)?)))
}

/// Fails where there are tensors that cannot be read.
fn refuse<'a>(label: &str, component: Component, mut bad: impl Iterator<Item = (&'a Entry, String)>) -> Result<()> {
    let Some((entry, reason)) = bad.next() else { return Ok(()) };
    let (label, tensor, count) = (label.to_owned(), entry.packed.name.clone(), 1 + bad.count());
    Err(Error::UnsupportedFormat { label, component, tensor, reason, count })
}

/// How many tensors are stored in which format, the most bytes first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Precision {
    /// One entry per format.
    pub counts: Vec<PrecisionCount>,
}

/// The tensors of one format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrecisionCount {
    /// The format: "bf16", "q4_k", "affine 8-bit, group 64".
    pub format: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Their elements.
    pub parameters: u64,
    /// Their bytes.
    pub size_bytes: u64,
}

impl Precision {
    /// Counts tensors by format.
    pub(crate) fn of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Self {
        let mut counts: BTreeMap<String, PrecisionCount> = BTreeMap::new();
        for entry in entries {
            let format = entry.format();
            let none = PrecisionCount { format: format.clone(), tensors: 0, parameters: 0, size_bytes: 0 };
            let count = counts.entry(format).or_insert(none);
            count.tensors += 1;
            count.parameters += entry.elements() as u64;
            count.size_bytes += entry.size_bytes() as u64;
        }
        let mut counts: Vec<PrecisionCount> = counts.into_values().collect();
        counts.sort_by_key(|count| std::cmp::Reverse(count.size_bytes));
        Self { counts }
    }

    /// Number of tensors.
    pub fn tensors(&self) -> usize {
        self.counts.iter().map(|count| count.tensors).sum()
    }

    /// Number of elements of all tensors.
    pub fn parameters(&self) -> u64 {
        self.counts.iter().map(|count| count.parameters).sum()
    }

    /// Bytes of all tensors.
    pub fn size_bytes(&self) -> u64 {
        self.counts.iter().map(|count| count.size_bytes).sum()
    }
}

impl fmt::Display for Precision {
    /// "bf16", or "bf16 (241 tensors), f32 (280 tensors)".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = &*self.counts {
            return f.write_str(&only.format);
        }
        for (at, count) in self.counts.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{} ({} tensors)", count.format, count.tensors)?;
        }
        Ok(())
    }
}
