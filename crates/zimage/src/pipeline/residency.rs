//! How much of a component stays in memory: what its weights take in each form, and which form fits.

use super::Pipeline;
use crate::Result;
use crate::model::Residency;
use std::collections::BTreeSet;
use zimage_tensor::{Compute, Device, Weight};
use zimage_weights::schema::Role;
use zimage_weights::{Component, TensorSpec, Weights};

/// Bytes of the weights of a component.
#[derive(Clone, Copy, Debug)]
pub struct WeightBytes {
    /// As they are stored, all of them.
    stored: u64,
    /// What is not in a block that can be prepared.
    outside: u64,
    /// The largest block, as it is stored.
    block: u64,
    /// How many blocks can be prepared.
    blocks: usize,
    /// The layers of a block, prepared.
    prepared: u64,
    /// How they are multiplied.
    compute: Compute,
    /// Bytes of a value of an activation.
    value: u64,
    /// What they take in a device's own memory, where it has some.
    device: Option<DeviceBytes>,
}

/// Bytes of a component in a device's own memory.
#[derive(Clone, Copy, Debug)]
struct DeviceBytes {
    /// A block that stays.
    block: u64,
    /// What is there whenever the component is.
    outside: u64,
    /// Blocks that run once per prompt.
    once: u64,
    /// Where weights that stay are widened for a use.
    widened: u64,
    /// The two slots through which weights pass that do not stay, and where these are widened.
    passage: u64,
}

impl WeightBytes {
    /// The fastest residency that leaves weights within `available` bytes, and what they then take; where nothing fits,
    /// the smallest one. `mapped_counts` is whether pages of mapped files do, which the system can take back.
    pub fn fit(self, available: u64, mapped_counts: bool) -> (Residency, u64) {
        let prepared = |count: usize| count as u64 * self.prepared;
        let residency = |prepared_blocks| Residency { prepared_blocks, streamed: true, ..Residency::MAPPED };
        if let Some(device) = self.device {
            return self.fit_device(device, available);
        }
        if self.compute == Compute::Int8 {
            // Blocks that are prepared are read one after the other, and each then released.
            let whole = self.outside + prepared(self.blocks);
            if whole + self.block <= available {
                return (residency(self.blocks), whole + self.block);
            }
        }
        if self.stored <= available || !mapped_counts {
            return (Residency::MAPPED, self.stored);
        }
        let streamed = self.outside + self.block;
        let room = available.saturating_sub(streamed);
        let count = match self.compute {
            Compute::Int8 => ((room / self.prepared.max(1)) as usize).min(self.blocks),
            _ => 0,
        };
        (residency(count), streamed + prepared(count))
    }

    /// The same in a device's own memory: all of it, or as many blocks as fit beside the room that the others pass
    /// through. The pages of the file are left to the system.
    fn fit_device(self, device: DeviceBytes, available: u64) -> (Residency, u64) {
        let DeviceBytes { outside, once, widened, passage, .. } = device;
        let whole = outside + once + self.blocks as u64 * self.prepared + widened;
        if whole <= available {
            return (Residency { prepared_blocks: self.blocks, prepared_once: true, streamed: false }, whole);
        }
        let least = outside + passage;
        let room = available.saturating_sub(least);
        let count = ((room / self.prepared.max(1)) as usize).min(self.blocks);
        let residency = Residency { prepared_blocks: count, prepared_once: false, streamed: false };
        (residency, least + count as u64 * self.prepared)
    }

    /// Bytes of a value of an activation.
    pub fn value_bytes(self) -> u64 {
        self.value
    }

    /// What linear layers with rows of up to `cols` values work in: on the CPU the threads' tiles of widened weights, 256
    /// rows each on a few threads; on a GPU what its library of products asks for.
    pub fn linear_scratch(self, cols: u64) -> u64 {
        const LIBRARY: u64 = 64 << 20;
        match self.device {
            None => 2 * 256 * cols * self.value,
            Some(_) => LIBRARY,
        }
    }

    /// Bytes that a token takes beside its values in a block with rows of `dim` and of `ffn` of them, where layers read
    /// 8 bits: what they read, and on a GPU the sums before they are scaled.
    pub fn activation_bytes(self, dim: u64, ffn: u64) -> u64 {
        match (self.compute, self.device) {
            (Compute::Int8, None) => dim + ffn,
            (Compute::Int8 | Compute::Fp8, Some(_)) => dim + ffn + 4 * ffn,
            (Compute::F16, Some(_)) => 2 * ffn,
            _ => 0,
        }
    }

    /// For a component that is used once: as stored if that fits, else block by block. In a device's own memory there
    /// is nothing to lay out, and it is like any other.
    pub fn fit_once(self, available: u64, mapped_counts: bool) -> (Residency, u64) {
        match self.device {
            None => WeightBytes { compute: Compute::Exact, ..self }.fit(available, mapped_counts),
            Some(_) => self.fit(available, mapped_counts),
        }
    }
}

impl Pipeline {
    /// What the weights of a component take.
    pub(super) fn weight_bytes(&self, component: Component) -> Result<WeightBytes> {
        let weights = self.checkpoint.weights(component)?;
        let specs = self.checkpoint.specs(component);
        let (names, blocks) = match component {
            Component::Transformer => {
                let config = self.checkpoint.transformer_config();
                (&["noise_refiner.", "layers."][..], config.n_refiner_layers + config.n_layers)
            }
            // The last layer is not run, and not loaded.
            Component::TextEncoder => (&["layers."][..], self.checkpoint.text_encoder_config().n_layers - 1),
            Component::Vae => (&[][..], 0),
        };
        let of_blocks: u64 = names.iter().map(|name| weights.size_bytes_below(name)).sum();
        let stored = weights.size_bytes() + self.adapters.size_bytes(component);
        let block = of_blocks.div_ceil(blocks.max(1) as u64);
        let device = self.device_for(&weights);
        let (compute, value) = (device.compute(), device.activation_bytes());
        let (prepared, own) = if device.has_own_memory() {
            let mut own = device_bytes(&device, &weights, &specs, names)?;
            own.outside += self.adapters.size_bytes(component);
            (own.block, Some(own))
        } else {
            (prepared_bytes(&specs, "layers.0."), None)
        };
        Ok(WeightBytes { stored, outside: stored - of_blocks, block, blocks, prepared, compute, value, device: own })
    }
}

/// What a component takes of a device's own memory; `blocks` are the names of those that can stay one by one.
fn device_bytes(device: &Device, weights: &Weights, specs: &[TensorSpec], blocks: &[&str]) -> Result<DeviceBytes> {
    let linear = linear_without_bias(specs);
    let (mut slot, mut streamed) = (0, 0);
    let mut bytes = DeviceBytes { block: 0, outside: 0, once: 0, widened: 0, passage: 0 };
    for spec in specs {
        // Rows of the table are looked up in the file.
        if spec.role == Role::Embedding {
            continue;
        }
        if spec.role != Role::Linear {
            bytes.outside += 4 * spec.elements() as u64;
            continue;
        }
        let stored = weights.size_bytes_below(&spec.name);
        let as_stored = (weights.tensor(&spec.name)?.layout, stored);
        let in_block = linear.contains(&*spec.name);
        let placed = Weight::placed_bytes(device, (spec.shape[0], spec.shape[1]), as_stored, in_block);
        bytes.widened = bytes.widened.max(placed.use_bytes);
        if !in_block {
            bytes.outside += placed.stays;
            continue;
        }
        (slot, streamed) = (slot.max(stored), streamed.max(placed.streamed));
        if spec.name.starts_with("layers.0.") {
            bytes.block += placed.stays;
        } else if !blocks.iter().any(|name| spec.name.starts_with(name)) {
            bytes.once += placed.stays;
        }
    }
    bytes.passage = 2 * slot + streamed;
    Ok(bytes)
}

/// Bytes of the layers below `prefix` that have no bias, laid out for integer dot products.
fn prepared_bytes(specs: &[TensorSpec], prefix: &str) -> u64 {
    let linear = linear_without_bias(specs);
    let layers = specs.iter().filter(|spec| spec.name.starts_with(prefix) && linear.contains(&*spec.name));
    layers.map(|spec| Weight::prepared_bytes(spec.shape[0], spec.shape[1])).sum()
}

/// The names of the layers that have no bias: those of blocks.
fn linear_without_bias(specs: &[TensorSpec]) -> BTreeSet<&str> {
    let names: BTreeSet<&str> = specs.iter().map(|spec| &*spec.name).collect();
    let has_bias = |name: &str| names.contains(&*name.replace(".weight", ".bias"));
    let linear = specs.iter().filter(|spec| spec.role == Role::Linear);
    linear.map(|spec| &*spec.name).filter(|name| !has_bias(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 30 blocks of 180 MB that take 190 MB when they are laid out, and 300 MB beside them.
    fn weights(compute: Compute) -> WeightBytes {
        let (outside, block, blocks) = (300, 180, 30);
        WeightBytes {
            stored: outside + block * 30,
            outside,
            block,
            blocks,
            prepared: 190,
            compute,
            value: 4,
            device: None,
        }
    }

    #[test]
    fn int8_lays_out_as_many_blocks_as_fit() {
        let fit = |available, counts| weights(Compute::Int8).fit(available, counts);
        let all = Residency { prepared_blocks: 30, streamed: true, ..Residency::MAPPED };
        assert_eq!(fit(300 + 30 * 190 + 180, true), (all, 300 + 30 * 190 + 180));
        // One byte less: the file as it is, which is smaller.
        assert_eq!(fit(300 + 30 * 190 + 179, true), (Residency::MAPPED, 300 + 30 * 180));
        // Less than the file: some blocks, and the others one after the other.
        let some = Residency { prepared_blocks: 10, streamed: true, ..Residency::MAPPED };
        assert_eq!(fit(300 + 180 + 10 * 190 + 17, true), (some, 300 + 180 + 10 * 190));
        let none = Residency { streamed: true, ..Residency::MAPPED };
        assert_eq!(fit(0, true), (none, 480));
        // Where mapped pages do not count, they are left to the system.
        assert_eq!(fit(1000, false), (Residency::MAPPED, 5700));
    }

    #[test]
    fn floats_stay_mapped_or_are_streamed() {
        let fit = |available, counts| weights(Compute::Exact).fit(available, counts);
        assert_eq!(fit(5700, true), (Residency::MAPPED, 5700));
        assert_eq!(fit(5699, true), (Residency { streamed: true, ..Residency::MAPPED }, 480));
        assert_eq!(fit(0, false), (Residency::MAPPED, 5700));
        assert_eq!(weights(Compute::Int8).fit_once(1 << 40, true), (Residency::MAPPED, 5700));
    }
}
