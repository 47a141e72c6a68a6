//! The settings of a picture or a text, to be taken over. Nothing is stored.

use axum::extract::{DefaultBodyLimit, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zimage::pipeline::image::ImageError;
use zimage::pipeline::metadata::Embedded;

use super::App;
use super::error::{Body, Problem};
use super::extract::{Json, PictureForm, longest_form};
use super::infotext::Infotext;
use super::restore::{from_metadata, known_loras, known_model, known_seed, known_side, known_steps};
use crate::draft::Draft;
use crate::refusal::Refusal;
use crate::service::Service;

pub(super) fn routes(app: &App) -> OpenApiRouter<App> {
    let of_picture = OpenApiRouter::new().routes(routes!(of_picture)).layer(DefaultBodyLimit::max(longest_form(app)));
    of_picture.merge(OpenApiRouter::new().routes(routes!(of_text)))
}

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
struct Settings {
    /// A request by these settings.
    draft: Option<Draft>,
    /// The text that other programs read.
    parameters: Option<String>,
    /// Where the settings come from.
    source: Source,
    /// What could not be taken over, and what was changed.
    notes: Vec<String>,
}

/// Where settings come from.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Source {
    /// A picture of this program.
    Zimage,
    /// The text of the Stable Diffusion web UI.
    A1111,
    /// There are none.
    None,
}

/// Reads the settings of a picture.
#[utoipa::path(
    post, path = "/api/v1/metadata", tag = "pictures",
    request_body(content = PictureForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "Its settings, as far as this server can use them", body = Settings),
        (status = 400, description = "It is no picture", body = Body, content_type = "application/problem+json"),
    ),
)]
async fn of_picture(
    State(app): State<App>,
    PictureForm { image }: PictureForm,
) -> Result<axum::Json<Settings>, Problem> {
    Ok(axum::Json(app.service.decode(move |service| read(service, &image)).await?))
}

/// A text.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Text {
    /// The text of the Stable Diffusion web UI.
    text: String,
}

/// Reads the settings of a text of the Stable Diffusion web UI.
#[utoipa::path(
    post, path = "/api/v1/metadata/text", tag = "pictures",
    request_body(content = Text, example = json!({ "text": "a red balloon\nSteps: 8, Seed: 5, Size: 512x512" })),
    responses((status = 200, description = "Its settings, as far as this server can use them", body = Settings)),
)]
async fn of_text(State(app): State<App>, Json(text): Json<Text>) -> Result<axum::Json<Settings>, Problem> {
    Ok(axum::Json(app.service.run(move |service| Ok(from_text(service, text.text))).await?))
}

fn read(service: &Service, bytes: &[u8]) -> Result<Settings, Refusal> {
    let mut notes = Vec::new();
    let embedded = match Embedded::from_image_bytes("the picture", bytes) {
        Ok(embedded) => embedded,
        Err(ImageError::Metadata { .. }) => {
            notes.push("its settings are damaged, or of a newer version".into());
            None
        }
        Err(ImageError::UnknownFormat { .. }) => {
            return Err(Refusal::invalid("image", "it is not a PNG, JPEG or WebP picture"));
        }
        Err(_) => return Err(Refusal::invalid("image", "the picture is damaged, or of a kind that is not read")),
    };
    Ok(match embedded {
        Some(Embedded { metadata: Some(metadata), parameters }) => {
            let (draft, notes) = from_metadata(service, &metadata);
            Settings { draft: Some(draft), parameters, source: Source::Zimage, notes }
        }
        Some(Embedded { metadata: None, parameters: Some(text) }) => from_text(service, text),
        _ => Settings { draft: None, parameters: None, source: Source::None, notes },
    })
}

fn from_text(service: &Service, text: String) -> Settings {
    if text.trim().is_empty() {
        return Settings { draft: None, parameters: None, source: Source::None, notes: Vec::new() };
    }
    let parts = Infotext::parse(&text);
    let mut notes = Vec::new();
    let draft = draft(service, &parts, &mut notes);
    Settings { draft: Some(draft), parameters: Some(text), source: Source::A1111, notes }
}

fn draft(service: &Service, parts: &Infotext, notes: &mut Vec<String>) -> Draft {
    let number = |name: &str| parts.get(name).and_then(|value| value.parse::<u64>().ok());
    let size = parts.get("size").and_then(|size| size.split_once('x'));
    let side = |side: &str| side.trim().parse::<u64>().ok();
    let draft = Draft {
        prompt: parts.prompt.clone(),
        negative_prompt: Some(parts.negative_prompt.clone()).filter(|text| !text.is_empty()),
        steps: number("steps").and_then(|steps| known_steps(service, steps, notes)),
        seed: number("seed").and_then(|seed| known_seed(seed, notes)),
        width: size.and_then(|(width, _)| known_side(service, side(width)?, "width", notes)),
        height: size.and_then(|(_, height)| known_side(service, side(height)?, "height", notes)),
        guidance: guidance(parts, notes),
        model: parts.get("model").and_then(|model| known_model(service, model, notes)),
        loras: known_loras(service, parts.loras.iter().cloned(), notes),
        shift: parts.get("shift").and_then(|shift| shift.parse().ok()).filter(|shift: &f64| shift.is_finite()),
        cache: parts.get("step cache").and_then(|cache| cache.parse().ok()),
        ..Draft::default()
    };
    note_others(parts, notes);
    draft
}

/// The web UI's scale weighs `neg + scale * (pos - neg)`. What other programs wrote is meant for models that need it; it
/// ruins the pictures of one that was distilled to need none.
fn guidance(parts: &Infotext, notes: &mut Vec<String>) -> Option<f64> {
    let scale = parts.get("cfg scale")?.parse::<f64>().ok().filter(|scale| scale.is_finite())?;
    if scale <= 1.0 || parts.get("version").is_some_and(|version| version.starts_with("zimage")) {
        return Some((scale - 1.0).max(0.0));
    }
    notes.push(format!("the CFG scale {scale} is meant for another kind of model"));
    None
}

fn note_others(parts: &Infotext, notes: &mut Vec<String>) {
    // What is taken over, and what says nothing about how to draw.
    let taken = ["steps", "seed", "size", "cfg scale", "model", "shift", "step cache"];
    let silent = ["sampler", "schedule type", "version", "model hash", "lora hashes", "hashes"];
    let is_other = |name: &&str| !taken.iter().chain(&silent).any(|known| known.eq_ignore_ascii_case(name));
    let others: Vec<&str> = parts.fields.iter().map(|(name, _)| name.as_str()).filter(is_other).collect();
    if !others.is_empty() {
        notes.push(format!("not taken over: {}", others.join(", ")));
    }
    if let Some(sampler) = parts.get("sampler").filter(|sampler| *sampler != "Euler") {
        notes.push(format!("the sampler is Euler, and not {sampler}"));
    }
}
