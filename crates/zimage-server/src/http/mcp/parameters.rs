//! What tools take, and what they say of it to language models.

use rmcp::schemars::JsonSchema;
use serde::Deserialize;

use crate::draft::Draft;
use crate::job::LoraChoice;

/// Of `generate_image`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct GenerateImage {
    /// What the picture shows: a description in a sentence or more. Text in quotes is written into the picture.
    pub prompt: String,
    #[serde(flatten)]
    pub settings: Settings,
}

/// Of `edit_image`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct EditImage {
    /// The picture to start from: the id of an earlier picture, its zimage://images/ address, or a data URL with base64
    /// (PNG, JPEG or WebP). Paths of files are not read.
    pub image: String,
    /// What the whole picture shows afterwards.
    pub prompt: String,
    /// How much is painted anew, from 0 (nothing) to 1 (everything); 0.6 if absent.
    pub strength: Option<f64>,
    /// Where to paint, in the same forms as `image`: white is painted anew, black is kept. Without it all is painted.
    pub mask: Option<String>,
    #[serde(flatten)]
    pub settings: Settings,
}

/// Settings of both.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub struct Settings {
    /// Pixels, a multiple of 16.
    pub width: Option<u32>,
    /// Pixels, a multiple of 16.
    pub height: Option<u32>,
    /// Passes over the picture; 8 if absent, and more are seldom better.
    pub steps: Option<u32>,
    /// The same seed and settings give the same picture; drawn if absent.
    pub seed: Option<u64>,
    /// How many pictures, 1 to 10.
    pub n: Option<u32>,
    /// What the picture must not show. It acts only with guidance above 0.
    pub negative_prompt: Option<String>,
    /// How strongly the prompt acts beyond what the model does by itself; 0 if absent, which suits the model best.
    pub guidance: Option<f64>,
    /// Styles from list_models.
    pub lora: Option<Vec<Lora>>,
    /// The name of a model from list_models; the first of them if absent.
    pub model: Option<String>,
}

/// A style.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Its name in list_models.
    pub id: String,
    /// How strongly it acts; 1 if absent.
    pub scale: Option<f64>,
}

/// Of `get_job` and `cancel_job`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct JobName {
    /// The id of the job.
    pub id: String,
}

impl Settings {
    /// The request for this prompt.
    pub fn into_draft(self, prompt: String) -> Draft {
        let choice = |lora: Lora| LoraChoice { id: lora.id, weight: lora.scale.unwrap_or(1.0) };
        Draft {
            model: self.model,
            prompt,
            negative_prompt: self.negative_prompt,
            width: self.width,
            height: self.height,
            steps: self.steps,
            seed: self.seed,
            n: self.n,
            guidance: self.guidance,
            loras: self.lora.unwrap_or_default().into_iter().map(choice).collect(),
            ..Draft::default()
        }
    }
}
