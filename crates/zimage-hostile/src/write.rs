//! Writes files that break the rules: the writers of `zimage-weights` refuse to.

use serde_json::{Map, Value, json};
use zimage_weights::Dtype;

/// A tensor that a file claims to have.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Its bytes, repeated as often as the shape asks for.
    pub(crate) pattern: Vec<u8>,
}

/// The most bytes that claims are filled with; a file that claims more is cut short.
const MAX_DATA_BYTES: usize = 4 << 20;

impl Claim {
    fn size(&self) -> usize {
        self.dtype.size_of(&self.shape).unwrap_or(0)
    }

    fn fill(&self, data: &mut Vec<u8>) {
        let size = self.size().min(MAX_DATA_BYTES.saturating_sub(data.len()));
        if self.pattern.is_empty() {
            data.resize(data.len() + size, 0);
        } else {
            let repeated = self.pattern.repeat(size.div_ceil(self.pattern.len()));
            data.extend_from_slice(&repeated[..size]);
        }
    }
}

/// A safetensors file with its header's length in front.
pub(crate) fn framed(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// A safetensors file of these tensors, one after the other.
pub(crate) fn safetensors(metadata: &[(String, String)], claims: &[Claim]) -> Vec<u8> {
    let mut header = Map::new();
    let (mut at, mut data) = (0_usize, Vec::new());
    for claim in claims {
        let end = at.saturating_add(claim.size());
        let entry = json!({ "dtype": claim.dtype.name(), "shape": claim.shape, "data_offsets": [at, end] });
        if header.insert(claim.name.clone(), entry).is_none() {
            claim.fill(&mut data);
            at = end;
        }
    }
    let metadata: Map<String, Value> = metadata.iter().map(|(key, text)| (key.clone(), json!(text))).collect();
    header.insert("__metadata__".to_owned(), metadata.into());
    framed(Value::Object(header).to_string().as_bytes(), &data)
}

/// A GGUF file of these tensors; all keys are texts.
pub(crate) fn gguf(keys: &[(String, String)], claims: &[Claim]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((claims.len() as u64).to_le_bytes());
    bytes.extend((keys.len() as u64).to_le_bytes());
    for (key, value) in keys {
        text(&mut bytes, key);
        bytes.extend(8_u32.to_le_bytes());
        text(&mut bytes, value);
    }
    let mut data = Vec::new();
    for claim in claims {
        text(&mut bytes, &claim.name);
        bytes.extend((claim.shape.len() as u32).to_le_bytes());
        claim.shape.iter().rev().for_each(|axis| bytes.extend((*axis as u64).to_le_bytes()));
        bytes.extend(claim.dtype.to_ggml().unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend((data.len() as u64).to_le_bytes());
        claim.fill(&mut data);
        data.resize(data.len().next_multiple_of(32), 0);
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(data);
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
