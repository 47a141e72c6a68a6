//! What tests put in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;
use zimage::pipeline::cache::StepCache;
use zimage_server::job::{Format, ImageRecord, JobSpec, Millis, Priority, Sha256, Tokens};
use zimage_server::queue::{Clock, NewJob};
use zimage_server::store::Database;

/// A clock that stands until it is moved.
#[derive(Clone)]
pub struct Watch(Arc<AtomicU64>);

impl Watch {
    pub fn new() -> Watch {
        Watch(Arc::new(AtomicU64::new(1_700_000_000_000)))
    }

    pub fn now(&self) -> Millis {
        self.0.load(Ordering::SeqCst)
    }

    pub fn pass(&self, ms: Millis) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    pub fn clock(&self) -> Clock {
        let time = self.0.clone();
        Arc::new(move || time.load(Ordering::SeqCst))
    }
}

pub fn spec() -> JobSpec {
    JobSpec {
        model: "demo".into(),
        prompt: "a red balloon".into(),
        negative_prompt: String::new(),
        width: 64,
        height: 64,
        steps: 4,
        seed: 1,
        n: 1,
        guidance: 0.1,
        cfg_normalization: 0.0,
        cfg_truncation: 1.0,
        shift: None,
        cache: StepCache::None,
        loras: Vec::new(),
        start: None,
        format: Format::Png,
        quality: None,
    }
}

pub fn new_job(owner: &str) -> NewJob {
    NewJob {
        spec: spec(),
        owner: owner.into(),
        priority: Priority::Interactive,
        front: false,
        idempotency_key: None,
        tokens: Tokens { used: 5, dropped: 0 },
    }
}

/// A picture that differs from others by its prompt only.
pub fn picture(prompt: &str, created_ms: Millis) -> ImageRecord {
    ImageRecord {
        sha256: Sha256::of(prompt.as_bytes()),
        job: None,
        index: 0,
        seed: u64::MAX,
        width: 64,
        height: 48,
        format: Format::Webp,
        size_bytes: 1234,
        created_ms,
        favourite: false,
        prompt: prompt.into(),
    }
}

pub fn database(home: &TempDir) -> Arc<Database> {
    Arc::new(Database::open(&home.path().join("zimage.db")).unwrap())
}
