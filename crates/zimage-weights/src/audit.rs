//! Compares the tensors that a component must have with those that a file has.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::schema::TensorSpec;

/// Beyond this many pairs of an unknown and a known name the file is another model, and the search for the nearest names
/// would only take time: a small file can name a thousand layers, and a thousand names that none of them has.
const MAX_PAIRS: usize = 30_000;

/// Everything that does not fit, and how much does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Tensors that the model has.
    pub expected: usize,
    /// Those of them that the file has in the right shape.
    pub matched: usize,
    /// Those that the file does not have.
    pub missing: Vec<String>,
    /// Tensors of the file that the model does not have.
    pub unknown: Vec<Unknown>,
    /// Tensors in another shape.
    pub misshapen: Vec<Misshapen>,
}

/// A tensor of the file that the model does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// Its name.
    pub name: String,
    /// The most similar name of the model, where one is similar at all.
    pub nearest: Option<String>,
}

/// A tensor in another shape than the model's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Misshapen {
    /// Its name.
    pub name: String,
    /// Shape that the config asks for.
    pub expected: Vec<usize>,
    /// Shape in the file.
    pub found: Vec<usize>,
}

impl Audit {
    /// Compares `specs` with the canonical names and shapes of a file. A name that comes twice counts as unknown.
    pub fn compare<'a>(specs: &[TensorSpec], found: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Self {
        let known: BTreeMap<&str, &[usize]> = specs.iter().map(|spec| (&*spec.name, &*spec.shape)).collect();
        let mut audit = Audit { expected: specs.len(), ..Audit::default() };
        let mut seen: BTreeMap<&str, ()> = BTreeMap::new();
        let mut unknown = Vec::new();
        for (name, shape) in found {
            match known.get(name) {
                Some(_) if seen.insert(name, ()).is_some() => unknown.push(name),
                Some(&expected) if expected == shape => audit.matched += 1,
                Some(&expected) => audit.misshapen.push(Misshapen {
                    name: name.to_owned(),
                    expected: expected.to_vec(),
                    found: shape.to_vec(),
                }),
                None => unknown.push(name),
            }
        }
        let missing = specs.iter().map(|spec| spec.name.as_str()).filter(|name| !seen.contains_key(name));
        audit.missing = missing.map(str::to_owned).collect();
        let search = unknown.len().saturating_mul(known.len()) <= MAX_PAIRS;
        let nearest = |name: &str| if search { audit.nearest(name, &known) } else { None };
        let unknown = unknown.into_iter().map(|name| Unknown { name: name.to_owned(), nearest: nearest(name) });
        audit.unknown = unknown.collect();
        audit
    }

    /// True where everything fits.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.unknown.is_empty() && self.misshapen.is_empty()
    }

    /// True where exactly these tensors are missing and all others fit.
    pub(crate) fn lacks_only(&self, names: &[&str]) -> bool {
        self.missing == names && self.unknown.is_empty() && self.misshapen.is_empty()
    }

    /// The known name most similar to `name`. Missing names come first: a renamed tensor is missing under its right name.
    fn nearest(&self, name: &str, known: &BTreeMap<&str, &[usize]>) -> Option<String> {
        let missing = most_similar(name, self.missing.iter().map(String::as_str));
        missing.or_else(|| most_similar(name, known.keys().copied())).map(str::to_owned)
    }
}

/// The candidate at the smallest edit distance, if that is at most a third of the name.
pub(crate) fn most_similar<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = name.len().min(200) / 3;
    candidates
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= limit)
        .map(|candidate| (strsim::levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} tensors matched", self.matched, self.expected)?;
        for name in &self.missing {
            write!(f, "\n  missing {name}")?;
        }
        for Unknown { name, nearest } in &self.unknown {
            write!(f, "\n  unknown {name}")?;
            if let Some(nearest) = nearest {
                write!(f, ", the nearest known name is {nearest}")?;
            }
        }
        for Misshapen { name, expected, found } in &self.misshapen {
            write!(f, "\n  misshapen {name}: expected {expected:?}, found {found:?}")?;
        }
        Ok(())
    }
}
