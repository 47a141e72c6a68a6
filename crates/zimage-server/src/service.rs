//! What every client speaks to, whatever its dialect: jobs, their events and previews, uploads, the gallery.
//!
//! All methods but [`Service::wait`] and [`Changes::next`] are synchronous; from asynchronous code they are called by
//! [`Service::run`], which takes them off the runtime's threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use zimage::pipeline::image::InitImage;
use zimage::pipeline::plan::Budget;
use zimage::pipeline::request::GenerateRequest;
use zimage::{Device, Pipeline, Task};

use crate::bell::Bell;
use crate::capabilities::{Capabilities, ModelInfo};
use crate::draft::{Draft, ModelDefaults, options};
use crate::job::{Event, ImageRecord, Job, JobId, JobSpec, JobState, Millis, Sha256, Tokens};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::models::Models;
use crate::preview::Previews;
use crate::queue::{Cancelled, Clock, NewJob, Queue, QueueError, Submitted};
use crate::refusal::Refusal;
use crate::speed::Speed;
use crate::store::{Files, Gallery};

/// Changes made by other processes on the same database are noticed after this time.
const OTHERS: Duration = Duration::from_secs(1);
/// Pictures of strangers that are decoded at the same time: each may take some hundred megabytes.
const DECODERS: usize = 2;
/// Clients that are told to come back later come back within this time; SDKs give up on longer ones.
const MAX_RETRY_AFTER_S: u64 = 120;

/// What a [`Service`] is made of.
pub struct Parts {
    /// The jobs.
    pub queue: Arc<dyn Queue>,
    /// The finished pictures.
    pub gallery: Gallery,
    /// Their files.
    pub files: Files,
    /// Models and LoRAs.
    pub models: Arc<dyn Models>,
    /// What may be asked for.
    pub limits: Limits,
    /// Where requests are planned for.
    pub place: Place,
    /// Tells the time.
    pub clock: Clock,
}

/// See the module.
pub struct Service {
    queue: Arc<dyn Queue>,
    gallery: Gallery,
    files: Files,
    models: Arc<dyn Models>,
    limits: Limits,
    place: Place,
    clock: Clock,
    /// Models opened for their headers and tokenizers alone: to plan requests without the thread that owns the weights.
    planners: Mutex<BTreeMap<String, Arc<Pipeline>>>,
    changes: watch::Sender<u64>,
    gallery_changes: watch::Sender<u64>,
    bell: Bell,
    previews: Previews,
    speed: Speed,
    decoders: Semaphore,
    draining: AtomicBool,
    unload: AtomicUsize,
    enlisted: AtomicBool,
    workers: AtomicUsize,
    loaded: AtomicUsize,
    log_prompts: AtomicBool,
    metrics: Metrics,
}

/// A device, and what of its memory a picture may take.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where to compute.
    pub device: Device,
    /// The memory: the device's own, where it has some.
    pub budget: Budget,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The unit of fairness: the name of the key, else what the client says of its user, else its address.
    pub owner: String,
}

/// What a client learns when it stores a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    /// How it is asked for from now on.
    pub sha256: Sha256,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

impl Service {
    /// A service over its parts.
    pub fn new(parts: Parts) -> Service {
        Service {
            queue: parts.queue,
            gallery: parts.gallery,
            files: parts.files,
            models: parts.models,
            limits: parts.limits,
            place: parts.place,
            clock: parts.clock,
            planners: Mutex::default(),
            changes: watch::Sender::new(0),
            gallery_changes: watch::Sender::new(0),
            bell: Bell::default(),
            previews: Previews::default(),
            speed: Speed::default(),
            decoders: Semaphore::new(DECODERS),
            draining: AtomicBool::new(false),
            unload: AtomicUsize::new(0),
            enlisted: AtomicBool::new(false),
            workers: AtomicUsize::new(0),
            loaded: AtomicUsize::new(0),
            log_prompts: AtomicBool::new(false),
            metrics: Metrics::default(),
        }
    }

    /// Runs something synchronous off the runtime's threads.
    ///
    /// # Errors
    /// Those of `work`; [`Refusal::Internal`] when it panics.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Service>,
        work: impl FnOnce(&Service) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let service = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&service)).await;
        done.map_err(Refusal::internal)?
    }

    /// The same for work that decodes pictures: a few at a time, the others wait.
    ///
    /// # Errors
    /// As [`Service::run`].
    pub async fn decode<T: Send + 'static>(
        self: &Arc<Service>,
        work: impl FnOnce(&Service) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let _permit = self.decoders.acquire().await.map_err(Refusal::internal)?;
        self.run(work).await
    }

    /// Checks a request and puts it into the queue.
    ///
    /// # Errors
    /// Any [`Refusal`]; nothing was done then.
    pub fn submit(&self, draft: Draft, client: &Client, idempotency_key: Option<String>) -> Result<Submitted, Refusal> {
        self.refuse_while_draining()?;
        let (priority, front) = (draft.priority, draft.front);
        let planner = self.planner(draft.model.as_deref())?;
        let spec = draft.into_spec(&planner.defaults, &self.limits)?;
        let tokens = self.check(&spec, &planner.pipeline)?;
        if self.log_prompts.load(Ordering::Relaxed) {
            tracing::debug!(prompt = spec.prompt, negative_prompt = spec.negative_prompt, "submitted");
        }
        let owner = client.owner.clone();
        let submitted = self.queue.submit(NewJob { spec, owner, priority, front, idempotency_key, tokens });
        let submitted = submitted.map_err(|error| self.refused(error))?;
        self.metrics.submitted(submitted.repeated);
        self.changed();
        self.bell.ring();
        Ok(Submitted { job: self.with_eta(submitted.job), ..submitted })
    }

    /// Everything about a request that needs the model and the files.
    fn check(&self, spec: &JobSpec, pipeline: &Pipeline) -> Result<Tokens, Refusal> {
        for lora in &spec.loras {
            if self.models.lora_path(&lora.id).is_none() {
                return Err(Refusal::invalid("loras", format!("there is no LoRA `{}`", lora.id)));
            }
        }
        let task = self.task(spec)?;
        let request = GenerateRequest::new(options(spec, 0, task));
        let request = request.map_err(|error| Refusal::invalid("start", one_line(&error)))?;
        match pipeline.plan(&request, self.place.budget) {
            Ok(_) => {}
            Err(zimage::Error::Memory { .. }) => {
                return Err(Refusal::OutOfMemory { width: spec.width, height: spec.height });
            }
            Err(error @ (zimage::Error::Request { .. } | zimage::Error::Schedule(_))) => {
                return Err(Refusal::invalid(if spec.start.is_some() { "start" } else { "prompt" }, one_line(&error)));
            }
            Err(error) => return Err(Refusal::internal(error)),
        }
        let count = pipeline.count_tokens(&spec.prompt).map_err(Refusal::internal)?;
        Ok(Tokens { used: count.used as u32, dropped: count.dropped as u32 })
    }

    /// What a job starts from, read from the store.
    pub(crate) fn task(&self, spec: &JobSpec) -> Result<Task, Refusal> {
        let Some(start) = &spec.start else { return Ok(Task::TextToImage) };
        let read = |sha256: &Sha256, what: &'static str| {
            let file = self.files.find(sha256).map_err(Refusal::internal)?;
            Ok::<_, Refusal>(file.ok_or_else(|| Refusal::invalid("start", format!("there is no such {what}")))?.bytes)
        };
        let image = InitImage::from_bytes("the picture", &read(&start.image, "picture")?).map_err(Refusal::internal)?;
        let strength = start.strength;
        let Some(mask) = &start.mask else { return Ok(Task::ImageToImage { image, strength }) };
        let mask = zimage::pipeline::image::Mask::from_bytes("the mask", &read(mask, "mask")?);
        Ok(Task::Inpaint { image, mask: mask.map_err(Refusal::internal)?, strength })
    }

    /// A job, with its place in the queue and the time that is left.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn job(&self, id: JobId) -> Result<Job, Refusal> {
        let job = self.queue.job(id).map_err(Refusal::internal)?;
        Ok(self.with_eta(job.ok_or(Refusal::NotFound { what: "job" })?))
    }

    /// Jobs that wait or run.
    ///
    /// # Errors
    /// Those of the database.
    pub fn active(&self) -> Result<Vec<Job>, Refusal> {
        let mut jobs = self.queue.active().map_err(Refusal::internal)?;
        self.speed.estimate(&mut jobs, self.now());
        Ok(jobs)
    }

    /// Cancels a job.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn cancel(&self, id: JobId) -> Result<Cancelled, Refusal> {
        let cancelled = self.queue.cancel(id).map_err(Refusal::internal)?;
        if cancelled == Cancelled::Unknown {
            return Err(Refusal::NotFound { what: "job" });
        }
        if cancelled == Cancelled::Now {
            self.metrics.finished(JobState::Cancelled);
        }
        self.changed();
        Ok(cancelled)
    }

    /// Events behind number `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub fn events(&self, job: Option<JobId>, after: u64) -> Result<Vec<Event>, Refusal> {
        const AT_ONCE: usize = 1000;
        self.queue.events(job, after, AT_ONCE).map_err(Refusal::internal)
    }

    /// The number of the last event.
    ///
    /// # Errors
    /// Those of the database.
    pub fn last_seq(&self) -> Result<u64, Refusal> {
        self.queue.last_seq().map_err(Refusal::internal)
    }

    /// Waits until a job has ended.
    ///
    /// # Errors
    /// As [`Service::job`].
    pub async fn wait(self: &Arc<Service>, id: JobId) -> Result<Job, Refusal> {
        let mut changes = self.changes();
        loop {
            let job = self.run(move |service| service.job(id)).await?;
            if job.state.is_final() {
                return Ok(job);
            }
            changes.next().await;
        }
    }

    /// Tells when something has happened to any job.
    pub fn changes(&self) -> Changes {
        Changes(self.changes.subscribe())
    }

    /// Tells when favourites or deletions have changed.
    pub fn gallery_changes(&self) -> Changes {
        Changes(self.gallery_changes.subscribe())
    }

    /// Says that something has happened to a job.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Says that favourites or deletions have changed.
    pub fn gallery_changed(&self) {
        self.gallery_changes.send_modify(|count| *count += 1);
    }

    /// Stores an uploaded picture: decoded within the limits, and encoded anew, so that no byte of the client's remains.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::TooLarge`].
    pub fn upload(&self, bytes: &[u8]) -> Result<Upload, Refusal> {
        if bytes.len() > self.limits.max_upload_bytes {
            return Err(Refusal::TooLarge { limit_bytes: self.limits.max_upload_bytes });
        }
        let image = InitImage::from_bytes_within("the picture", bytes, self.limits.max_upload_pixels);
        let image = image.map_err(|error| Refusal::invalid("image", picture_problem(&error, &self.limits)))?;
        let png = image.image().encode(zimage::pipeline::image::ImageFormat::Png, None).map_err(Refusal::internal)?;
        let sha256 = self.files.write_input(&png).map_err(Refusal::internal)?;
        Ok(Upload { sha256, width: image.image().width() as u32, height: image.image().height() as u32 })
    }

    /// What can be asked for.
    pub fn capabilities(&self) -> Result<Capabilities, Refusal> {
        let names = self.models.names();
        let models = names.iter().filter_map(|name| match self.planner(Some(name)) {
            Ok(planner) => Some(ModelInfo::of(name, &planner.pipeline)),
            Err(refusal) => {
                tracing::warn!("the model {name} cannot be used: {refusal}");
                None
            }
        });
        Ok(Capabilities::new(models.collect(), self.models.loras(), &self.limits, &self.place.device))
    }

    /// A model opened to plan requests: the named one, or the default.
    fn planner(&self, name: Option<&str>) -> Result<Planner, Refusal> {
        let names = self.models.names();
        let default = || names.first().cloned().ok_or_else(|| Refusal::internal("there is no model"));
        let name = name.map_or_else(default, |name| Ok(name.to_owned()))?;
        if !names.contains(&name) {
            return Err(Refusal::UnknownModel { name });
        }
        let mut planners = self.planners.lock().unwrap_or_else(PoisonError::into_inner);
        let pipeline = match planners.get(&name) {
            Some(pipeline) => Arc::clone(pipeline),
            None => {
                let opened = self.models.open(&name, self.place.device.clone());
                let pipeline = Arc::new(opened.map_err(Refusal::internal)?);
                planners.insert(name.clone(), Arc::clone(&pipeline));
                pipeline
            }
        };
        Ok(Planner { defaults: ModelDefaults { name, native_size: ModelInfo::native_size(&pipeline) }, pipeline })
    }

    /// From now on nothing is taken; what runs may end.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.changed();
        self.bell.ring();
    }

    /// Prompts are logged from now on; else they never are.
    pub fn log_prompts(&self) {
        self.log_prompts.store(true, Ordering::Relaxed);
    }

    /// Whether the server goes down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Asks the workers to forget their models once they have nothing to do; says whether there is one to forget.
    pub fn unload(&self) -> bool {
        // Asked first: an idle worker may have done it before this returns.
        let is_loaded = self.loaded.load(Ordering::SeqCst) > 0;
        self.unload.fetch_add(1, Ordering::SeqCst);
        self.bell.ring();
        is_loaded
    }

    /// Whether there was a worker in this process, and is none any more.
    pub fn lost_its_worker(&self) -> bool {
        self.enlisted.load(Ordering::SeqCst) && self.workers.load(Ordering::SeqCst) == 0
    }

    /// A worker lives while the result does.
    pub(crate) fn enlist(self: &Arc<Service>) -> Enlisted {
        self.workers.fetch_add(1, Ordering::SeqCst);
        self.enlisted.store(true, Ordering::SeqCst);
        Enlisted { service: Arc::clone(self), loaded: false, unloads: self.unload.load(Ordering::SeqCst) }
    }

    fn refuse_while_draining(&self) -> Result<(), Refusal> {
        const RETRY_AFTER_S: u64 = 10;
        if self.is_draining() {
            return Err(Refusal::Unavailable { state: "shutting down", retry_after_s: RETRY_AFTER_S });
        }
        Ok(())
    }

    fn refused(&self, error: QueueError) -> Refusal {
        let reason = match error {
            QueueError::Full { .. } => "the queue is full",
            QueueError::TooManyOfOwner { .. } => "too many of your jobs wait already",
            QueueError::KeyReused => return Refusal::KeyReused,
            error => return Refusal::internal(error),
        };
        self.metrics.rejected(reason);
        let seconds = self.active().map_or(1.0, |jobs| self.speed.seconds_of_next(&jobs, self.now()));
        Refusal::QueueFull { reason, retry_after_s: (seconds.ceil() as u64).clamp(1, MAX_RETRY_AFTER_S) }
    }

    fn with_eta(&self, mut job: Job) -> Job {
        if !job.state.is_final()
            && let Ok(active) = self.active()
            && let Some(known) = active.into_iter().find(|known| known.id == job.id)
        {
            (job.position, job.eta_ms) = (known.position, known.eta_ms);
        }
        job
    }

    /// The queue.
    pub fn queue(&self) -> &dyn Queue {
        &*self.queue
    }

    /// The finished pictures.
    pub fn gallery(&self) -> &Gallery {
        &self.gallery
    }

    /// The files of pictures and uploads.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Models and LoRAs.
    pub fn models(&self) -> &dyn Models {
        &*self.models
    }

    /// What may be asked for.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The time.
    pub fn now(&self) -> Millis {
        (self.clock)()
    }

    /// The pictures of running jobs.
    pub fn previews(&self) -> &Previews {
        &self.previews
    }

    /// How long jobs take.
    pub fn speed(&self) -> &Speed {
        &self.speed
    }

    /// Counters for `/metrics`.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Wakes workers.
    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// The file of a picture of the gallery.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn image(&self, sha256: &Sha256) -> Result<ImageRecord, Refusal> {
        let image = self.gallery.image(sha256).map_err(Refusal::internal)?;
        image.ok_or(Refusal::NotFound { what: "picture" })
    }
}

/// A living worker.
pub(crate) struct Enlisted {
    service: Arc<Service>,
    loaded: bool,
    /// Wishes to unload that it has fulfilled.
    unloads: usize,
}

impl Enlisted {
    /// Whether the worker is to forget its model; asking it takes the wish back.
    pub(crate) fn take_unload(&mut self) -> bool {
        let wishes = self.service.unload.load(Ordering::SeqCst);
        std::mem::replace(&mut self.unloads, wishes) != wishes
    }

    /// Says whether the worker has a model open.
    pub(crate) fn set_loaded(&mut self, loaded: bool) {
        if std::mem::replace(&mut self.loaded, loaded) != loaded {
            let count = &self.service.loaded;
            if loaded {
                count.fetch_add(1, Ordering::SeqCst)
            } else {
                count.fetch_sub(1, Ordering::SeqCst)
            };
            self.service.metrics.loaded(count.load(Ordering::SeqCst));
        }
    }
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        self.set_loaded(false);
        self.service.workers.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Planner {
    defaults: ModelDefaults,
    pipeline: Arc<Pipeline>,
}

/// Tells of changes; several at once are one.
pub struct Changes(watch::Receiver<u64>);

impl Changes {
    /// Waits for a change since the last call, or for as long as another process's change may take to be noticed; says
    /// whether there was one.
    pub async fn next(&mut self) -> bool {
        // An error says that the service is gone, and a timeout that another process may have changed something.
        matches!(tokio::time::timeout(OTHERS, self.0.changed()).await, Ok(Ok(())))
    }
}

/// What is wrong with an uploaded picture, without the decoder's inner words.
fn picture_problem(error: &zimage::pipeline::image::ImageError, limits: &Limits) -> String {
    use zimage::pipeline::image::ImageError;
    match error {
        ImageError::UnknownFormat { .. } => "it is not a PNG, JPEG or WebP picture".into(),
        ImageError::TooLarge { width, height, .. } => {
            format!("it has {width}x{height} pixels, more than the {} allowed", limits.max_upload_pixels)
        }
        _ => "the picture is damaged, or of a kind that is not read".into(),
    }
}

/// The library's message and its hint on one line.
fn one_line(error: &zimage::Error) -> String {
    error.to_string().replace("\nhint: ", "; ")
}

/// A lock whose holder may have panicked: what it guards stays usable.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
