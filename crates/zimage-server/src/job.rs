//! A job: what a client asked for, what became of it, and what happened on the way.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use zimage::pipeline::cache::StepCache;

/// Milliseconds since 1970.
pub type Millis = u64;

/// Names a job. Ids of later jobs sort behind those of earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, example = "01990b53-6c5e-7cc3-8b3c-1f2a7c3d9e10")]
pub struct JobId(Uuid);

impl JobId {
    /// A new id.
    #[allow(clippy::new_without_default)] // every one is another
    pub fn new() -> JobId {
        JobId(Uuid::now_v7())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for JobId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<JobId, uuid::Error> {
        text.parse().map(JobId)
    }
}

/// SHA-256 of a file, 64 digits of lower case hexadecimal. Files are named by it and by nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
pub struct Sha256(String);

impl Sha256 {
    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Sha256 {
        use sha2::Digest;
        Sha256(sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Sha256 {
    type Error = String;

    fn try_from(text: String) -> Result<Sha256, String> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_digit) { Ok(Sha256(text)) } else { Err("not a SHA-256".into()) }
    }
}

impl From<Sha256> for String {
    fn from(sha256: Sha256) -> String {
        sha256.0
    }
}

/// Which of two lines a job waits in. Interactive jobs go first, but never all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Someone waits for it.
    #[default]
    Interactive,
    /// Nobody does.
    Batch,
}

/// The file format of a job's pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Lossless.
    #[default]
    Png,
    /// Lossy.
    Jpeg,
    /// WebP, lossless.
    Webp,
}

impl Format {
    /// The ending of its files' names.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Png => "png",
            Format::Jpeg => "jpg",
            Format::Webp => "webp",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Png => "image/png",
            Format::Jpeg => "image/jpeg",
            Format::Webp => "image/webp",
        }
    }
}

/// A LoRA of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LoraChoice {
    /// Its name in the list of capabilities.
    pub id: String,
    /// How strongly it acts; 1 as it was trained.
    pub weight: f64,
}

/// The picture that a job starts from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StartImage {
    /// An uploaded picture, or one of the gallery.
    pub image: Sha256,
    /// White where to paint; without it all is painted anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Sha256>,
    /// How much of the schedule is run, from 0 to 1.
    pub strength: f64,
}

/// Everything that decides what a job's pictures are, with no default left open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobSpec {
    /// Name of the model in the list of capabilities.
    pub model: String,
    /// What the pictures show.
    pub prompt: String,
    /// What they must not show; acts when `guidance` is above 0.
    pub negative_prompt: String,
    /// Pixels, a multiple of 16.
    pub width: u32,
    /// Pixels, a multiple of 16.
    pub height: u32,
    /// Forward passes of the whole schedule.
    pub steps: u32,
    /// Seed of the first picture; the others count up.
    pub seed: u64,
    /// Number of pictures.
    pub n: u32,
    /// `pos + guidance (pos - neg)`; 0 is off.
    pub guidance: f64,
    /// Caps the norm of the guided prediction; 0 is off.
    pub cfg_normalization: f64,
    /// Guidance stops at times above this.
    pub cfg_truncation: f64,
    /// Shift of the schedule; the model's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<f64>,
    /// Step caching: `none`, `slow`, `medium`, `fast`.
    #[schema(value_type = String)]
    pub cache: StepCache,
    /// LoRAs, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<LoraChoice>,
    /// The picture to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartImage>,
    /// Format of the files.
    pub format: Format,
    /// Quality of JPEG files, 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<u8>,
}

impl JobSpec {
    /// What it costs, in pixels times steps: the unit of fairness.
    pub fn cost(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * u64::from(self.steps) * u64::from(self.n)
    }

    /// Jobs with equal keys can share steps: the same weights, and the same number of tokens of the picture.
    pub fn batch_key(&self) -> String {
        let loras = serde_json::to_string(&self.loras).expect("LoRAs have a JSON form: this is a bug");
        format!("{}\n{}x{}\n{loras}", self.model, self.width, self.height)
    }
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits.
    Queued,
    /// A worker has it.
    Running,
    /// All pictures are there.
    Done,
    /// It ended without all pictures; the error says why.
    Failed,
    /// A client took it back.
    Cancelled,
}

impl JobState {
    /// Whether nothing more will happen to it.
    pub fn is_final(self) -> bool {
        matches!(self, JobState::Done | JobState::Failed | JobState::Cancelled)
    }
}

/// Why a job failed. Clients may rely on the codes; messages are for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// Memory did not suffice.
    OutOfMemory,
    /// A value that is infinite or not a number came out of a layer.
    NotFinite,
    /// The model or a LoRA is missing or cannot be used.
    ModelUnusable,
    /// The model cannot serve the request.
    InvalidRequest,
    /// It took longer than the limit.
    TimedOut,
    /// Several workers died over it.
    Abandoned,
    /// Our bug.
    Internal,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// For programs.
    pub code: FailureCode,
    /// For people; it names no path and no internals.
    pub message: String,
}

/// How far a running job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// The picture that is being made, from 0.
    pub image: u32,
    /// Steps of it that are done.
    pub step: u32,
    /// Steps that it takes.
    pub steps: u32,
}

/// A finished picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImageRecord {
    /// SHA-256 of the file; its address is `/files/{sha256}.{extension}`.
    pub sha256: Sha256,
    /// The job that made it; absent for pictures restored from files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// Its place in the job.
    pub index: u32,
    /// The seed that was used.
    pub seed: u64,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Format of the file.
    pub format: Format,
    /// Length of the file.
    pub size_bytes: u64,
    /// When it was finished.
    pub created_ms: Millis,
    /// Whether it was marked.
    #[serde(default)]
    pub favourite: bool,
    /// Its prompt.
    pub prompt: String,
}

/// A job as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Where it is.
    pub state: JobState,
    /// What was asked for.
    pub spec: JobSpec,
    /// Which line it waits in.
    pub priority: Priority,
    /// Who asked: a key's name, an address, or what the client said. Never shown to others.
    #[serde(skip)]
    pub owner: String,
    /// When it was submitted.
    pub created_ms: Millis,
    /// When a worker first took it.
    pub started_ms: Option<Millis>,
    /// When it reached its final state.
    pub finished_ms: Option<Millis>,
    /// How often a worker took it.
    pub attempts: u32,
    /// How far it is, while it runs.
    pub progress: Option<Progress>,
    /// Jobs before it, while it waits.
    pub position: Option<u32>,
    /// Time until it is done, where past jobs tell; the queue itself leaves it out.
    pub eta_ms: Option<Millis>,
    /// Pictures so far, by index.
    pub images: Vec<ImageRecord>,
    /// Why it failed.
    pub error: Option<Failure>,
    /// Tokens of the prompt that were used, and those beyond the model's limit.
    pub tokens: Tokens,
}

/// Tokens of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// Those that the model reads.
    pub used: u32,
    /// Those beyond its limit, which were cut off.
    pub dropped: u32,
}

/// Something that happened. Numbers rise over all jobs, so that a client that missed some can ask for the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number.
    pub seq: u64,
    /// The job that it is about.
    pub job: JobId,
    /// When it happened.
    pub at_ms: Millis,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened to a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// It was submitted, or given back by a worker.
    Queued,
    /// A worker took it.
    Running,
    /// A step is done. The preview of it is at `/api/v1/jobs/{id}/preview`.
    Step(Progress),
    /// A picture is finished. Its job is the event's.
    Image(ImageRecord),
    /// All pictures are there.
    Done,
    /// It failed.
    Failed(Failure),
    /// It was cancelled.
    Cancelled,
}

impl EventKind {
    /// Its name, as in the field `type` and in the `event:` line of a stream.
    pub fn name(&self) -> &'static str {
        match self {
            EventKind::Queued => "queued",
            EventKind::Running => "running",
            EventKind::Step(_) => "step",
            EventKind::Image(_) => "image",
            EventKind::Done => "done",
            EventKind::Failed(_) => "failed",
            EventKind::Cancelled => "cancelled",
        }
    }
}
