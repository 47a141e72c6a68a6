//! A service from a home directory: what `serve`, `mcp` and tests all begin with.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zimage::ComputeChoice;

use crate::job::Sha256;
use crate::limits::Limits;
use crate::models::Models;
use crate::queue::{QueueError, QueueLimits, SqliteQueue, system_clock};
use crate::service::{Parts, Place, Service};
use crate::store::{Database, Files, Gallery, Keys};
use crate::worker::{Presence, WorkerOptions};

/// Leases are renewed this often within their length.
const BEATS_PER_LEASE: u64 = 3;
/// Deleted pictures can be brought back for this long, and uploads wait so long for a job.
const UNDO: Duration = Duration::from_secs(24 * 3600);

/// What a service is opened with.
pub struct Settings {
    /// Has `zimage.db`, `images/` and `inputs/`.
    pub home: PathBuf,
    /// Models and LoRAs.
    pub models: Arc<dyn Models>,
    /// Limits of requests.
    pub limits: Limits,
    /// Limits of the queue.
    pub queue_limits: QueueLimits,
    /// Where to compute: a worker for each. Requests are planned for the one with the least memory, so that any worker
    /// can take any job.
    pub places: Vec<Place>,
    /// With which arithmetic.
    pub compute: ComputeChoice,
    /// Jobs that may share a step.
    pub max_batch: usize,
    /// How long an idle worker keeps its model; for ever if absent.
    pub keep_alive: Option<Duration>,
}

impl Settings {
    /// The usual ones.
    pub fn new(home: PathBuf, models: Arc<dyn Models>, places: Vec<Place>) -> Settings {
        const MAX_BATCH: usize = 4;
        Settings {
            home,
            models,
            limits: Limits::default(),
            queue_limits: QueueLimits::default(),
            places,
            compute: ComputeChoice::default(),
            max_batch: MAX_BATCH,
            keep_alive: None,
        }
    }
}

/// Why a service cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The home directory cannot be used.
    #[error("{} cannot be used: {source}", home.display())]
    Home {
        /// The directory.
        home: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The database cannot be used.
    #[error("{} cannot be used: {source}\nhint: move it away, and `zimage db rebuild` finds the pictures again", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: QueueError,
    },
}

/// A service, and what its workers and its HTTP face need beside it.
pub struct Opened {
    /// The service.
    pub service: Arc<Service>,
    /// The API keys.
    pub keys: Keys,
    /// For [`crate::worker::start`], one for each place.
    pub workers: Vec<WorkerOptions>,
}

/// Opens the stores of a home directory.
///
/// # Errors
/// [`SetupError`], naming the file.
pub fn open(settings: Settings) -> Result<Opened, SetupError> {
    let home = &settings.home;
    let unusable = |source| SetupError::Home { home: home.clone(), source };
    fs::create_dir_all(home).map_err(unusable)?;
    let path = home.join("zimage.db");
    let damaged = |source| SetupError::Database { path: path.clone(), source };
    let database = Arc::new(Database::open(&path).map_err(damaged)?);
    let files = Files::open(home).map_err(unusable)?;
    let clock = system_clock();
    let gallery = Gallery::new(Arc::clone(&database), clock.clone());
    purge(&gallery, &files, clock()).map_err(damaged)?;
    let queue = SqliteQueue::new(Arc::clone(&database), settings.queue_limits, clock.clone());
    let keys = Keys::new(database, clock.clone());
    let place = settings.places.iter().min_by_key(|place| place.budget.bytes());
    let place = place.expect("a service has a place to compute: this is a bug").clone();
    let service = Service::new(Parts {
        queue: Arc::new(queue),
        gallery,
        files,
        models: settings.models,
        limits: settings.limits,
        place,
        clock,
    });
    let worker = |place: Place| -> io::Result<WorkerOptions> {
        Ok(WorkerOptions {
            place,
            compute: settings.compute,
            max_batch: settings.max_batch,
            keep_alive: settings.keep_alive,
            heartbeat: Duration::from_millis(settings.queue_limits.lease_ms / BEATS_PER_LEASE),
            presence: Presence::announce(home)?,
        })
    };
    let workers = settings.places.into_iter().map(worker).collect::<io::Result<_>>().map_err(unusable)?;
    Ok(Opened { service: Arc::new(service), keys, workers })
}

/// Removes what was deleted long ago, and uploads that no job came of.
fn purge(gallery: &Gallery, files: &Files, now: u64) -> Result<(), QueueError> {
    for image in gallery.purge(now.saturating_sub(UNDO.as_millis() as u64))? {
        if let Err(error) = files.remove_image(&image.sha256, image.format) {
            tracing::warn!("a deleted picture stays on the disk: {error}");
        }
    }
    // Where the database can't tell, the upload stays.
    let is_used = |sha256: &Sha256| gallery.is_start_of_a_job(sha256).unwrap_or(true);
    if let Err(error) = files.remove_inputs(UNDO, is_used) {
        tracing::warn!("unused uploads stay on the disk: {error}");
    }
    Ok(())
}
