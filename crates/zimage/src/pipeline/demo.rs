//! The small trained model that the library carries, so that a picture needs no download.

use bytes::Bytes;

macro_rules! embedded {
    ($($path:literal),* $(,)?) => {
        /// The files of the demo model, by their paths in its directory.
        pub(super) fn files() -> Vec<(&'static str, Bytes)> {
            vec![$(($path, Bytes::from_static(include_bytes!(concat!("../../../../assets/demo/", $path))))),*]
        }
    };
}

embedded!(
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
);
