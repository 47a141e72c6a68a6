//! A service with a worker in a home of its own, for tests that need finished pictures.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zimage::pipeline::metadata::FileRecord;
use zimage::pipeline::plan::Budget;
use zimage::{Compute, ComputeChoice, Device, Pipeline};
use zimage_server::draft::Draft;
use zimage_server::job::{Event, Job, JobId, JobState};
use zimage_server::models::{DEMO, LoraInfo, Models};
use zimage_server::service::{Client, Place, Service};
use zimage_server::setup::{Opened, Settings, open};
use zimage_server::worker;

/// Longer than any test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The demo model, a model that cannot be opened without a panic, and LoRAs.
#[derive(Default)]
pub struct TestModels {
    pub loras: Vec<(String, PathBuf)>,
}

/// A model whose opening panics.
pub const PANICKING: &str = "panicking";

impl Models for TestModels {
    fn names(&self) -> Vec<String> {
        vec![DEMO.into(), PANICKING.into()]
    }

    fn open(&self, name: &str, device: Device) -> zimage::Result<Pipeline> {
        // The service opens models too, to plan requests; a panic is wanted of the worker.
        let is_worker = std::thread::current().name() == Some("zimage-worker");
        assert!(!(name == PANICKING && is_worker), "a model that panics");
        Pipeline::demo(device)
    }

    fn files(&self, _: &Pipeline) -> zimage::Result<Vec<FileRecord>> {
        Ok(Vec::new())
    }

    fn loras(&self) -> Vec<LoraInfo> {
        let info = |(id, _): &(String, PathBuf)| LoraInfo {
            id: id.clone(),
            trigger_words: Vec::new(),
            recommended_weight: None,
        };
        self.loras.iter().map(info).collect()
    }

    fn lora_path(&self, id: &str) -> Option<PathBuf> {
        self.loras.iter().find(|(name, _)| name == id).map(|(_, path)| path.clone())
    }
}

/// A home with a service over it. Its workers are started by [`Bench::work`].
pub struct Bench {
    pub service: Arc<Service>,
    workers: Vec<worker::WorkerOptions>,
    threads: Vec<JoinHandle<()>>,
    pub home: Arc<TempDir>,
}

/// A device that every test computes on.
pub fn device() -> Device {
    Device::cpu(2).expect("two threads")
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with(TestModels::default(), |_| {})
    }

    pub fn with(models: TestModels, change: impl FnOnce(&mut Settings)) -> Bench {
        Bench::at(Arc::new(TempDir::new().expect("a temporary folder")), models, change)
    }

    pub fn at(home: Arc<TempDir>, models: TestModels, change: impl FnOnce(&mut Settings)) -> Bench {
        let budget = Budget::Machine(4 << 30);
        let settings =
            Settings::new(home.path().to_path_buf(), Arc::new(models), vec![Place { device: device(), budget }]);
        let mut settings = Settings { compute: ComputeChoice::Always(Compute::Exact), ..settings };
        change(&mut settings);
        let Opened { service, workers, .. } = open(settings).expect("a fresh home opens");
        Bench { service, workers, threads: Vec::new(), home }
    }

    /// Starts the workers.
    pub fn work(mut self) -> Bench {
        let start = |options| worker::start(Arc::clone(&self.service), options).expect("a thread starts");
        self.threads = std::mem::take(&mut self.workers).into_iter().map(start).collect();
        self
    }

    pub fn submit_as(&self, owner: &str, draft: Draft) -> JobId {
        let client = Client { owner: owner.into() };
        self.service.submit(draft, &client, None).expect("it is taken").job.id
    }

    pub fn submit(&self, draft: Draft) -> JobId {
        self.submit_as("someone", draft)
    }

    /// Waits until something holds.
    pub fn until<T>(&self, what: &str, mut holds: impl FnMut(&Service) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = holds(&self.service) {
                return found;
            }
            assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end of a job.
    pub fn end_of(&self, id: JobId) -> Job {
        self.until("the end of a job", |service| {
            let job = service.job(id).expect("the job is known");
            job.state.is_final().then_some(job)
        })
    }

    /// Waits for the end of a job that must succeed, and gives its pictures' files.
    pub fn pictures(&self, id: JobId) -> Vec<Vec<u8>> {
        let job = self.end_of(id);
        assert_eq!((job.state, &job.error), (JobState::Done, &None));
        let file = |image: &zimage_server::job::ImageRecord| {
            self.service.files().image(&image.sha256, image.format).expect("readable").expect("there")
        };
        job.images.iter().map(file).collect()
    }

    /// All events of a job so far.
    pub fn events(&self, id: JobId) -> Vec<Event> {
        self.service.events(Some(id), 0).expect("readable")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.service.drain();
        for thread in self.threads.drain(..) {
            // A panic of the worker has been reported, and fails the test that waits for its job.
            let _ = thread.join();
        }
    }
}

/// A small picture.
pub fn small(prompt: &str, seed: u64, steps: u32) -> Draft {
    Draft {
        prompt: prompt.into(),
        width: Some(64),
        height: Some(64),
        steps: Some(steps),
        seed: Some(seed),
        ..Draft::default()
    }
}
