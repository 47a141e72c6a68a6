//! A model with adapters in its weights, computed while it is written.

use std::ops::Range;
use std::sync::Arc;

use super::Adapter;
use crate::Result;
use crate::convert::{Model, Opened};
use crate::open::{Checkpoint, WeightView};
use crate::schema::Component;

/// A model whose weights have taken adapters in.
pub struct Fused {
    base: Opened,
    adapters: Vec<(Arc<Adapter>, f32)>,
}

impl Fused {
    /// The model `base` with these adapters, each as strong as its weight says.
    pub fn new(base: Opened, adapters: Vec<(Arc<Adapter>, f32)>) -> Self {
        Self { base, adapters }
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

    /// Adapters are added as the side branches of a running model are, each to the weight as it was.
    fn rows(&self, component: Component, name: &str, rows: Range<usize>, dst: &mut [f32]) -> Result<()> {
        if self.is_stored(component, name) {
            return self.base.rows(component, name, rows, dst);
        }
        // The lengths that some adapters need are those of whole columns, so that all rows are worked on.
        let view = self.base.stored(component, name)?;
        let (base, cols) = (view.decode(), view.cols());
        let mut sum = base.clone();
        for (layer, adapter, weight) in self.of(component, name) {
            let mut changed = base.clone();
            adapter.add_to(component, layer, weight, 0..base.len() / cols, &mut changed)?;
            let changes = changed.iter().zip(&base).map(|(changed, base)| changed - base);
            sum.iter_mut().zip(changes).for_each(|(value, change)| *value += change);
        }
        dst.copy_from_slice(&sum[rows.start * cols..rows.end * cols]);
        Ok(())
    }
}
