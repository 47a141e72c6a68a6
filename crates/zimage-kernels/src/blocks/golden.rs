//! Reads `goldens/blocks/`: what the reference decodes and encodes.

use std::path::Path;

use serde_json::Value;

use super::Format;

/// The tensors of one format's file.
pub(crate) struct Golden {
    header: Value,
    data: Vec<u8>,
}

impl Golden {
    pub(crate) fn of(format: Format) -> Golden {
        Golden::named(format.name())
    }

    pub(crate) fn named(name: &str) -> Golden {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/blocks");
        let file = std::fs::read(folder.join(format!("{name}.safetensors"))).expect("a golden");
        let (length, rest) = file.split_first_chunk::<8>().expect("a length");
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        Golden { header: serde_json::from_slice(header).expect("a JSON header"), data: data.to_vec() }
    }

    pub(crate) fn bytes(&self, name: &str) -> &[u8] {
        let offset = |i: usize| self.header[name]["data_offsets"][i].as_u64().expect("an offset") as usize;
        &self.data[offset(0)..offset(1)]
    }

    pub(crate) fn values(&self, name: &str) -> Vec<f32> {
        let values = self.bytes(name).as_chunks::<4>().0;
        values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}
