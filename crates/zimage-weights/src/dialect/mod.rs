//! Dialects: other names, and other cuts, of the tensors that the schema lists.
//!
//! A dialect is a short table of [`Rule`]s, the exceptions from the canonical (diffusers) names. Read forwards a table
//! says where a canonical tensor lies in a file ([`place`]), read backwards what a file's tensor is ([`origins`]).

pub mod comfyui;
mod naming;

pub(crate) use naming::{Entry, Naming, Reading};

use crate::schema::TensorSpec;

/// One exception. Patterns are whole words with their dots, so that no rule can match half a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Names that begin with `canonical` begin with `file` instead.
    Prefix {
        /// The beginning of the canonical name.
        canonical: &'static str,
        /// The beginning of the file's name.
        file: &'static str,
    },
    /// `canonical` inside a name is `file` instead.
    Rename {
        /// Part of the canonical name.
        canonical: &'static str,
        /// Part of the file's name.
        file: &'static str,
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
        canonical: &'static str,
        /// Part of the file's name.
        file: &'static str,
    },
    /// Like [`Rule::Prefix`], with a number behind it that counts down from `last` in the file.
    ReverseIndex {
        /// The beginning of the canonical name, up to the number.
        canonical: &'static str,
        /// The beginning of the file's name, up to the number.
        file: &'static str,
        /// The highest number, which is 0 in the file.
        last: usize,
    },
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
    fn forwards(self, place: Place) -> Place {
        let (name, rows, squeezed) = (&place.name, place.rows, place.squeezed);
        let renamed = match self {
            Rule::Prefix { canonical, file } => begin(name, canonical, file).map(|name| (name, rows, squeezed)),
            Rule::Rename { canonical, file } => inside(name, canonical, file).map(|name| (name, rows, squeezed)),
            Rule::SplitRows { canonical, file } => canonical.iter().enumerate().find_map(|(part, canonical)| {
                let rows = Rows { part, of: self.parts() };
                inside(name, canonical, file).map(|name| (name, Some(rows), squeezed))
            }),
            Rule::Squeeze { canonical, file } => inside(name, canonical, file).map(|name| (name, rows, true)),
            Rule::ReverseIndex { canonical, file, last } => {
                reversed(name, canonical, file, last).map(|name| (name, rows, squeezed))
            }
        };
        renamed.map_or(place, |(name, rows, squeezed)| Place { name, rows, squeezed })
    }

    /// File to canonical; the fused tensor of a [`Rule::SplitRows`] becomes several.
    fn backwards(self, place: Place) -> Vec<Place> {
        let (name, rows, squeezed) = (&place.name, place.rows, place.squeezed);
        let renamed = match self {
            Rule::Prefix { canonical, file } => begin(name, file, canonical),
            Rule::Rename { canonical, file } | Rule::Squeeze { canonical, file } => inside(name, file, canonical),
            Rule::ReverseIndex { canonical, file, last } => reversed(name, file, canonical, last),
            Rule::SplitRows { canonical, file } => {
                let part = |(part, canonical): (usize, &&str)| {
                    let rows = Some(Rows { part, of: self.parts() });
                    inside(name, file, canonical).map(|name| Place { name, rows, squeezed })
                };
                let parts: Vec<Place> = canonical.iter().enumerate().filter_map(part).collect();
                return if parts.is_empty() { vec![place] } else { parts };
            }
        };
        let squeezed = squeezed || renamed.is_some() && matches!(self, Rule::Squeeze { .. });
        vec![renamed.map_or_else(|| place.clone(), |name| Place { name, rows, squeezed })]
    }

    fn parts(self) -> usize {
        if let Rule::SplitRows { canonical, .. } = self { canonical.len() } else { 1 }
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
        if place.squeezed && shape.len() == 2 {
            shape.extend([1, 1]);
        }
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
