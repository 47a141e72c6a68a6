//! A model with adapters in its weights, computed while it is written.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::Adapter;
use crate::Result;
use crate::convert::{Model, Opened};
use crate::open::{Checkpoint, WeightView};
use crate::schema::Component;

/// A model whose weights have taken adapters in.
pub struct Fused {
    base: Opened,
    adapters: Vec<(Arc<Adapter>, f32)>,
    /// The last weight that was computed: its rows are asked for in several runs.
    last: Mutex<Option<Weight>>,
}

/// A weight with the adapters in it.
struct Weight {
    component: Component,
    name: String,
    values: Vec<f32>,
}

impl Fused {
    /// The model `base` with these adapters, each as strong as its weight says.
    pub fn new(base: Opened, adapters: Vec<(Arc<Adapter>, f32)>) -> Self {
        Self { base, adapters, last: Mutex::new(None) }
    }

    /// A weight with its adapters, which are added as the side branches of a running model are, each to the weight as it
    /// was. All rows at once: the lengths that some adapters need are those of whole columns.
    fn computed(&self, component: Component, name: &str) -> Result<Vec<f32>> {
        let view = self.base.stored(component, name)?;
        let (base, cols) = (view.decode(), view.cols());
        let mut sum = base.clone();
        for (layer, adapter, weight) in self.of(component, name) {
            let mut changed = base.clone();
            adapter.add_to(component, layer, weight, 0..base.len() / cols, &mut changed)?;
            let changes = changed.iter().zip(&base).map(|(changed, base)| changed - base);
            sum.iter_mut().zip(changes).for_each(|(value, change)| *value += change);
        }
        Ok(sum)
    }

    /// The adapters that change a tensor, and the layer whose weight it is.
    fn of<'a>(&'a self, component: Component, name: &'a str) -> impl Iterator<Item = (&'a str, &'a Adapter, f32)> {
        let layer = name.strip_suffix(".weight").unwrap_or(name);
        let acting = self.adapters.iter().filter(|(_, weight)| *weight != 0.0);
        acting
            .filter(move |(adapter, _)| layer != name && adapter.delta(component, layer).is_some())
            .map(move |(adapter, weight)| (layer, &**adapter, *weight))
    }
}

impl Model for Fused {
    fn checkpoint(&self) -> &Checkpoint {
        self.base.checkpoint()
    }

    fn stored(&self, component: Component, name: &str) -> Result<WeightView> {
        self.base.stored(component, name)
    }

    fn is_stored(&self, component: Component, name: &str) -> bool {
        self.of(component, name).next().is_none()
    }

    fn release(&self) {
        self.base.release();
    }

    fn rows(&self, component: Component, name: &str, rows: Range<usize>, dst: &mut [f32]) -> Result<()> {
        if self.is_stored(component, name) {
            return self.base.rows(component, name, rows, dst);
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |weight: &Weight| weight.component == component && weight.name == name;
        // The old one goes before the new one is computed: two would only take memory.
        let weight = match last.take().filter(same) {
            Some(weight) => weight,
            None => Weight { component, name: name.to_owned(), values: self.computed(component, name)? },
        };
        let weight = last.insert(weight);
        let cols = dst.len() / rows.len().max(1);
        dst.copy_from_slice(&weight.values[rows.start * cols..rows.end * cols]);
        Ok(())
    }
}
