//! Random weights in memory, for measurements of speed without files.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use zimage_kernels::blocks::{Format, Layout};

use super::noise;
use crate::convert::Target;
use crate::convert::encode::Encoded;
use crate::convert::precision::{Policy, Precision, Reach};
use crate::schema::{Component, TensorSpec};
use crate::{Error, Result, WeightView};

/// Rows that are made; larger matrices repeat them, since no kernel can tell.
const ROWS: usize = 64;

/// The random weights of a component. Tensors of one shape and role share their bytes, so that a model of billions of
/// parameters takes the memory of one of its blocks.
#[derive(Debug)]
pub struct RandomWeights {
    component: Component,
    specs: BTreeMap<String, TensorSpec>,
    policy: Policy,
    made: Mutex<BTreeMap<Kind, [Bytes; 3]>>,
}

/// Shape, and layout with role: what decides the bytes of a tensor.
type Kind = (Vec<usize>, String);

impl RandomWeights {
    /// Weights of these names and shapes, stored as `convert` would store them in files of MLX or, for its formats, of
    /// GGUF; the text encoder too.
    pub fn new(component: Component, specs: Vec<TensorSpec>, precision: Precision) -> RandomWeights {
        let target = if let Precision::Blocks(_) = precision { Target::Gguf } else { Target::Mlx };
        let policy = Policy { target, precision, reach: Reach { text_encoder: true, embedders: false } };
        let specs = specs.into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        RandomWeights { component, specs, policy, made: Mutex::default() }
    }

    /// Which component this is.
    pub fn component(&self) -> Component {
        self.component
    }

    /// A tensor by its canonical name, or [`Error::NoTensor`].
    pub fn tensor(&self, name: &str) -> Result<WeightView> {
        let missing = || Error::NoTensor { file: "random weights".into(), tensor: name.into() };
        let spec = self.specs.get(name).ok_or_else(missing)?;
        let layout = self.policy.layout(self.component, spec, Layout::Rows(Format::BF16));
        let (rows, cols) = matrix_of(spec);
        let key = (spec.shape.clone(), format!("{layout} {:?}", spec.role));
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let [values, scales, biases] = match made.get(&key) {
            Some(planes) => planes.clone(),
            None => made.entry(key).or_insert(planes(spec, layout, rows, cols)?).clone(),
        };
        let (name, shape) = (spec.name.clone(), spec.shape.clone());
        Ok(WeightView { name, shape, layout, values, scales, biases, factor: 1.0, stored_rows: rows, rows: 0..rows })
    }
}

/// A tensor as the matrix that [`WeightView::matrix`] is of.
fn matrix_of(spec: &TensorSpec) -> (usize, usize) {
    let cols = spec.shape.last().copied().unwrap_or(1);
    (spec.elements() / cols.max(1), cols)
}

/// The bytes of a matrix: some random rows, again and again.
fn planes(spec: &TensorSpec, layout: Layout, rows: usize, cols: usize) -> Result<[Bytes; 3]> {
    let some = rows.min(ROWS);
    let encoded = Encoded::of(layout, cols, &noise::values(spec, 0, some * cols))?;
    let whole = layout.plane_bytes(rows, cols);
    let repeated =
        |plane: &[u8], len: usize| -> Bytes { plane.iter().copied().cycle().take(len).collect::<Vec<u8>>().into() };
    Ok([repeated(&encoded.values, whole[0]), repeated(&encoded.scales, whole[1]), repeated(&encoded.biases, whole[2])])
}
