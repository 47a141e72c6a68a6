//! What tools give back as data.

use rmcp::schemars::JsonSchema;
use serde::Serialize;

use crate::job::{ImageRecord, Job, JobState};

/// Of the tools that make pictures, and of `get_job`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub struct JobResult {
    /// The id of the job.
    pub job: String,
    /// queued, running, done, failed or cancelled.
    pub state: String,
    /// The finished pictures.
    pub images: Vec<Picture>,
    /// How far it is, from 0 to 1.
    pub progress: f64,
    /// Jobs before it, while it waits.
    pub position: Option<u32>,
    /// Seconds until it is done, where earlier jobs tell.
    pub eta_s: Option<f64>,
    /// Why it failed.
    pub error: Option<String>,
    /// Tokens of the prompt beyond the model's limit, which were not read.
    pub truncated_tokens: u32,
}

/// A finished picture.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub struct Picture {
    /// Names it for edit_image.
    pub id: String,
    /// The resource with the whole file.
    pub uri: String,
    /// Where the server's web face has it.
    pub path: String,
    /// The seed that was used.
    pub seed: u64,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// Of `list_models`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub struct Models {
    /// The models, the default one first.
    pub models: Vec<Model>,
    /// Styles.
    pub loras: Vec<Style>,
}

/// A model.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Side of the square that it draws best.
    pub native_size: u32,
}

/// A style.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub struct Style {
    /// Its name.
    pub id: String,
    /// Words for the prompt that call it.
    pub trigger_words: Vec<String>,
}

/// Of `cancel_job`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub struct Cancellation {
    /// The id of the job.
    pub job: String,
    /// False when it had ended before.
    pub cancelled: bool,
}

/// The scheme and host of resources.
pub const IMAGES: &str = "zimage://images/";

impl JobResult {
    /// A job as tools tell of it.
    pub fn of(job: &Job) -> JobResult {
        JobResult {
            job: job.id.to_string(),
            state: state_name(job.state).into(),
            images: job.images.iter().map(Picture::of).collect(),
            progress: progress(job),
            position: job.position,
            eta_s: job.eta_ms.map(|eta| eta as f64 / 1000.0),
            error: job.error.as_ref().map(|failure| failure.message.clone()),
            truncated_tokens: job.tokens.dropped,
        }
    }
}

impl Picture {
    fn of(image: &ImageRecord) -> Picture {
        Picture {
            id: image.sha256.to_string(),
            uri: format!("{IMAGES}{}", image.sha256),
            path: format!("/files/{}.{}", image.sha256, image.format.extension()),
            seed: image.seed,
            width: image.width,
            height: image.height,
        }
    }
}

/// How far a job is, from 0 to 1.
pub fn progress(job: &Job) -> f64 {
    if job.state == JobState::Done {
        return 1.0;
    }
    let at = job.progress.unwrap_or_default();
    (f64::from(at.image) + f64::from(at.step) / f64::from(at.steps.max(1))) / f64::from(job.spec.n)
}

fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Done => "done",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}
