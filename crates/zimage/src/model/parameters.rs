//! Reading a component's parameters by name onto a device.

use super::Adapters;
use crate::Result;
use zimage_tensor::{Device, Linear, Stored, Tensor, Weight};
use zimage_weights::{Component, WeightView, Weights};

/// Where the parameters of a component come from, by their canonical names.
pub trait Source {
    /// Which component it is.
    fn component(&self) -> Component;

    /// One parameter where it lies.
    ///
    /// # Errors
    /// [`zimage_weights::Error`], naming the parameter.
    fn view(&self, name: &str) -> zimage_weights::Result<WeightView>;

    /// The memory of what was read.
    fn pages(&self) -> Pages;
}

impl Source for Weights {
    fn component(&self) -> Component {
        self.component()
    }

    fn view(&self, name: &str) -> zimage_weights::Result<WeightView> {
        self.tensor(name)
    }

    fn pages(&self) -> Pages {
        Pages(Some(self.clone()))
    }
}

/// The pages of mapped files that were read, which count as memory of this process until they are released.
#[derive(Clone, Debug, Default)]
pub struct Pages(Option<Weights>);

impl Pages {
    /// Lets the system take them back; what is used again is read again.
    pub fn release(&self) {
        if let Some(weights) = &self.0 {
            weights.release_pages();
        }
    }
}

/// How much of a component's weights stays in memory between its uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residency {
    /// Blocks, counted from the first one, whose layers are laid out once for a device that multiplies bytes, or stay
    /// in a device's own memory. Others are laid out part by part, or brought there, when they are used.
    pub prepared_blocks: usize,
    /// Whether blocks that run once per prompt are prepared too.
    pub prepared_once: bool,
    /// Whether the pages of the file are released after each block that is not prepared.
    pub streamed: bool,
}

impl Residency {
    /// All weights where they lie in the file.
    pub const MAPPED: Residency = Residency { prepared_blocks: 0, prepared_once: false, streamed: false };
}

/// The parameters below one name of the checkpoint tree, e.g. `layers.3.attention`.
pub struct Parameters<'a> {
    source: &'a dyn Source,
    device: &'a Device,
    adapters: Option<&'a Adapters>,
    prepared: bool,
    prefix: String,
}

impl<'a> Parameters<'a> {
    /// All parameters of a component.
    pub fn new(source: &'a dyn Source, device: &'a Device) -> Parameters<'a> {
        Parameters { source, device, adapters: None, prepared: false, prefix: String::new() }
    }

    /// The same parameters, with what adapters add to the linear layers.
    pub fn with_adapters(self, adapters: &'a Adapters) -> Parameters<'a> {
        Parameters { adapters: Some(adapters), ..self }
    }

    /// The same parameters; whether [`Parameters::linear`] prepares weights for the device.
    pub fn prepared(self, prepared: bool) -> Parameters<'a> {
        Parameters { prepared, ..self }
    }

    /// The parameters below `name`.
    pub fn below(&self, name: impl std::fmt::Display) -> Parameters<'a> {
        Parameters { prefix: format!("{}{name}.", self.prefix), ..*self }
    }

    /// The memory of what was read.
    pub fn pages(&self) -> Pages {
        self.source.pages()
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

    /// The linear layer `name.weight` of a block, without a bias, prepared for the device if these parameters are.
    pub fn linear(&self, name: &str) -> Result<Linear> {
        let weight = self.below(name).weight("weight")?;
        let weight = if self.prepared { weight.prepared() } else { weight };
        self.adapted(name, Linear::new(weight, None))
    }

    /// The linear layer `name.weight`, `name.bias`.
    pub fn linear_with_bias(&self, name: &str) -> Result<Linear> {
        let layer = self.below(name);
        self.adapted(name, Linear::new(layer.weight("weight")?.resident(), Some(layer.tensor("bias")?)))
    }

    fn adapted(&self, name: &str, layer: Linear) -> Result<Linear> {
        match self.adapters {
            None => Ok(layer),
            Some(adapters) => {
                let name = format!("{}{name}", self.prefix);
                adapters.attach(self.device, self.source.component(), &name, layer)
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
        Ok(self.source.view(&format!("{}{name}", self.prefix))?)
    }
}
