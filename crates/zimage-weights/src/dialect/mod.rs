//! Dialects: other names, and other cuts, of the tensors that the schema lists.
//!
//! A dialect is a short table of [`Rule`]s, the exceptions from the canonical (diffusers) names. Read forwards a table
//! says where a canonical tensor lies in a file ([`place`]), read backwards what a file's tensor is ([`origins`]).

pub mod comfyui;
pub mod llama;
pub mod mflux;
pub mod mlx;
mod naming;

use std::borrow::Cow;

pub(crate) use naming::{Entry, Naming, Reading};

use crate::schema::{TensorSpec, VaeConfig};

/// Part of a name; most are written in the tables, some count levels.
type Word = Cow<'static, str>;

/// One exception. Patterns are whole words with their dots, so that no rule can match half a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Names that begin with `canonical` begin with `file` instead.
    Prefix {
        /// The beginning of the canonical name.
        canonical: Word,
        /// The beginning of the file's name.
        file: Word,
    },
    /// `canonical` inside a name is `file` instead.
    Rename {
        /// Part of the canonical name.
        canonical: Word,
        /// Part of the file's name.
        file: Word,
    },
    /// A rename of several tensors to one: the file stacks their rows in this order, each having as many.
    SplitRows {
        /// Parts of the canonical names.
        canonical: &'static [&'static str],
        /// Part of the file's name.
        file: &'static str,
    },
    /// A rename of a linear layer whose weight the file stores as a convolution, `(out, in, 1, 1)`.
    Squeeze {
        /// Part of the canonical name.
        canonical: Word,
        /// Part of the file's name.
        file: Word,
    },
    /// Like [`Rule::Prefix`], with a number behind it that counts down from `last` in the file.
    ReverseIndex {
        /// The beginning of the canonical name, up to the number.
        canonical: Word,
        /// The beginning of the file's name, up to the number.
        file: Word,
        /// The highest number, which is 0 in the file.
        last: usize,
    },
    /// Kernels of convolutions have their input channels last, `(out, height, width, in)`.
    Transpose,
}

/// [`Rule::Prefix`].
fn prefix(canonical: impl Into<Word>, file: impl Into<Word>) -> Rule {
    Rule::Prefix { canonical: canonical.into(), file: file.into() }
}

/// [`Rule::Rename`].
fn rename(canonical: impl Into<Word>, file: impl Into<Word>) -> Rule {
    Rule::Rename { canonical: canonical.into(), file: file.into() }
}

/// [`Rule::Squeeze`].
fn squeeze(canonical: impl Into<Word>, file: impl Into<Word>) -> Rule {
    Rule::Squeeze { canonical: canonical.into(), file: file.into() }
}

/// The sizes of a VAE that its names depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VaeSizes {
    /// Resolutions.
    pub levels: usize,
    /// Blocks of the encoder at each resolution; the decoder has one more.
    pub layers: usize,
}

impl From<&VaeConfig> for VaeSizes {
    fn from(config: &VaeConfig) -> Self {
        Self { levels: config.block_out_channels.len(), layers: config.layers_per_block }
    }
}

/// A run of rows: the `part`-th of `of` equal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Which one, from 0.
    pub part: usize,
    /// How many there are.
    pub of: usize,
}

/// The same tensor under its other name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The other name.
    pub name: String,
    /// The rows of the file's tensor that are the canonical one; `None` is all of them.
    pub rows: Option<Rows>,
    /// Whether the file has two axes of one element after those of a canonical matrix.
    pub squeezed: bool,
    /// Whether the file has the input channels of a convolution last.
    pub transposed: bool,
}

impl Place {
    /// A canonical shape as the file has it, but for the rows of other tensors that it stacks.
    pub(crate) fn to_file(&self, shape: &mut Vec<usize>) {
        match **shape {
            [_, _] if self.squeezed => shape.extend([1, 1]),
            [out, input, height, width] if self.transposed => *shape = vec![out, height, width, input],
            _ => {}
        }
    }

    /// The shape of a file's tensor with canonical axes, all rows of it.
    pub(crate) fn to_canonical(&self, shape: &mut Vec<usize>) {
        match **shape {
            [out, input, 1, 1] if self.squeezed => *shape = vec![out, input],
            [out, height, width, input] if self.transposed => *shape = vec![out, input, height, width],
            _ => {}
        }
    }
}

/// A tensor as a file of some dialect has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileTensor {
    /// Its name in the file.
    pub name: String,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// The canonical tensors whose rows it stacks, in order.
    pub made_of: Vec<String>,
}

impl Rule {
    /// Canonical to file.
    fn forwards(&self, place: Place) -> Place {
        let name = &place.name;
        let renamed = match self {
            Rule::Prefix { canonical, file } => begin(name, canonical, file),
            Rule::Rename { canonical, file } | Rule::Squeeze { canonical, file } => inside(name, canonical, file),
            Rule::ReverseIndex { canonical, file, last } => reversed(name, canonical, file, *last),
            Rule::SplitRows { canonical, file } => {
                let found = canonical.iter().enumerate();
                let found = found.filter_map(|(part, canonical)| Some((part, inside(name, canonical, file)?))).next();
                let of = canonical.len();
                let stacked = |(part, name)| Place { name, rows: Some(Rows { part, of }), ..place.clone() };
                return found.map_or_else(|| place.clone(), stacked);
            }
            Rule::Transpose => return Place { transposed: true, ..place },
        };
        self.renamed(renamed, place)
    }

    /// File to canonical; the fused tensor of a [`Rule::SplitRows`] becomes several.
    fn backwards(&self, place: Place) -> Vec<Place> {
        let name = &place.name;
        let renamed = match self {
            Rule::Prefix { canonical, file } => begin(name, file, canonical),
            Rule::Rename { canonical, file } | Rule::Squeeze { canonical, file } => inside(name, file, canonical),
            Rule::ReverseIndex { canonical, file, last } => reversed(name, file, canonical, *last),
            Rule::SplitRows { canonical, file } => {
                let part = |(part, word): (usize, &&str)| {
                    let rows = Some(Rows { part, of: canonical.len() });
                    inside(name, file, word).map(|name| Place { name, rows, ..place.clone() })
                };
                let parts: Vec<Place> = canonical.iter().enumerate().filter_map(part).collect();
                return if parts.is_empty() { vec![place] } else { parts };
            }
            Rule::Transpose => return vec![Place { transposed: true, ..place }],
        };
        vec![self.renamed(renamed, place)]
    }

    /// The place under its new name, if it got one.
    fn renamed(&self, name: Option<String>, place: Place) -> Place {
        let squeezed = place.squeezed || matches!(self, Rule::Squeeze { .. });
        match name {
            Some(name) => Place { name, squeezed, ..place },
            None => place,
        }
    }
}

/// Where a canonical tensor lies in a file of this dialect.
pub fn place(rules: &[Rule], canonical: &str) -> Place {
    let start = Place { name: canonical.to_owned(), ..Place::default() };
    rules.iter().fold(start, |place, rule| rule.forwards(place))
}

/// The canonical tensors that a file's tensor is made of: the inverse of [`place`].
pub fn origins(rules: &[Rule], file: &str) -> Vec<Place> {
    let start = vec![Place { name: file.to_owned(), ..Place::default() }];
    rules.iter().rev().fold(start, |places, rule| places.into_iter().flat_map(|place| rule.backwards(place)).collect())
}

/// All tensors of a file of this dialect, in the order in which the schema first needs them.
pub fn layout(rules: &[Rule], specs: &[TensorSpec]) -> Vec<FileTensor> {
    let mut tensors: Vec<FileTensor> = Vec::new();
    for spec in specs {
        let place = place(rules, &spec.name);
        let mut shape = spec.shape.clone();
        place.to_file(&mut shape);
        let stacked = tensors.iter_mut().find(|tensor| place.rows.is_some() && tensor.name == place.name);
        match stacked {
            Some(tensor) => {
                tensor.shape[0] += shape[0];
                tensor.made_of.push(spec.name.clone());
            }
            None => tensors.push(FileTensor { name: place.name, shape, made_of: vec![spec.name.clone()] }),
        }
    }
    tensors
}

/// `name` with `to` for the `from` that it begins with.
fn begin(name: &str, from: &str, to: &str) -> Option<String> {
    name.strip_prefix(from).map(|rest| format!("{to}{rest}"))
}

/// `name` with `to` for the first `from` in it.
fn inside(name: &str, from: &str, to: &str) -> Option<String> {
    name.contains(from).then(|| name.replacen(from, to, 1))
}

/// `from` and a number, as `to` and the number counted from the other end.
fn reversed(name: &str, from: &str, to: &str, last: usize) -> Option<String> {
    let (number, rest) = name.strip_prefix(from)?.split_once('.')?;
    let number = last.checked_sub(number.parse().ok()?)?;
    Some(format!("{to}{number}.{rest}"))
}

#[cfg(test)]
mod tests;
