//! The tensors of a model that is to be written: those of a checkpoint, or computed from several.

use std::ops::Range;

use crate::open::{Checkpoint, WeightView, Weights};
use crate::schema::Component;
use crate::{Result, TensorSpec};

/// A model by components and canonical names.
pub trait Model: Sync {
    /// Configs, tokenizer and scheduler of the model, and the names and shapes of its tensors.
    fn checkpoint(&self) -> &Checkpoint;

    /// A tensor as a file stores it. One that is computed is shown as the one that it replaces.
    fn stored(&self, component: Component, name: &str) -> Result<WeightView>;

    /// Whether the values of a tensor are those of [`Model::stored`].
    fn is_stored(&self, component: Component, name: &str) -> bool;

    /// Some rows of a tensor as a matrix whose columns are the last axis, into `dst`.
    fn rows(&self, component: Component, name: &str, rows: Range<usize>, dst: &mut [f32]) -> Result<()>;

    /// Lets the system take back the memory of what was read so far.
    fn release(&self);

    /// The tensors of a component, in the order of its schema.
    fn specs(&self, component: Component) -> Vec<TensorSpec> {
        self.checkpoint().specs(component)
    }
}

/// A checkpoint with its weights opened.
#[derive(Clone, Debug)]
pub struct Opened {
    checkpoint: Checkpoint,
    /// In the order of [`Component::ALL`].
    weights: [Weights; 3],
}

impl Opened {
    /// Opens and audits all weights of a checkpoint.
    pub fn new(checkpoint: Checkpoint) -> Result<Self> {
        let [transformer, text_encoder, vae] = Component::ALL;
        let weights = [checkpoint.weights(transformer)?, checkpoint.weights(text_encoder)?, checkpoint.weights(vae)?];
        Ok(Self { checkpoint, weights })
    }

    /// The weights of one component.
    pub fn weights(&self, component: Component) -> &Weights {
        &self.weights[component as usize]
    }
}

impl Model for Opened {
    fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    fn stored(&self, component: Component, name: &str) -> Result<WeightView> {
        self.weights(component).tensor(name)
    }

    fn is_stored(&self, _: Component, _: &str) -> bool {
        true
    }

    fn rows(&self, component: Component, name: &str, rows: Range<usize>, dst: &mut [f32]) -> Result<()> {
        self.stored(component, name)?.matrix().decode_rows(rows, dst);
        Ok(())
    }

    fn release(&self) {
        self.weights.iter().for_each(Weights::release_pages);
    }
}
