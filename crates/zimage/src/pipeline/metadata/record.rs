//! The record of a picture that this pipeline made.

use super::{FileRecord, LoraRecord, Metadata, SCHEMA_VERSION, TaskRecord, Versions};
use crate::pipeline::request::GenerateRequest;
use crate::pipeline::{Cut, Pipeline};
use crate::{Lora, Task};
use zimage_tensor::Compute;

/// What the caller knows of a model, and the pipeline doesn't.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The model as the user knows it.
    pub model: &'a str,
    /// The files that its pictures depend on.
    pub files: &'a [FileRecord],
    /// The arithmetic of the transformer ([`Pipeline::compute`]).
    pub compute: Compute,
}

impl Pipeline {
    /// What a picture of this request should say of itself.
    pub fn metadata(&self, request: &GenerateRequest, cut: Cut, origin: Origin<'_>) -> Metadata {
        Metadata {
            schema_version: SCHEMA_VERSION,
            prompt: request.prompt.clone(),
            negative_prompt: request.negative_prompt.clone(),
            width: request.width,
            height: request.height,
            steps: request.steps,
            seed: request.seed,
            guidance: request.guidance,
            cfg_normalization: request.cfg_normalization,
            cfg_truncation: request.cfg_truncation,
            shift: request.shift.unwrap_or(self.native_shift()),
            cache: request.cache,
            task: TaskRecord::of(&request.task),
            model: origin.model.into(),
            files: origin.files.to_vec(),
            loras: self.loras().map(LoraRecord::of).collect(),
            versions: Versions::current(),
            device: self.device().name().into(),
            compute: origin.compute.name().into(),
            tiled: cut == Cut::Tiles,
        }
    }
}

impl LoraRecord {
    fn of(lora: &Lora) -> LoraRecord {
        let adapter = &lora.adapter;
        LoraRecord { name: adapter.name().into(), sha256: adapter.sha256().into(), weight: lora.weight }
    }
}

impl TaskRecord {
    fn of(task: &Task) -> TaskRecord {
        match task {
            Task::TextToImage => TaskRecord::TextToImage,
            Task::ImageToImage { image, strength } => {
                TaskRecord::ImageToImage { init_image_sha256: image.sha256().into(), strength: *strength }
            }
            Task::Inpaint { image, mask, strength } => TaskRecord::Inpaint {
                init_image_sha256: image.sha256().into(),
                mask_sha256: mask.sha256().into(),
                strength: *strength,
            },
        }
    }
}
