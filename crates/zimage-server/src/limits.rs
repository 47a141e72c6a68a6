//! What a client may ask for. Everything is checked before any work is done.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

/// Limits of single requests; those of the queue are [`crate::queue::QueueLimits`].
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Limits {
    /// Width times height.
    pub max_pixels: u64,
    /// Width or height.
    pub max_side: u32,
    /// Forward passes.
    pub max_steps: u32,
    /// Pictures of one job.
    pub max_n: u32,
    /// Characters of a prompt.
    pub max_prompt_chars: usize,
    /// LoRAs of one job.
    pub max_loras: usize,
    /// Pixels of an uploaded picture.
    pub max_upload_pixels: u64,
    /// Bytes of an uploaded picture.
    pub max_upload_bytes: usize,
    /// Bytes of any other request.
    pub max_body_bytes: usize,
    /// Pictures in one upload.
    pub max_parts: usize,
    /// How long a client may take to send its request.
    #[serde(skip)]
    pub body_timeout: Duration,
    /// How long a job may wait for its turn.
    #[serde(skip)]
    pub wait_timeout: Option<Duration>,
    /// How long a job may run.
    #[serde(skip)]
    pub run_timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_pixels: 4 << 20,
            max_side: 4096,
            max_steps: 50,
            max_n: 10,
            max_prompt_chars: 32_000,
            max_loras: 8,
            max_upload_pixels: 16_000_000,
            max_upload_bytes: 50 << 20,
            max_body_bytes: 1 << 20,
            max_parts: 64,
            body_timeout: Duration::from_secs(60),
            wait_timeout: None,
            run_timeout: None,
        }
    }
}
