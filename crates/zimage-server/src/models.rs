//! What the server can run: its embedder says which models and LoRAs there are, and opens them by name.

use std::path::PathBuf;

use serde::Serialize;
use utoipa::ToSchema;
use zimage::pipeline::metadata::FileRecord;
use zimage::{Device, Pipeline};

/// Models and LoRAs by name. No client ever names a path.
pub trait Models: Send + Sync {
    /// The names of the models, the default one first; never empty.
    fn names(&self) -> Vec<String>;

    /// Opens a model on a device. Weights are mapped when they are needed.
    ///
    /// # Errors
    /// The library's.
    fn open(&self, name: &str, device: Device) -> zimage::Result<Pipeline>;

    /// The files that pictures of an opened model depend on, for their metadata.
    ///
    /// # Errors
    /// The library's.
    fn files(&self, pipeline: &Pipeline) -> zimage::Result<Vec<FileRecord>>;

    /// The LoRAs.
    fn loras(&self) -> Vec<LoraInfo>;

    /// Where a LoRA of the list is.
    fn lora_path(&self, id: &str) -> Option<PathBuf>;
}

/// A LoRA that can be used.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct LoraInfo {
    /// Its name.
    pub id: String,
    /// Words that call its style.
    pub trigger_words: Vec<String>,
    /// The weight that its file recommends.
    pub recommended_weight: Option<f64>,
}

/// The model that the library carries, and nothing else.
#[derive(Debug, Default)]
pub struct DemoModel;

/// The name of the embedded model.
pub const DEMO: &str = "demo";

impl Models for DemoModel {
    fn names(&self) -> Vec<String> {
        vec![DEMO.into()]
    }

    fn open(&self, _: &str, device: Device) -> zimage::Result<Pipeline> {
        Pipeline::demo(device)
    }

    fn files(&self, _: &Pipeline) -> zimage::Result<Vec<FileRecord>> {
        Ok(Vec::new())
    }

    fn loras(&self) -> Vec<LoraInfo> {
        Vec::new()
    }

    fn lora_path(&self, _: &str) -> Option<PathBuf> {
        None
    }
}
