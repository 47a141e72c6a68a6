//! Reading a component's parameters by name onto a device.

use super::Adapters;
use crate::Result;
use zimage_tensor::{Device, Linear, Stored, Tensor, Weight};
use zimage_weights::{WeightView, Weights};

/// The parameters below one name of the checkpoint tree, e.g. `layers.3.attention`.
pub struct Parameters<'a> {
    weights: &'a Weights,
    device: &'a Device,
    adapters: Option<&'a Adapters>,
    prefix: String,
}

impl<'a> Parameters<'a> {
    /// All parameters of a component.
    pub fn new(weights: &'a Weights, device: &'a Device) -> Parameters<'a> {
        Parameters { weights, device, adapters: None, prefix: String::new() }
    }

    /// The same parameters, with what adapters add to the linear layers.
    pub fn with_adapters(self, adapters: &'a Adapters) -> Parameters<'a> {
        Parameters { adapters: Some(adapters), ..self }
    }

    /// The parameters below `name`.
    pub fn below(&self, name: impl std::fmt::Display) -> Parameters<'a> {
        Parameters { prefix: format!("{}{name}.", self.prefix), ..*self }
    }

    /// A weight matrix in the format of the file.
    pub fn weight(&self, name: &str) -> Result<Weight> {
        let view = self.view(name)?;
        assert_eq!(view.shape.len(), 2, "{} is audited to be a matrix: this is a bug", view.name);
        let (rows, cols) = (view.stored_rows, view.cols());
        let WeightView { layout, values, scales, biases, factor, .. } = view;
        let stored = Stored { layout, rows, cols, values, scales, biases, factor };
        Ok(Weight::new(self.device, stored, view.rows)?)
    }

    /// The linear layer `name.weight`, without a bias.
    pub fn linear(&self, name: &str) -> Result<Linear> {
        self.adapted(name, Linear::new(self.below(name).weight("weight")?, None))
    }

    /// The linear layer `name.weight`, `name.bias`.
    pub fn linear_with_bias(&self, name: &str) -> Result<Linear> {
        let layer = self.below(name);
        self.adapted(name, Linear::new(layer.weight("weight")?, Some(layer.tensor("bias")?)))
    }

    fn adapted(&self, name: &str, layer: Linear) -> Result<Linear> {
        match self.adapters {
            None => Ok(layer),
            Some(adapters) => {
                let name = format!("{}{name}", self.prefix);
                adapters.attach(self.device, self.weights.component(), &name, layer)
            }
        }
    }

    /// Any other parameter (norms, biases, convolutions, tokens), widened to f32.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let view = self.view(name)?;
        Ok(Tensor::from_vec(self.device, &view.shape, view.decode())?)
    }

    /// The device that parameters are read onto.
    pub fn device(&self) -> &'a Device {
        self.device
    }

    fn view(&self, name: &str) -> Result<WeightView> {
        Ok(self.weights.tensor(&format!("{}{name}", self.prefix))?)
    }
}
