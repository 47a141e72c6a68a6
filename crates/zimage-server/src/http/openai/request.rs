//! What a request asks for, whether it came as JSON or as a form.

use serde::Deserialize;

use crate::draft::Draft;
use crate::http::fields::Fields;
use crate::http::openai::{ApiError, models, size};
use crate::job::{Format, LoraChoice, Sha256};
use crate::service::Service;

/// Partial pictures of a stream, unless every step is asked for.
const MAX_PARTIALS: u32 = 3;
/// A request that was understood.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What to make.
    pub draft: Draft,
    /// The quality, by the names that responses may have.
    pub quality: &'static str,
    /// How pictures are given.
    pub delivery: Delivery,
    /// The partial pictures of a stream; `None` for a plain response.
    pub stream: Option<Partials>,
    /// Stands for the client's user: a digest, since names are none of ours.
    pub user: Option<String>,
    /// Fields that had no effect.
    pub ignored: Vec<String>,
}

/// How pictures are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In the response.
    Base64,
    /// By address.
    Url,
}

/// Which partial pictures a stream shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partials {
    /// So many, spread evenly over the steps.
    Count(u32),
    /// One after each step.
    EveryStep,
}

#[derive(Deserialize)]
struct Lora {
    id: String,
    #[serde(alias = "weight")]
    scale: Option<f64>,
}

impl Asked {
    /// Takes the fields that both endpoints have.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn new(mut fields: Fields, service: &Service) -> Result<Asked, ApiError> {
        let fields = &mut fields;
        let model = models::resolve(fields.text("model")?.as_deref(), service.models())?;
        let prompt = fields.text("prompt")?.unwrap_or_default();
        if prompt.trim().is_empty() {
            return Err(ApiError::invalid(Some("prompt"), Some("missing_required_parameter"), "prompt: it is missing"));
        }
        let (quality, quality_steps) = quality(fields.text("quality")?.as_deref())?;
        let max_steps = service.limits().max_steps;
        let steps = either(fields.count("steps")?, fields.count("num_inference_steps")?);
        let mut draft = Draft { model: Some(model), prompt, n: fields.count("n")?, ..Draft::default() };
        draft.steps = Some(steps.unwrap_or(quality_steps.min(max_steps)));
        let wanted = fields.text("size")?.map(|text| size::parse(&text, service.limits())).transpose()?.flatten();
        (draft.width, draft.height) = wanted.unzip();
        extensions(fields, &mut draft)?;
        output(fields, &mut draft)?;
        let mut ignored = Vec::new();
        let delivery = delivery(fields)?;
        let stream = stream(fields)?;
        if stream.is_some() && delivery == Delivery::Url {
            ignored.push("response_format".into());
        }
        if draft.format == Some(Format::Webp) && draft.quality.take().is_some() {
            ignored.push("output_compression".into());
        }
        let user = either(fields.text("safety_identifier")?, fields.text("user")?);
        ignored.extend(fields.rest());
        Ok(Asked { draft, quality, delivery, stream, user: user.map(|user| digest(&user)), ignored })
    }
}

fn either<T>(first: Option<T>, second: Option<T>) -> Option<T> {
    first.or(second)
}

/// The name of a quality in responses, and its steps.
fn quality(asked: Option<&str>) -> Result<(&'static str, u32), ApiError> {
    Ok(match asked {
        Some("low") => ("low", 4),
        None | Some("auto" | "standard" | "medium") => ("medium", 8),
        Some("high" | "hd") => ("high", 12),
        Some("xhigh") => ("xhigh", 16),
        Some("max") => ("max", 24),
        Some(_) => {
            let message = "quality: it is one of low, medium, high, xhigh, max, auto, standard, hd";
            return Err(ApiError::unsupported("quality", message));
        }
    })
}

/// Fields that this server adds, by the names that others who serve this API have for them.
fn extensions(fields: &mut Fields, draft: &mut Draft) -> Result<(), ApiError> {
    draft.seed = match fields.integer("seed")? {
        Some(seed) => {
            let seed = u64::try_from(seed);
            Some(seed.map_err(|_| ApiError::invalid(Some("seed"), Some("invalid_value"), "seed: it is negative"))?)
        }
        None => None,
    };
    let scale = either(fields.number("guidance_scale")?, fields.number("cfg_scale")?);
    // As in diffusers: the number itself, and off unless it is above 1.
    draft.guidance = scale.map(|scale| if scale > 1.0 { scale } else { 0.0 });
    draft.negative_prompt = fields.text("negative_prompt")?;
    draft.shift = either(fields.number("shift")?, fields.number("time_shift")?);
    let loras: Option<Vec<Lora>> = fields.structure("lora")?;
    let choice = |lora: Lora| LoraChoice { id: lora.id, weight: lora.scale.unwrap_or(1.0) };
    draft.loras = loras.unwrap_or_default().into_iter().map(choice).collect();
    Ok(())
}

fn output(fields: &mut Fields, draft: &mut Draft) -> Result<(), ApiError> {
    draft.format = Some(match fields.text("output_format")?.as_deref() {
        None | Some("png") => Format::Png,
        Some("jpeg" | "jpg") => Format::Jpeg,
        Some("webp") => Format::Webp,
        Some(_) => return Err(ApiError::unsupported("output_format", "output_format: it is one of png, jpeg, webp")),
    });
    if let Some(compression) = fields.count("output_compression")? {
        draft.quality = match (draft.format, compression) {
            (_, 101..) => {
                return Err(ApiError::unsupported("output_compression", "output_compression: it runs from 0 to 100"));
            }
            // SDKs send the default along.
            (Some(Format::Png), 100) => None,
            (Some(Format::Png), _) => {
                let message = "output_compression: it is for jpeg and webp; a png loses nothing";
                return Err(ApiError::unsupported("output_compression", message));
            }
            (_, quality) => Some(quality.max(1) as u8),
        };
    }
    match fields.text("background")?.as_deref() {
        None | Some("opaque" | "auto") => Ok(()),
        Some(_) => Err(ApiError::unsupported("background", "background: pictures of this model are opaque")),
    }
}

fn delivery(fields: &mut Fields) -> Result<Delivery, ApiError> {
    match fields.text("response_format")?.as_deref() {
        None | Some("b64_json") => Ok(Delivery::Base64),
        Some("url") => Ok(Delivery::Url),
        Some(_) => Err(ApiError::unsupported("response_format", "response_format: it is one of b64_json, url")),
    }
}

fn stream(fields: &mut Fields) -> Result<Option<Partials>, ApiError> {
    let (stream, count) = (fields.flag("stream")?.unwrap_or_default(), fields.count("partial_images")?);
    let every_step = fields.flag("preview")?.unwrap_or_default();
    if count.is_some_and(|count| count > MAX_PARTIALS) {
        return Err(ApiError::unsupported("partial_images", format!("partial_images: {MAX_PARTIALS} is the most")));
    }
    let partials = if every_step { Partials::EveryStep } else { Partials::Count(count.unwrap_or_default()) };
    Ok(stream.then_some(partials))
}

/// What stands for a user in the queue and its logs.
fn digest(user: &str) -> String {
    const DIGITS: usize = 16;
    Sha256::of(user.as_bytes()).as_str()[..DIGITS].into()
}
