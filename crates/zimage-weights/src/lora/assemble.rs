//! From the tensors of a file to the deltas of a model's layers.

use std::collections::{BTreeMap, BTreeSet};

use super::delta::{Delta, Factor, Magnitude, Matrix, Product};
use super::key::{self, Part};
use super::metadata::Settings;
use super::names::{Dictionary, Target};
use super::report::{Misfit, Report, Unmatched, model_of};
use super::{LoraProblem, apply};
use crate::container::SafeTensors;
use crate::schema::{Component, TensorSpec};
use crate::{Error, Result};

/// Beyond this many unknown modules the file is of another model, and looking for near names would only take time.
const MAX_NEAREST: usize = 100;

pub(super) type Deltas = BTreeMap<(Component, String), Delta>;

/// Reads all deltas that fit; what does not is in the report.
pub(super) fn read(
    file: &SafeTensors,
    settings: &Settings,
    transformer: &[TensorSpec],
    text_encoder: &[TensorSpec],
) -> Result<(Deltas, Report)> {
    let dictionary = Dictionary::new(transformer, text_encoder);
    let reader = Reader { file, settings, dictionary: &dictionary };
    reader.read().map_err(|fault| match fault {
        Fault::Problem(problem) => Error::Lora { file: file.label().to_owned(), problem: Box::new(problem) },
        Fault::File(error) => error,
    })
}

/// What stops the reading: something about the adapter, or about the file.
enum Fault {
    Problem(LoraProblem),
    File(Error),
}

impl From<LoraProblem> for Fault {
    fn from(problem: LoraProblem) -> Fault {
        Fault::Problem(problem)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::File(error)
    }
}

/// The tensors of one module, by what they are of it.
#[derive(Default)]
struct Module<'a> {
    name: &'a str,
    parts: BTreeMap<Part, &'a str>,
}

/// A module of the model, and its layers.
struct Found<'a> {
    module: Module<'a>,
    layers: Vec<usize>,
    canonical: bool,
}

struct Reader<'a> {
    file: &'a SafeTensors,
    settings: &'a Settings,
    dictionary: &'a Dictionary,
}

impl<'a> Reader<'a> {
    fn read(&self) -> Result<(Deltas, Report), Fault> {
        let mut report = Report { notes: self.settings.notes.clone(), ..Report::default() };
        let mut found = self.found(&mut report)?;
        // The model's own names first: what is left of the others says the same once more.
        found.sort_by_key(|found| (found.layers.len() > 1, !found.canonical, found.module.name));
        let mut deltas = Deltas::new();
        let mut kinds = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for Found { module, layers, .. } in found {
            if layers.iter().any(|layer| taken.contains(layer)) {
                report.redundant.push(module.name.to_owned());
                continue;
            }
            taken.extend(layers.iter().copied());
            kinds.insert(module.kind()?.describe(module.parts.contains_key(&Part::Magnitude)));
            self.add(&module, &layers, &mut deltas, &mut report)?;
        }
        // A file that leaves the text encoder alone is measured by the transformer.
        let touched = |component| deltas.keys().any(|(of, _)| *of == component) || component == Component::Transformer;
        report.layers = self.dictionary.layers.iter().filter(|layer| touched(layer.component)).count();
        report.kinds = kinds.into_iter().map(str::to_owned).collect();
        report.ranks.sort_unstable();
        report.ranks.dedup();
        report.alphas.sort_by(f64::total_cmp);
        report.alphas.dedup();
        Ok((deltas, report))
    }

    /// The modules that the model has; the others go to the report.
    fn found(&self, report: &mut Report) -> Result<Vec<Found<'a>>, Fault> {
        let (modules, strangers) = self.modules()?;
        let mut found = Vec::new();
        let mut unmatched: Vec<&str> = Vec::new();
        for (name, module) in modules {
            match self.dictionary.find(name) {
                Some(Target::Layers { layers, canonical }) => {
                    module.refuse_unsupported()?;
                    found.push(Found { module, layers: layers.clone(), canonical: *canonical });
                }
                Some(Target::Other) => {
                    let tensor = module.parts.values().next().copied().unwrap_or(name).to_owned();
                    let what = "a change of something that is no linear layer".to_owned();
                    return Err(LoraProblem::Unsupported { tensor, what }.into());
                }
                None => unmatched.push(name),
            }
        }
        let near = unmatched.len() <= MAX_NEAREST;
        let nearest = |name: &str| self.dictionary.nearest(name).filter(|_| near).map(str::to_owned);
        let entry = |name: &str| Unmatched { module: name.to_owned(), nearest: nearest(name), of: model_of(name) };
        report.unmatched = unmatched.into_iter().map(entry).collect();
        let entry = |name: &&str| Unmatched { module: (*name).to_owned(), nearest: None, of: None };
        report.unmatched.extend(strangers.iter().map(entry));
        Ok(found)
    }

    /// The tensors by modules, and those that are no adapter's.
    fn modules(&self) -> Result<(BTreeMap<&'a str, Module<'a>>, Vec<&'a str>), Fault> {
        let mut modules: BTreeMap<&str, Module> = BTreeMap::new();
        let mut strangers = Vec::new();
        for (key, _) in self.file.iter() {
            let Some((name, part)) = key::split(key) else {
                strangers.push(key);
                continue;
            };
            let module = modules.entry(name).or_default();
            module.name = name;
            if let Some(first) = module.parts.insert(part, key)
                && !matches!(part, Part::Unsupported(_))
            {
                return Err(LoraProblem::Twice { first: first.to_owned(), second: key.to_owned() }.into());
            }
        }
        if modules.is_empty() {
            let first = strangers.first().map_or_else(|| "none".to_owned(), |name| (*name).to_owned());
            return Err(LoraProblem::NoAdapter { first, count: strangers.len() }.into());
        }
        Ok((modules, strangers))
    }

    /// Reads one module into the deltas of its layers.
    fn add(&self, module: &Module, layers: &[usize], deltas: &mut Deltas, report: &mut Report) -> Result<(), Fault> {
        let layers: Vec<_> = layers.iter().map(|&at| &self.dictionary.layers[at]).collect();
        let first = layers.first().expect("a target has layers: this is a bug");
        let expected = [layers.iter().map(|layer| layer.out).sum(), first.cols];
        let rank = self.rank(module)?;
        report.ranks.extend(rank);
        let scale = self.scale(module, first.component, rank, report)?;
        for layer in &layers {
            report.count_target(layer.component, &layer.name);
        }
        let found = self.size(module)?;
        if found != expected {
            report.misfits.push(Misfit { module: module.name.to_owned(), expected, found });
            return Ok(());
        }
        let product = self.product(module, expected)?;
        let magnitude = self.magnitude(module, expected, layers.len() > 1)?;
        let whole = Delta { product, scale, magnitude, out: expected[0], cols: expected[1] };
        let mut start = 0;
        for layer in layers {
            deltas.insert((layer.component, layer.name.clone()), whole.cut(start..start + layer.out));
            start += layer.out;
            report.matched += 1;
        }
        Ok(())
    }

    /// `alpha / rank`; 1 where no alpha is given, or where nothing has a rank.
    fn scale(&self, m: &Module, component: Component, rank: Option<usize>, report: &mut Report) -> Result<f32, Fault> {
        let kohya = m.parts.values().all(|key| !key.contains(".lora_A") && !key.contains(".lora_B"));
        let stored = match m.parts.get(&Part::Alpha) {
            Some(key) => Some(self.number(key)?),
            None => None,
        };
        // A difference that is stored whole has nothing to divide by.
        let Some(rank) = rank else { return Ok(1.0) };
        let (alpha, scale) = match stored {
            Some(alpha) => (alpha, alpha / rank as f64),
            None => match self.settings.scale(component, m.name, rank, kohya) {
                Some(scale) => scale,
                None => return Ok(1.0),
            },
        };
        report.alphas.push(alpha);
        match scale as f32 {
            finite if finite.is_finite() => Ok(finite),
            _ => {
                let reason = format!("the alpha {alpha} scales {} beyond all numbers", m.name);
                Err(LoraProblem::Setting { key: "alpha".to_owned(), reason }.into())
            }
        }
    }

    /// The rank that alpha is divided by: of a LoKr the last product's, as in diffusers and ComfyUI.
    fn rank(&self, module: &Module) -> Result<Option<usize>, Fault> {
        let key = [Part::Down, Part::Hada1B, Part::W2B, Part::W1B].iter().find_map(|part| module.parts.get(part));
        let Some(key) = key else { return Ok(None) };
        let [rank, _] = self.shape(key)?;
        Ok(Some(rank))
    }

    /// `(out, in)` of the module, from shapes alone: nothing is computed for a module that does not fit.
    fn size(&self, m: &Module) -> Result<[usize; 2], Fault> {
        let times = |a: usize, b: usize| a.saturating_mul(b);
        Ok(match m.kind()? {
            Kind::LowRank => self.pair_size(m, Part::Up, Part::Down)?,
            Kind::Hadamard => {
                let (one, two) =
                    (self.pair_size(m, Part::Hada1A, Part::Hada1B)?, self.pair_size(m, Part::Hada2A, Part::Hada2B)?);
                if one != two {
                    let (tensor, expected) = (m.key(Part::Hada2A)?.to_owned(), format!("the {one:?} of its twin"));
                    return Err(LoraProblem::Shape { tensor, found: two.to_vec(), expected }.into());
                }
                one
            }
            Kind::Kronecker => {
                let [a, c] = self.factor_size(m, Part::W1, Part::W1A, Part::W1B)?;
                let [b, d] = self.factor_size(m, Part::W2, Part::W2A, Part::W2B)?;
                // A first factor in parts is multiplied out, which only the smaller of two is small enough for.
                if !m.parts.contains_key(&Part::W1) && times(a, c) > times(b, d) {
                    let expected = format!("a product no larger than the second factor's [{b}, {d}]");
                    return Err(LoraProblem::Shape {
                        tensor: m.key(Part::W1A)?.to_owned(),
                        found: vec![a, c],
                        expected,
                    }
                    .into());
                }
                [times(a, b), times(c, d)]
            }
            Kind::Whole => self.shape(m.key(Part::Diff)?)?,
        })
    }

    fn factor_size(&self, m: &Module, whole: Part, a: Part, b: Part) -> Result<[usize; 2], Fault> {
        match m.parts.get(&whole) {
            Some(key) => self.shape(key),
            None => self.pair_size(m, a, b),
        }
    }

    /// The size of the product of two parts, whose inner sizes must agree.
    fn pair_size(&self, m: &Module, left: Part, right: Part) -> Result<[usize; 2], Fault> {
        let (left, right) = (m.key(left)?, m.key(right)?);
        let ([out, inner], [rank, cols]) = (self.shape(left)?, self.shape(right)?);
        if inner == rank && rank > 0 {
            return Ok([out, cols]);
        }
        let expected =
            if rank == 0 { "a rank above 0".to_owned() } else { format!("{rank} columns, as {right} has rows") };
        let tensor = if rank == 0 { right } else { left };
        let found = if rank == 0 { vec![rank, cols] } else { vec![out, inner] };
        Err(LoraProblem::Shape { tensor: tensor.to_owned(), found, expected }.into())
    }

    fn product(&self, m: &Module, [out, cols]: [usize; 2]) -> Result<Product, Fault> {
        let matrix = |part| m.key(part).map_err(Fault::from).and_then(|key| self.matrix(key));
        Ok(match m.kind()? {
            Kind::LowRank => Product::LowRank { down: matrix(Part::Down)?, up: matrix(Part::Up)? },
            Kind::Hadamard => {
                let [a1, b1, a2, b2] =
                    [matrix(Part::Hada1A)?, matrix(Part::Hada1B)?, matrix(Part::Hada2A)?, matrix(Part::Hada2B)?];
                hadamard(&a1, &b1, &a2, &b2, out, cols)
            }
            Kind::Kronecker => {
                let w1 = match m.parts.contains_key(&Part::W1) {
                    true => matrix(Part::W1)?,
                    false => {
                        let factor = Factor::Pair { down: matrix(Part::W1B)?, up: matrix(Part::W1A)? };
                        Matrix::from_values(factor.rows(), factor.cols(), &factor.values())
                    }
                };
                let w2 = match m.parts.contains_key(&Part::W2) {
                    true => Factor::Whole(matrix(Part::W2)?),
                    false => Factor::Pair { down: matrix(Part::W2B)?, up: matrix(Part::W2A)? },
                };
                Product::Kronecker { w1, w2, skip: 0 }
            }
            Kind::Whole => whole(matrix(Part::Diff)?),
        })
    }

    fn magnitude(&self, m: &Module, [out, cols]: [usize; 2], fused: bool) -> Result<Option<Magnitude>, Fault> {
        let Some(key) = m.parts.get(&Part::Magnitude) else { return Ok(None) };
        let view = self.file.tensor(key)?;
        let shape: Vec<usize> = match &view.shape[..] {
            [size] => vec![*size, 1],
            [first, second, rest @ ..] if rest.iter().all(|axis| *axis == 1) => vec![*first, *second],
            other => other.to_vec(),
        };
        let values = self.stored(key, &[shape.iter().product(), 1])?.values();
        match shape[..] {
            [rows, 1] if rows == out => Ok(Some(Magnitude::Rows(values))),
            [1, columns] if columns == cols && !fused => Ok(Some(Magnitude::Columns(values))),
            [1, columns] if columns == cols => {
                let what = "a DoRA over the columns of queries, keys and values together".to_owned();
                Err(LoraProblem::Unsupported { tensor: (*key).to_owned(), what }.into())
            }
            _ => {
                let expected = format!("[{out}], [{out}, 1] or [1, {cols}]");
                Err(LoraProblem::Shape { tensor: (*key).to_owned(), found: view.shape, expected }.into())
            }
        }
    }

    /// Rows and columns of a stored matrix; convolutions of one pixel are matrices too.
    fn shape(&self, key: &str) -> Result<[usize; 2], Fault> {
        let shape = &self.file.tensor(key)?.shape;
        match shape[..] {
            [rows, cols] | [rows, cols, 1] | [rows, cols, 1, 1] => Ok([rows, cols]),
            _ => {
                let expected = "a matrix, or a convolution of one pixel".to_owned();
                Err(LoraProblem::Shape { tensor: key.to_owned(), found: shape.clone(), expected }.into())
            }
        }
    }

    fn matrix(&self, key: &str) -> Result<Matrix, Fault> {
        let shape = self.shape(key)?;
        self.stored(key, &shape)
    }

    /// A tensor's values as a matrix of this shape, in the file's format where the kernels read it; all finite.
    fn stored(&self, key: &str, &[rows, cols]: &[usize; 2]) -> Result<Matrix, Fault> {
        let view = self.file.tensor(key)?;
        let matrix = match view.dtype.format() {
            Some(format) if format.block_len() == 1 => Matrix { rows, cols, format, bytes: view.data },
            _ if view.dtype == crate::Dtype::F64 => {
                let double = |bytes: &[u8; 8]| f64::from_le_bytes(*bytes) as f32;
                let values: Vec<f32> = view.data.as_chunks::<8>().0.iter().map(double).collect();
                Matrix::from_values(rows, cols, &values)
            }
            _ => return Err(LoraProblem::Dtype { tensor: key.to_owned(), dtype: view.dtype.name() }.into()),
        };
        match matrix.values().iter().position(|value| !value.is_finite()) {
            None => Ok(matrix),
            Some(index) => Err(LoraProblem::NonFinite { tensor: key.to_owned(), index }.into()),
        }
    }

    /// The one value of an alpha.
    fn number(&self, key: &str) -> Result<f64, Fault> {
        let view = self.file.tensor(key)?;
        if view.shape.iter().product::<usize>() != 1 {
            let expected = "one number".to_owned();
            return Err(LoraProblem::Shape { tensor: key.to_owned(), found: view.shape, expected }.into());
        }
        // Some trainers store it as a whole number.
        Ok(match (view.dtype, &view.data[..]) {
            (crate::Dtype::I64, &[a, b, c, d, e, f, g, h]) => i64::from_le_bytes([a, b, c, d, e, f, g, h]) as f64,
            (crate::Dtype::I32, &[a, b, c, d]) => f64::from(i32::from_le_bytes([a, b, c, d])),
            _ => f64::from(self.stored(key, &[1, 1])?.values()[0]),
        })
    }
}

/// How a module's tensors make its difference.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    LowRank,
    Hadamard,
    Kronecker,
    Whole,
}

impl Kind {
    fn describe(self, dora: bool) -> &'static str {
        match (self, dora) {
            (Kind::LowRank, false) => "LoRA",
            (Kind::LowRank, true) => "LoRA with DoRA",
            (Kind::Hadamard, false) => "LoHa",
            (Kind::Hadamard, true) => "LoHa with DoRA",
            (Kind::Kronecker, false) => "LoKr",
            (Kind::Kronecker, true) => "LoKr with DoRA",
            (Kind::Whole, false) => "full difference",
            (Kind::Whole, true) => "full difference with DoRA",
        }
    }
}

impl<'a> Module<'a> {
    fn key(&self, part: Part) -> Result<&'a str, LoraProblem> {
        self.parts.get(&part).copied().ok_or_else(|| LoraProblem::Incomplete {
            module: self.name.to_owned(),
            found: self.parts.values().copied().collect::<Vec<_>>().join(", "),
            missing: match part {
                Part::Down => "lora_A or lora_down",
                Part::Up => "lora_B or lora_up",
                Part::W1 | Part::W1A => "lokr_w1_a",
                Part::W1B => "lokr_w1_b",
                Part::W2 | Part::W2A => "lokr_w2_a",
                Part::W2B => "lokr_w2_b",
                Part::Hada1A => "hada_w1_a",
                Part::Hada1B => "hada_w1_b",
                Part::Hada2A => "hada_w2_a",
                Part::Hada2B => "hada_w2_b",
                Part::Alpha | Part::Magnitude | Part::Diff | Part::Unsupported(_) => "weights of its own",
            },
        })
    }

    /// What the parts are parts of; two kinds in one module would not say how they go together.
    fn kind(&self) -> Result<Kind, LoraProblem> {
        let of = |part: &Part| match part {
            Part::Down | Part::Up => Some(Kind::LowRank),
            Part::W1 | Part::W1A | Part::W1B | Part::W2 | Part::W2A | Part::W2B => Some(Kind::Kronecker),
            Part::Hada1A | Part::Hada1B | Part::Hada2A | Part::Hada2B => Some(Kind::Hadamard),
            Part::Diff => Some(Kind::Whole),
            Part::Alpha | Part::Magnitude | Part::Unsupported(_) => None,
        };
        let mut kinds = self.parts.iter().filter_map(|(part, key)| Some((of(part)?, *key)));
        let Some((first, _)) = kinds.next() else {
            return Err(self.key(Part::Diff).expect_err("it has no difference: this is a bug"));
        };
        match kinds.find(|(kind, _)| *kind != first) {
            None => Ok(first),
            Some((_, key)) => {
                let what = format!("a second kind of adapter for {}", self.name);
                Err(LoraProblem::Unsupported { tensor: key.to_owned(), what })
            }
        }
    }

    fn refuse_unsupported(&self) -> Result<(), LoraProblem> {
        for (part, key) in &self.parts {
            if let Part::Unsupported(what) = part {
                return Err(LoraProblem::Unsupported { tensor: (*key).to_owned(), what: (*what).to_owned() });
            }
        }
        Ok(())
    }
}

/// A difference as a Kronecker product of one block.
fn whole(matrix: Matrix) -> Product {
    Product::Kronecker { w1: Matrix::from_values(1, 1, &[1.0]), w2: Factor::Whole(matrix), skip: 0 }
}

/// `(a1 b1) * (a2 b2)`, value by value: exactly one low-rank pair, whose columns and rows are all products of theirs
/// (Khatri-Rao). Where that has more numbers than the matrix itself, the matrix.
fn hadamard(a1: &Matrix, b1: &Matrix, a2: &Matrix, b2: &Matrix, out: usize, cols: usize) -> Product {
    let (r1, r2) = (b1.rows(), b2.rows());
    let rank = r1.saturating_mul(r2);
    if rank.saturating_mul(out + cols) > out * cols {
        let product = |a: &Matrix, b: &Matrix, rank| {
            let mut values = vec![0.0; out * cols];
            apply::add_matmul(&mut values, &a.values(), &b.values(), out, rank, cols);
            values
        };
        let (one, two) = (product(a1, b1, r1), product(a2, b2, r2));
        let values: Vec<f32> = one.iter().zip(&two).map(|(a, b)| a * b).collect();
        return whole(Matrix::from_values(out, cols, &values));
    }
    let (a1, b1, a2, b2) = (a1.values(), b1.values(), a2.values(), b2.values());
    let mut up = Vec::with_capacity(out * rank);
    for row in 0..out {
        let (left, right) = (&a1[row * r1..(row + 1) * r1], &a2[row * r2..(row + 1) * r2]);
        up.extend(left.iter().flat_map(|a| right.iter().map(move |b| a * b)));
    }
    let mut down = Vec::with_capacity(rank * cols);
    for left in b1.chunks_exact(cols) {
        for right in b2.chunks_exact(cols) {
            down.extend(left.iter().zip(right).map(|(a, b)| a * b));
        }
    }
    Product::LowRank { down: Matrix::from_values(rank, cols, &down), up: Matrix::from_values(out, rank, &up) }
}
