//! What a request asks for: defaults meant for other models are taken for what they are.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::draft::{Draft, DraftStart};
use crate::http::a1111::panel::Settings;
use crate::http::fields::Fields;
use crate::http::picture::{self, MaskKind};
use crate::job::Sha256;
use crate::refusal::Refusal;
use crate::service::Service;
use zimage::pipeline::request::SIZE_MULTIPLE;

/// The web UI's strength where a request says nothing.
const DEFAULT_STRENGTH: f64 = 0.75;
/// Settings of a request that would change the picture there, with the values at which they change nothing.
const WITHOUT_EFFECT: [&str; 8] = [
    "enable_hr",
    "restore_faces",
    "tiling",
    "styles",
    "subseed_strength",
    "script_name",
    "alwayson_scripts",
    "refiner_checkpoint",
];
/// The names of our own setting.
pub const HONOR_CFG: &str = "zimage_honor_cfg";
/// The name of the setting that chooses a model.
pub const CHECKPOINT: &str = "sd_model_checkpoint";

/// A request that was understood.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What to make.
    pub draft: Draft,
    /// What was asked for and not done, by the field's name.
    pub notes: Notes,
    /// The request as it came, without its pictures.
    pub echo: Map<String, Value>,
    /// Whether the response carries the pictures.
    pub send_images: bool,
}

/// What was asked for and not done, by the field's name.
pub type Notes = BTreeMap<&'static str, String>;

impl Asked {
    /// Takes the fields that both endpoints have.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] names the field.
    pub fn from_text(fields: &mut Fields, settings: &Settings, service: &Service) -> Result<Asked, Refusal> {
        let mut echo = fields.as_map().clone();
        for picture in ["init_images", "mask"] {
            echo.entry(picture).and_modify(|value| *value = Value::Null);
        }
        let mut notes = Notes::new();
        let mut draft = Draft { prompt: fields.text("prompt")?.unwrap_or_default(), ..Draft::default() };
        draft.negative_prompt = fields.text("negative_prompt")?;
        draft.seed = fields.integer("seed")?.and_then(|seed| u64::try_from(seed).ok()); // -1 draws one
        draft.width = side(fields, "width", &mut notes)?;
        draft.height = side(fields, "height", &mut notes)?;
        draft.n = pictures(fields)?;
        draft.steps = fields.count("steps")?.map(|steps| capped(steps, service.limits().max_steps, &mut notes));
        override_settings(fields, settings, &mut draft, &mut notes)?;
        sampling(fields, &mut notes)?;
        if draft.prompt.contains("<lora:") {
            notes.insert("loras", "LoRAs in prompts are not read".into());
        }
        let send_images = fields.flag("send_images")?.unwrap_or(true);
        Ok(Asked { draft, notes, echo, send_images })
    }

    /// Takes the fields of a request that brings a picture.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] names the field.
    pub fn from_image(fields: &mut Fields, settings: &Settings, service: &Service) -> Result<Asked, Refusal> {
        let mut asked = Asked::from_text(fields, settings, service)?;
        let images: Vec<String> = fields.structure("init_images")?.unwrap_or_default();
        let Some(image) = images.first() else {
            return Err(Refusal::invalid("init_images", "init_images: it is missing"));
        };
        if images.len() > 1 {
            asked.notes.insert("init_images", "all but the first are left out".into());
        }
        let limits = service.limits();
        let image = service.upload(&picture::from_base64("init_images", image, limits)?)?.sha256;
        let mask = mask(fields, service)?;
        if mask.is_some() && fields.number("mask_blur")?.is_some_and(|blur| blur > 0.0) {
            asked.notes.insert("mask_blur", "masks are not blurred".into());
        }
        let strength = Some(fields.number("denoising_strength")?.unwrap_or(DEFAULT_STRENGTH));
        asked.draft.start = Some(DraftStart { image, mask, strength });
        Ok(asked)
    }
}

fn mask(fields: &mut Fields, service: &Service) -> Result<Option<Sha256>, Refusal> {
    let inverted = fields.integer("inpainting_mask_invert")?.is_some_and(|invert| invert != 0);
    let Some(mask) = fields.text("mask")? else { return Ok(None) };
    let kind = if inverted { MaskKind::BlackOrTransparent } else { MaskKind::WhiteOrOpaque };
    let mask = picture::mask(&picture::from_base64("mask", &mask, service.limits())?, kind, service.limits())?;
    Ok(Some(service.upload(&mask)?.sha256))
}

/// The web UI takes multiples of 8, this model multiples of 16.
fn side(fields: &mut Fields, name: &'static str, notes: &mut Notes) -> Result<Option<u32>, Refusal> {
    let Some(asked) = fields.count(name)? else { return Ok(None) };
    let multiple = SIZE_MULTIPLE as u32;
    let side = (asked.saturating_add(multiple / 2) / multiple).max(1) * multiple;
    if side != asked {
        notes.insert(name, format!("{side} instead of {asked}, a multiple of {multiple}"));
    }
    Ok(Some(side))
}

fn pictures(fields: &mut Fields) -> Result<Option<u32>, Refusal> {
    let (size, count) = (fields.count("batch_size")?.unwrap_or(1), fields.count("n_iter")?.unwrap_or(1));
    let n = size.checked_mul(count);
    n.map(Some).ok_or_else(|| Refusal::invalid("batch_size", "batch_size: it is out of range"))
}

fn capped(steps: u32, max_steps: u32, notes: &mut Notes) -> u32 {
    if steps > max_steps {
        notes.insert("steps", format!("{max_steps} instead of {steps}, the limit"));
    }
    steps.min(max_steps)
}

fn override_settings(
    fields: &mut Fields,
    settings: &Settings,
    draft: &mut Draft,
    notes: &mut Notes,
) -> Result<(), Refusal> {
    let overrides: Option<Map<String, Value>> = fields.structure("override_settings")?;
    let mut overrides = overrides.unwrap_or_default();
    let checkpoint = overrides.remove(CHECKPOINT).and_then(|name| name.as_str().map(str::to_owned));
    draft.model = checkpoint.filter(|name| !name.is_empty()).or_else(|| settings.checkpoint.clone());
    let honor_cfg = overrides.remove(HONOR_CFG).and_then(|honor| honor.as_bool()).unwrap_or(settings.honor_cfg);
    if !overrides.is_empty() {
        notes.insert("override_settings", "only sd_model_checkpoint and zimage_honor_cfg have an effect".into());
    }
    match fields.number("cfg_scale")? {
        // The web UI weighs `neg + scale (pos - neg)`, ours is `pos + guidance (pos - neg)`.
        Some(scale) if honor_cfg => draft.guidance = Some((scale - 1.0).max(0.0)),
        Some(scale) if scale > 1.0 => {
            notes
                .insert("cfg_scale", format!("1 instead of {scale}: the model is distilled; {HONOR_CFG} makes it act"));
        }
        _ => {}
    }
    Ok(())
}

fn sampling(fields: &mut Fields, notes: &mut Notes) -> Result<(), Refusal> {
    let (name, index) = (fields.text("sampler_name")?, fields.take("sampler_index"));
    let sampler = name.or_else(|| index.and_then(|index| index.as_str().map(str::to_owned)));
    if let Some(sampler) = sampler.filter(|sampler| !sampler.eq_ignore_ascii_case("euler")) {
        notes.insert("sampler_name", format!("Euler instead of {}", shown(&sampler)));
    }
    let scheduler = fields.text("scheduler")?.filter(|name| !name.eq_ignore_ascii_case("automatic"));
    if let Some(scheduler) = scheduler {
        notes.insert("scheduler", format!("Automatic instead of {}", shown(&scheduler)));
    }
    for name in WITHOUT_EFFECT {
        if fields.take(name).is_some_and(|value| says_something(&value)) {
            notes.insert(name, "it has no effect".into());
        }
    }
    Ok(())
}

/// A name from a request, not longer than names are.
fn shown(name: &str) -> String {
    name.chars().take(40).collect()
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty() && text != "None",
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}
