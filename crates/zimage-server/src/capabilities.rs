//! What this server can do, for clients that build their controls from it.

use serde::Serialize;
use utoipa::ToSchema;
use zimage::pipeline::request::SIZE_MULTIPLE;
use zimage::{Device, Pipeline};

use crate::limits::Limits;
use crate::models::LoraInfo;

/// Sizes below this are a small model's own; the published one is drawn at 1024 and 1280.
const REAL_SIZE: u32 = 1024;
const RATIOS: [(u32, u32); 7] = [(1, 1), (5, 4), (4, 3), (7, 5), (3, 2), (16, 9), (21, 9)];

/// See the module.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Capabilities {
    /// Of this program.
    pub version: &'static str,
    /// What it computes on.
    pub device: String,
    /// The models, the default one first.
    pub models: Vec<ModelInfo>,
    /// The LoRAs.
    pub loras: Vec<LoraInfo>,
    /// What may be asked for.
    pub limits: Limits,
    /// What is taken where a request says nothing.
    pub defaults: Defaults,
    /// Formats of files.
    pub formats: [&'static str; 3],
    /// Modes of step caching.
    pub caches: [&'static str; 4],
    /// What can be done. A page shows no control for what is not here.
    pub features: Vec<&'static str>,
    /// Prompts to begin with.
    pub examples: [&'static str; 5],
}

/// What is taken where a request says nothing.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Defaults {
    /// Forward passes.
    pub steps: u32,
    /// Of image to image.
    pub strength: f64,
    /// Of JPEG files.
    pub quality: u8,
}

/// A model.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// Side of the square that is drawn where a request says nothing.
    pub native_size: u32,
    /// Shift of its own schedule.
    pub native_shift: f64,
    /// Sizes to choose from.
    pub sizes: Vec<SizeGroup>,
}

/// Sizes of about the same area.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SizeGroup {
    /// Length of the smaller side, about.
    pub base: u32,
    /// One for each ratio.
    pub sizes: Vec<Size>,
}

/// A size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Size {
    /// Width to height, such as `16:9`.
    pub ratio: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

impl Capabilities {
    pub(crate) fn new(models: Vec<ModelInfo>, loras: Vec<LoraInfo>, limits: &Limits, device: &Device) -> Capabilities {
        let mut features = vec!["text_to_image", "image_to_image", "inpaint", "guidance", "step_cache", "preview"];
        if !loras.is_empty() {
            features.push("loras");
        }
        Capabilities {
            version: env!("CARGO_PKG_VERSION"),
            device: device.describe(),
            models,
            loras,
            limits: limits.clone(),
            defaults: Defaults { steps: 8, strength: 0.6, quality: 95 },
            formats: ["png", "jpeg", "webp"],
            caches: ["none", "slow", "medium", "fast"],
            features,
            examples: [
                "a red balloon over the sea",
                "a yellow house on a green hill",
                "a blue boat, and a white moon above it",
                "two trees beside a lake at night",
                "an orange cat on a purple carpet",
            ],
        }
    }
}

impl ModelInfo {
    pub(crate) fn of(name: &str, pipeline: &Pipeline) -> ModelInfo {
        let native_size = ModelInfo::native_size(pipeline);
        let bases = if native_size < REAL_SIZE { vec![native_size] } else { vec![native_size, native_size / 4 * 5] };
        let sizes = bases.into_iter().map(SizeGroup::new).collect();
        ModelInfo { name: name.into(), native_size, native_shift: pipeline.native_shift(), sizes }
    }

    pub(crate) fn native_size(pipeline: &Pipeline) -> u32 {
        pipeline.native_size() as u32
    }
}

impl SizeGroup {
    /// The smaller side is `base`, the other the multiple of 16 that is nearest to the ratio.
    fn new(base: u32) -> SizeGroup {
        let multiple = SIZE_MULTIPLE as u32;
        let longer = |(long, short): (u32, u32)| (base * long + short * multiple / 2) / (short * multiple) * multiple;
        let wide = RATIOS.map(|(w, h)| Size { ratio: format!("{w}:{h}"), width: longer((w, h)), height: base });
        let tall = RATIOS.map(|(w, h)| Size { ratio: format!("{h}:{w}"), width: base, height: longer((w, h)) });
        // A square is the same both ways.
        SizeGroup { base, sizes: wide.into_iter().chain(tall.into_iter().skip(1)).collect() }
    }
}
