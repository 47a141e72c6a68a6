//! Rather no picture than a black one: looks at what layers give for values that are infinite or not a number.

use crate::{Error, Result};
use zimage_tensor::ops::{self, Finding};
use zimage_tensor::{Device, Tensor};

/// What was looked at in one pass through a stage of the model.
pub(crate) struct Watch {
    stage: &'static str,
    /// Layers whose findings the device tells later.
    open: Vec<(Finding, String)>,
}

impl Watch {
    /// Watches a pass through a stage.
    pub fn new(stage: &'static str) -> Watch {
        Watch { stage, open: Vec::new() }
    }

    /// Looks at what a layer gave.
    ///
    /// # Errors
    /// [`Error::NonFinite`], at once where the device tells it at once.
    pub fn look(&mut self, x: &Tensor, layer: impl FnOnce() -> String) -> Result<()> {
        match ops::find_non_finite(x) {
            Finding::Known(None) => Ok(()),
            Finding::Known(Some(index)) => Err(Error::NonFinite { stage: self.stage, layer: layer(), index }),
            later @ Finding::Later(_) => {
                self.open.push((later, layer()));
                Ok(())
            }
        }
    }

    /// At the end of the pass, and of each repetition of it: what is still open. Waits for the device.
    ///
    /// # Errors
    /// [`Error::NonFinite`] with the first layer that gave such a value, [`Error::Tensor`] when the device failed.
    pub fn finish(&self, device: &Device) -> Result<()> {
        let found = Finding::wait_for_all(self.open.iter().map(|(finding, _)| finding));
        // A device that failed leaves anything behind.
        device.check()?;
        let first = found.into_iter().zip(&self.open).find_map(|(index, (_, layer))| Some((index?, layer)));
        match first {
            None => Ok(()),
            Some((index, layer)) => Err(Error::NonFinite { stage: self.stage, layer: layer.clone(), index }),
        }
    }
}
