//! The containers by themselves: bytes to named tensors.

use bytes::Bytes;
use zimage_weights::Container;
use zimage_weights::container::{File, Gguf, SafeTensors};
use zimage_weights::llama_cpp;

use crate::write;

/// Reads a safetensors file and every tensor of it.
///
/// Bytes that begin with a brace are a header and, after a zero byte, data: they get the length in front that the
/// format wants, so that changes of the header need not keep it right.
pub fn safetensors(bytes: &[u8]) {
    if let Ok(file) = SafeTensors::from_bytes("hostile", framed(bytes)) {
        let _ = file.metadata().len();
        tensors(&File::from(file).into());
    }
}

/// Reads a GGUF file, every value and every tensor of it, and what llama.cpp would read in it.
pub fn gguf(bytes: &[u8]) {
    let Ok(file) = Gguf::from_bytes("hostile", Bytes::copy_from_slice(bytes)) else { return };
    for value in file.metadata().values() {
        let _ = value.to_string();
    }
    let _ = llama_cpp::text_encoder_config(&file);
    if let Ok(json) = llama_cpp::tokenizer_json(&file) {
        serde_json::from_slice::<serde_json::Value>(&json).expect("the tokenizer that is made is JSON");
    }
    tensors(&File::from(file).into());
}

/// The bytes with the length of a header in front, where they begin with one.
pub(crate) fn framed(bytes: &[u8]) -> Bytes {
    if !bytes.starts_with(b"{") {
        return Bytes::copy_from_slice(bytes);
    }
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    write::framed(&bytes[..end], bytes.get(end + 1..).unwrap_or_default()).into()
}

/// Every tensor has as many bytes as its type and shape say.
fn tensors(container: &Container) {
    for (name, info) in container.iter() {
        let tensor = container.tensor(name).expect("a tensor that is listed is there");
        assert_eq!(tensor.data.len(), info.size_bytes(), "{name}");
        assert_eq!((tensor.dtype, &tensor.shape), (info.dtype, &info.shape), "{name}");
    }
    assert!(container.tensor("\0 no such tensor").is_err());
}
