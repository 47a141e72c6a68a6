//! How much of a component stays in memory: what its weights take in each form, and which form fits.

use super::Pipeline;
use crate::Result;
use crate::model::Residency;
use std::collections::BTreeSet;
use zimage_tensor::{Compute, Weight};
use zimage_weights::schema::Role;
use zimage_weights::{Component, TensorSpec};

/// Bytes of the weights of a component.
#[derive(Clone, Copy, Debug)]
pub struct WeightBytes {
    /// As they are stored, all of them.
    stored: u64,
    /// What is not in a block.
    outside: u64,
    /// The largest block, as it is stored.
    block: u64,
    /// How many blocks can be prepared.
    blocks: usize,
    /// The layers of a block, laid out for integer dot products.
    prepared: u64,
    /// How they are multiplied.
    compute: Compute,
}

impl WeightBytes {
    /// The fastest residency that leaves weights within `available` bytes, and what they then take; where nothing fits,
    /// the smallest one. `mapped_counts` is whether pages of mapped files do, which the system can take back.
    pub fn fit(self, available: u64, mapped_counts: bool) -> (Residency, u64) {
        let prepared = |count: usize| count as u64 * self.prepared;
        if self.compute == Compute::Int8 {
            // Blocks that are prepared are read one after the other, and each then released.
            let whole = self.outside + prepared(self.blocks);
            if whole + self.block <= available {
                return (Residency { prepared_blocks: self.blocks, streamed: true }, whole + self.block);
            }
        }
        if self.stored <= available || !mapped_counts {
            return (Residency::MAPPED, self.stored);
        }
        let streamed = self.outside + self.block;
        let room = available.saturating_sub(streamed);
        let count = match self.compute {
            Compute::Int8 => ((room / self.prepared.max(1)) as usize).min(self.blocks),
            Compute::Exact => 0,
        };
        (Residency { prepared_blocks: count, streamed: true }, streamed + prepared(count))
    }

    /// Bytes that a token's quantized activations take in a block with rows of `dim` and of `ffn` values.
    pub fn activation_bytes(self, dim: u64, ffn: u64) -> u64 {
        if self.compute == Compute::Int8 { dim + ffn } else { 0 }
    }

    /// For a component that is used once: as stored if that fits, else block by block.
    pub fn fit_once(self, available: u64, mapped_counts: bool) -> (Residency, u64) {
        WeightBytes { compute: Compute::Exact, ..self }.fit(available, mapped_counts)
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
            Component::TextEncoder => (&["layers."][..], self.checkpoint.text_encoder_config().n_layers),
            Component::Vae => (&[][..], 0),
        };
        let of_blocks: u64 = names.iter().map(|name| weights.size_bytes_below(name)).sum();
        let stored = weights.size_bytes() + self.adapters.size_bytes(component);
        let block = of_blocks.div_ceil(blocks.max(1) as u64);
        let prepared = if blocks == 0 { 0 } else { prepared_bytes(&specs, "layers.0.") };
        let compute = self.device_for(&weights).compute();
        Ok(WeightBytes { stored, outside: stored - of_blocks, block, blocks, prepared, compute })
    }
}

/// Bytes of the layers below `prefix` that have no bias, laid out for integer dot products.
fn prepared_bytes(specs: &[TensorSpec], prefix: &str) -> u64 {
    let names: BTreeSet<&str> = specs.iter().map(|spec| &*spec.name).collect();
    let has_bias = |name: &str| names.contains(&*name.replace(".weight", ".bias"));
    let layers = specs.iter().filter(|spec| spec.name.starts_with(prefix) && spec.role == Role::Linear);
    layers.filter(|spec| !has_bias(&spec.name)).map(|spec| Weight::prepared_bytes(spec.shape[0], spec.shape[1])).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 30 blocks of 180 MB that take 190 MB when they are laid out, and 300 MB beside them.
    fn weights(compute: Compute) -> WeightBytes {
        let (outside, block, blocks) = (300, 180, 30);
        WeightBytes { stored: outside + block * 30, outside, block, blocks, prepared: 190, compute }
    }

    #[test]
    fn int8_lays_out_as_many_blocks_as_fit() {
        let fit = |available, counts| weights(Compute::Int8).fit(available, counts);
        let all = Residency { prepared_blocks: 30, streamed: true };
        assert_eq!(fit(300 + 30 * 190 + 180, true), (all, 300 + 30 * 190 + 180));
        // One byte less: the file as it is, which is smaller.
        assert_eq!(fit(300 + 30 * 190 + 179, true), (Residency::MAPPED, 300 + 30 * 180));
        // Less than the file: some blocks, and the others one after the other.
        let some = Residency { prepared_blocks: 10, streamed: true };
        assert_eq!(fit(300 + 180 + 10 * 190 + 17, true), (some, 300 + 180 + 10 * 190));
        let none = Residency { prepared_blocks: 0, streamed: true };
        assert_eq!(fit(0, true), (none, 480));
        // Where mapped pages do not count, they are left to the system.
        assert_eq!(fit(1000, false), (Residency::MAPPED, 5700));
    }

    #[test]
    fn floats_stay_mapped_or_are_streamed() {
        let fit = |available, counts| weights(Compute::Exact).fit(available, counts);
        assert_eq!(fit(5700, true), (Residency::MAPPED, 5700));
        assert_eq!(fit(5699, true), (Residency { prepared_blocks: 0, streamed: true }, 480));
        assert_eq!(fit(0, false), (Residency::MAPPED, 5700));
        assert_eq!(weights(Compute::Int8).fit_once(1 << 40, true), (Residency::MAPPED, 5700));
    }
}
