//! The tests of this crate: real files in temporary directories, no mocks.

mod checkpoint;
mod config;
mod converting;
mod fusing;
mod gguf;
mod gguf_writing;
mod hostile;
mod inspecting;
mod llama_cpp;
mod merging;
mod parts;
mod quantized;
mod refused;
mod schema;
mod sharding;
mod writing;
