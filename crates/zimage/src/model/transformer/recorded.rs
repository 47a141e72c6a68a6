//! A pass through the transformer that a device records once and repeats for other steps of the same loop.
//!
//! From step to step only the latents and the time change. So a recording begins with these, the time as its features, and
//! goes on to the velocities; all else is read where it lies: weights, the captions' tokens and rotary tables.

use super::{Caption, Lane, Output, Passed, Transformer};
use crate::Result;
use std::sync::Arc;
use zimage_tensor::{Recorded, Tensor};

/// A recorded pass, and what it reads.
pub struct RecordedPass {
    // Dropped first.
    recorded: Recorded<Vec<Passed>>,
    transformer: Arc<Transformer>,
    _captions: Vec<Arc<Caption>>,
}

impl RecordedPass {
    /// Records a pass with a lane for each caption, all of the same latents, which are like these; the main layers run in
    /// each. `None` where the device records nothing, or the weights come and go; and, with a warning, where it could not
    /// record them: passes can be made as before.
    ///
    /// The same pass must have been made once before, so that the weights are there.
    pub fn new(transformer: &Arc<Transformer>, captions: Vec<Arc<Caption>>, latents: &Tensor) -> Option<RecordedPass> {
        if !transformer.stays() {
            return None;
        }
        let recorded = transformer.record(&captions, latents);
        if let Err(error) = &recorded {
            tracing::warn!("the steps are taken without a recording: {error}");
        }
        let transformer = transformer.clone();
        Some(RecordedPass { recorded: recorded.ok().flatten()?, transformer, _captions: captions })
    }

    /// What [`Transformer::forward`] gives for these lanes with other latents at time `t`, to the bit; `None` when the
    /// device has given the recording up for its memory.
    ///
    /// # Errors
    /// For each lane, those of [`Transformer::forward`].
    pub fn forward(&self, latents: &Tensor, t: f32) -> Result<Option<Vec<Result<Output>>>> {
        let Transformer { device, t_embedder, .. } = &*self.transformer;
        let features = t_embedder.features(t, device)?;
        let Some(passed) = self.recorded.run(&[latents, &features]) else { return Ok(None) };
        let output = |Passed { output, watch }: &Passed| {
            watch.finish(device)?;
            // The next run writes the velocity anew.
            Ok(Output { velocity: output.velocity.on(device), residual: None })
        };
        Ok(Some(passed.iter().map(output).collect()))
    }
}

impl Transformer {
    fn record(&self, captions: &[Arc<Caption>], latents: &Tensor) -> Result<Option<Recorded<Vec<Passed>>>> {
        let features = self.t_embedder.features(0.0, &self.device)?;
        self.device.record(&[latents, &features], |inputs| {
            let [latents, features] = inputs else { panic!("two inputs: this is a bug") };
            let time = self.condition(features);
            let lanes: Vec<Lane<'_>> = captions.iter().map(|caption| Lane::new(latents, caption, &time)).collect();
            self.pass(&lanes).into_iter().collect()
        })
    }
}
