//! What a picture says about how it was made: enough to make it again.
//!
//! Every picture carries two texts. `zimage` is the record below as canonical JSON (sorted keys, no spaces), made for
//! programs; `parameters` is the text that the Stable Diffusion web UI established, made for the many tools that read
//! only that. PNG files hold both in `iTXt` chunks under these keywords. JPEG and WebP files hold them in the EXIF
//! block: `parameters` as `UserComment` (UTF-16), the JSON as `ImageDescription` (ASCII, other characters escaped).

mod embedded;
mod record;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cache::StepCache;
pub use embedded::Embedded;
pub(crate) use embedded::exif_block;
pub use record::Origin;

/// The version of the JSON record that this program writes, and the highest it reads.
pub const SCHEMA_VERSION: u32 = 1;
/// PNG keyword of the canonical JSON.
pub const ZIMAGE_KEYWORD: &str = "zimage";
/// PNG keyword of the web UI text.
pub const PARAMETERS_KEYWORD: &str = "parameters";

/// How a picture was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Version of this record; [`SCHEMA_VERSION`] when written by this program.
    pub schema_version: u32,
    /// The prompt, as it was encoded.
    pub prompt: String,
    /// The negative prompt; it acts only when `guidance` is above 0.
    pub negative_prompt: String,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Steps of the schedule; image to image runs only the last of them.
    pub steps: usize,
    /// Seed of the noise.
    pub seed: u64,
    /// Guidance in diffusers' meaning, 0 when off.
    pub guidance: f64,
    /// Cap on the norm of the guided prediction, relative to the positive one; 0 when off.
    pub cfg_normalization: f64,
    /// Guidance is off at times above this value; 1 never cuts.
    pub cfg_truncation: f64,
    /// Static shift of the schedule.
    pub shift: f64,
    /// Which steps reused what the main layers had added.
    #[serde(default, skip_serializing_if = "StepCache::is_none")]
    pub cache: StepCache,
    /// What was done, and from which files.
    pub task: TaskRecord,
    /// Label of the model, as the user knows it.
    pub model: String,
    /// The model's weight files.
    pub files: Vec<FileRecord>,
    /// The LoRAs that acted, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<LoraRecord>,
    /// The programs that made the picture.
    pub versions: Versions,
    /// The device that computed it.
    pub device: String,
    /// The arithmetic that was used.
    pub compute: String,
    /// Whether the VAE worked in tiles, which changes the last bits.
    pub tiled: bool,
}

/// The task a picture was made by, with digests of the input files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum TaskRecord {
    /// From a prompt alone.
    TextToImage,
    /// From a prompt and a picture.
    ImageToImage {
        /// SHA-256 of the picture's file.
        init_image_sha256: String,
        /// How much of the schedule was run.
        strength: f64,
    },
    /// From a prompt and a picture, where a mask is white.
    Inpaint {
        /// SHA-256 of the picture's file.
        init_image_sha256: String,
        /// SHA-256 of the mask's file.
        mask_sha256: String,
        /// How much of the schedule was run.
        strength: f64,
    },
}

/// A LoRA that acted on the picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraRecord {
    /// The name of its file, without its ending.
    pub name: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// How strongly it acted.
    pub weight: f64,
}

/// One file of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Path relative to the model's directory, with forward slashes.
    pub path: String,
    /// SHA-256 of its bytes, in lower case hexadecimal.
    pub sha256: String,
    /// What was taken from it: "transformer", "text encoder", "VAE", "pad tokens", "tokenizer".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
}

/// Versions of the programs that made a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// This program.
    pub zimage: String,
}

impl Versions {
    /// The versions of the running program.
    pub fn current() -> Self {
        Self { zimage: env!("CARGO_PKG_VERSION").into() }
    }
}

impl Metadata {
    /// The record as canonical JSON: keys sorted at every level, no spaces. Equal records give equal bytes.
    pub fn to_canonical_json(&self) -> String {
        let value = serde_json::to_value(self).expect("the record has string keys only: this is a bug");
        canonical(&value)
    }

    /// Reads the JSON record. Refuses a newer schema and anything that is not a record, and says why.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match value.get("schema_version").and_then(Value::as_u64) {
            Some(version) if version <= u64::from(SCHEMA_VERSION) => {}
            Some(version) => return Err(format!("schema version {version} is newer than this program")),
            None => return Err("it has no schema_version".into()),
        }
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    /// The text that the Stable Diffusion web UI writes and most tools read.
    ///
    /// `CFG scale` is `guidance + 1`, because the web UI's scale weighs `neg + scale * (pos - neg)`.
    pub fn to_parameters(&self) -> String {
        let mut text = self.prompt.clone();
        // The web UI has them in the prompt; here they never reach the text encoder.
        for lora in &self.loras {
            let _ = write!(text, "{}<lora:{}:{}>", if text.is_empty() { "" } else { " " }, lora.name, lora.weight);
        }
        if self.guidance > 0.0 && !self.negative_prompt.is_empty() {
            let _ = write!(text, "\nNegative prompt: {}", self.negative_prompt);
        }
        let _ = write!(
            text,
            "\nSteps: {}, Sampler: Euler, Schedule type: Simple, CFG scale: {}, Seed: {}, Size: {}x{}",
            self.steps,
            self.guidance + 1.0,
            self.seed,
            self.width,
            self.height
        );
        if let Some(file) = self.files.iter().find(|file| file.path.contains("transformer")) {
            let _ = write!(text, ", Model hash: {}", file.sha256.get(..10).unwrap_or(&file.sha256));
        }
        let _ = write!(text, ", Model: {}", quoted(&self.model));
        if let TaskRecord::ImageToImage { strength, .. } | TaskRecord::Inpaint { strength, .. } = &self.task {
            let _ = write!(text, ", Denoising strength: {strength}");
        }
        if !self.loras.is_empty() {
            let hash = |lora: &LoraRecord| format!("{}: {}", lora.name, lora.sha256.get(..10).unwrap_or(&lora.sha256));
            let hashes: Vec<String> = self.loras.iter().map(hash).collect();
            let _ = write!(text, ", Lora hashes: {}", Value::from(hashes.join(", ")));
        }
        if !self.cache.is_none() {
            let _ = write!(text, ", Step cache: {}", self.cache);
        }
        let _ = write!(text, ", Shift: {}, Version: zimage {}", self.shift, self.versions.zimage);
        text
    }
}

/// The web UI quotes values that would break its comma separated list, as JSON strings.
fn quoted(value: &str) -> String {
    if value.contains([',', ':', '\n', '"']) { Value::from(value).to_string() } else { value.into() }
}

/// A JSON value with sorted keys and no spaces, whichever map type `serde_json` was built with.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            let fields =
                entries.into_iter().map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests;
