//! From what a picture says of itself back to the request that makes it again, as far as this server can.

use zimage::pipeline::metadata::{LoraRecord, Metadata, TaskRecord};
use zimage::pipeline::request::SIZE_MULTIPLE;

use crate::draft::{Draft, DraftStart};
use crate::job::{LoraChoice, Sha256};
use crate::service::Service;

/// Larger seeds are refused by the server, because they are no numbers of JavaScript.
const MAX_SEED: u64 = (1 << 53) - 1;

/// A request, and what of the picture could not be taken over.
pub fn from_metadata(service: &Service, metadata: &Metadata) -> (Draft, Vec<String>) {
    let mut notes = Vec::new();
    let draft = Draft {
        model: known_model(service, &metadata.model, &mut notes),
        prompt: metadata.prompt.clone(),
        negative_prompt: Some(metadata.negative_prompt.clone()).filter(|text| !text.is_empty()),
        width: known_side(service, metadata.width as u64, "width", &mut notes),
        height: known_side(service, metadata.height as u64, "height", &mut notes),
        steps: known_steps(service, metadata.steps as u64, &mut notes),
        seed: known_seed(metadata.seed, &mut notes),
        guidance: Some(metadata.guidance),
        cfg_normalization: Some(metadata.cfg_normalization),
        cfg_truncation: Some(metadata.cfg_truncation),
        shift: Some(metadata.shift),
        cache: Some(metadata.cache),
        loras: known_loras(service, metadata.loras.iter().map(choice), &mut notes),
        start: start(service, &metadata.task, &mut notes),
        ..Draft::default()
    };
    (draft, notes)
}

fn choice(lora: &LoraRecord) -> LoraChoice {
    LoraChoice { id: lora.name.clone(), weight: lora.weight }
}

/// The model, if this server has it under this name.
pub fn known_model(service: &Service, name: &str, notes: &mut Vec<String>) -> Option<String> {
    if service.models().names().iter().any(|known| known == name) {
        return Some(name.to_owned());
    }
    notes.push(format!("the model `{name}` is not here"));
    None
}

/// The LoRAs that this server has. Pictures name their files, and here they may lie in folders.
pub fn known_loras(
    service: &Service,
    loras: impl Iterator<Item = LoraChoice>,
    notes: &mut Vec<String>,
) -> Vec<LoraChoice> {
    let here = service.models().loras();
    let file = |id: &str| id.rsplit('/').next().unwrap_or(id).to_owned();
    let mut known = Vec::new();
    for LoraChoice { id, weight } in loras {
        let exact = here.iter().find(|lora| lora.id == id);
        match exact.or_else(|| here.iter().find(|lora| file(&lora.id) == id)) {
            Some(lora) => known.push(LoraChoice { id: lora.id.clone(), weight }),
            None => notes.push(format!("the LoRA `{id}` is not here")),
        }
    }
    known
}

/// The nearest side that can be drawn.
pub fn known_side(service: &Service, side: u64, name: &str, notes: &mut Vec<String>) -> Option<u32> {
    let multiple = SIZE_MULTIPLE as u64;
    let most = u64::from(service.limits().max_side) / multiple * multiple;
    let nearest = (side.saturating_add(multiple / 2) / multiple * multiple).clamp(multiple, most);
    if nearest != side {
        notes.push(format!("the {name} {side} became {nearest}, a multiple of {multiple} that can be drawn"));
    }
    u32::try_from(nearest).ok()
}

/// As many steps as may be asked for.
pub fn known_steps(service: &Service, steps: u64, notes: &mut Vec<String>) -> Option<u32> {
    let most = u64::from(service.limits().max_steps);
    let nearest = steps.clamp(1, most);
    if nearest != steps {
        notes.push(format!("{steps} steps became {nearest}; from 1 to {most} may be asked for"));
    }
    u32::try_from(nearest).ok()
}

/// The seed, if it can be asked for.
pub fn known_seed(seed: u64, notes: &mut Vec<String>) -> Option<u64> {
    if seed > MAX_SEED {
        notes.push(format!("the seed {seed} is larger than {MAX_SEED}"));
        return None;
    }
    Some(seed)
}

fn start(service: &Service, task: &TaskRecord, notes: &mut Vec<String>) -> Option<DraftStart> {
    let (image, mask, strength) = match task {
        TaskRecord::TextToImage => return None,
        TaskRecord::ImageToImage { init_image_sha256, strength } => (init_image_sha256, None, *strength),
        TaskRecord::Inpaint { init_image_sha256, mask_sha256, strength } => {
            (init_image_sha256, Some(mask_sha256), *strength)
        }
    };
    let here = |name: &String| {
        let sha256 = Sha256::try_from(name.clone()).ok()?;
        service.files().find(&sha256).ok().flatten().map(|_| sha256)
    };
    let Some(image) = here(image) else {
        notes.push("the picture that it started from is not here".into());
        return None;
    };
    let found = mask.map(here);
    if found == Some(None) {
        notes.push("the mask is not here".into());
    }
    Some(DraftStart { image, mask: found.flatten(), strength: Some(strength) })
}
