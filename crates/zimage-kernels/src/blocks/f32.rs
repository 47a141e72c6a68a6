//! f32 in little-endian bytes, at any address.

pub(super) fn decode(src: &[u8], dst: &mut [f32]) {
    for (bytes, value) in src.as_chunks::<4>().0.iter().zip(dst) {
        *value = f32::from_le_bytes(*bytes);
    }
}

pub(super) fn encode(src: &[f32], dst: &mut [u8]) {
    for (value, bytes) in src.iter().zip(dst.as_chunks_mut::<4>().0) {
        *bytes = value.to_le_bytes();
    }
}
