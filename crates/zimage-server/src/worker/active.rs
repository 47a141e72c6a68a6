//! A job that runs: the loop of one of its pictures after the other.

use std::time::Instant;

use bytes::Bytes;
use zimage::pipeline::encode::Prompts;
use zimage::pipeline::image::{ImageFormat, JPEG_QUALITY, RgbImage};
use zimage::pipeline::plan::Strategy;
use zimage::pipeline::{Bookmark, Denoise, Latents, Step};
use zimage::{GenerateRequest, Task};

use super::engine::{Beside, Engine};
use super::failure::{failure, internal, of, of_refusal};
use crate::draft::options;
use crate::job::{Failure, FailureCode, Format, ImageRecord, JobSpec, Progress};
use crate::preview::Preview;
use crate::queue::{Held, Journal, Lease, QueueError};
use crate::service::Service;

/// JPEG quality of previews, which are small and short-lived.
const PREVIEW_QUALITY: u8 = 80;

/// See the module.
pub struct Active {
    lease: Lease,
    prompts: Prompts,
    task: Task,
    /// The picture that is being made.
    index: u32,
    request: GenerateRequest,
    strategy: Strategy,
    /// None while a picture is finished.
    denoise: Option<Denoise>,
    job_started: Instant,
    picture_started: Instant,
    /// Whether no other job shared a step of this picture, so that its time tells the machine's speed.
    pub ran_alone: bool,
}

/// How a job begins.
pub enum Begun {
    /// There are steps to take.
    Running(Box<Active>),
    /// An earlier worker had taken all its steps.
    Ended(Advance),
}

/// What follows from a step.
pub enum Stepped {
    /// There are more.
    GoOn,
    /// It was the picture's last: its latents.
    Finished(Latents),
    /// The job was cancelled, or is somebody else's.
    Stop,
}

/// What follows from a finished picture.
#[derive(Debug, PartialEq, Eq)]
pub enum Advance {
    /// The job has another picture to be made.
    GoOn,
    /// All pictures are there.
    Done,
    /// The job was cancelled, or is somebody else's.
    Stop,
}

impl Active {
    /// Starts a claimed job where it was, alone or beside others.
    pub fn begin(
        service: &Service,
        engine: &mut Engine,
        beside: Option<Beside<'_>>,
        lease: &Lease,
    ) -> Result<Begun, Failure> {
        let started = Instant::now();
        let Some(index) = next_index(lease, 0) else { return Ok(Begun::Ended(Advance::Done)) };
        let spec = &lease.job.spec;
        let task = service.task(spec).map_err(|refusal| of_refusal(&refusal))?;
        let request = request(spec, index, &task)?;
        let strategy = engine.strategy(&request, beside)?;
        let encoded = engine.pipeline().encode(std::slice::from_ref(&request), strategy);
        let prompts = encoded.map_err(|error| of(&error))?.remove(0);
        service.metrics().stage("text", started.elapsed());
        let mut denoise = engine.denoise(&request, &prompts, strategy, beside)?;
        if let Some(journal) = lease.journal.as_ref().filter(|journal| journal.image == index) {
            resume(&mut denoise, journal)?;
        }
        // A worker may have died between the last step and the picture.
        let finished = denoise.bookmark().filter(|_| denoise.is_over()).map(|last| last.latents);
        let mut active = Active {
            lease: Lease { journal: None, ..lease.clone() },
            prompts,
            task,
            index,
            request,
            strategy,
            denoise: finished.is_none().then_some(denoise),
            job_started: started,
            picture_started: started,
            ran_alone: beside.is_none(),
        };
        let Some(latents) = finished else { return Ok(Begun::Running(Box::new(active))) };
        Ok(match active.finish_picture(service, engine, &latents)? {
            Advance::GoOn => {
                active.next_picture(engine, beside)?;
                Begun::Running(Box::new(active))
            }
            ended => Begun::Ended(ended),
        })
    }

    /// Reports a step. After the last one the loop is gone, and with it its hold on the transformer, since what follows may
    /// need the memory: the result has its latents then.
    pub fn after(&mut self, service: &Service, engine: &mut Engine, step: Step) -> Result<Stepped, Failure> {
        let progress = Progress { image: self.index, step: step.index as u32 + 1, steps: step.count as u32 };
        self.show(service, engine, &step.predicted, progress)?;
        let bookmark = self.denoise.as_ref().and_then(Denoise::bookmark);
        let journal = bookmark.map(|bookmark| journal(self.index, &bookmark));
        let held = service.queue().step(&self.lease, progress, journal.as_ref());
        service.changed();
        if !is_held(held) {
            return Ok(Stepped::Stop);
        }
        if service.limits().run_timeout.is_some_and(|limit| self.job_started.elapsed() > limit) {
            return Err(failure(FailureCode::TimedOut, "the job took longer than this server allows"));
        }
        if step.index + 1 < step.count {
            return Ok(Stepped::GoOn);
        }
        self.denoise = None;
        Ok(Stepped::Finished(step.latents))
    }

    fn show(&self, service: &Service, engine: &mut Engine, latents: &Latents, at: Progress) -> Result<(), Failure> {
        let small = engine.preview().render(latents);
        let jpeg = small.encode_at(PREVIEW_QUALITY, ImageFormat::Jpeg, None).map_err(|error| of(&error.into()))?;
        service.previews().set(self.lease.job.id, Preview { progress: at, jpeg: Bytes::from(jpeg) });
        Ok(())
    }

    /// Decodes and stores the picture.
    pub fn finish_picture(
        &mut self,
        service: &Service,
        engine: &mut Engine,
        latents: &Latents,
    ) -> Result<Advance, Failure> {
        let started = Instant::now();
        let image = engine.pipeline().decode(latents, self.strategy).map_err(|error| of(&error))?;
        service.metrics().stage("vae", started.elapsed());
        engine.preview().learn(latents, &image);
        let record = self.store(service, engine, &image)?;
        // A picture that is on the disk and not in the database is made again, to the same bytes and so the same name.
        let held = service.queue().add_image(&self.lease, &record);
        service.changed();
        if !is_held(held) {
            return Ok(Advance::Stop);
        }
        if self.ran_alone {
            service.speed().learn(&self.lease.job.spec, self.picture_started.elapsed());
        }
        Ok(if next_index(&self.lease, self.index + 1).is_some() { Advance::GoOn } else { Advance::Done })
    }

    /// Begins the picture that is next, alone or beside others.
    pub fn next_picture(&mut self, engine: &Engine, beside: Option<Beside<'_>>) -> Result<(), Failure> {
        self.picture_started = Instant::now();
        let index = next_index(&self.lease, self.index + 1).ok_or_else(internal)?;
        let request = request(&self.lease.job.spec, index, &self.task)?;
        self.denoise = Some(engine.denoise(&request, &self.prompts, self.strategy, beside)?);
        (self.index, self.request, self.ran_alone) = (index, request, beside.is_none());
        Ok(())
    }

    fn store(&self, service: &Service, engine: &Engine, image: &RgbImage) -> Result<ImageRecord, Failure> {
        let started = Instant::now();
        let spec = &self.lease.job.spec;
        let format = match spec.format {
            Format::Png => ImageFormat::Png,
            Format::Jpeg => ImageFormat::Jpeg,
            Format::Webp => ImageFormat::WebP,
        };
        let metadata = engine.metadata(&self.request, self.strategy.cut);
        let bytes = image.encode_at(spec.quality.unwrap_or(JPEG_QUALITY), format, Some(&metadata));
        let bytes = bytes.map_err(|error| of(&error.into()))?;
        let sha256 = service.files().write_image(&bytes, spec.format).map_err(|error| {
            tracing::error!("a picture could not be stored: {error}");
            failure(FailureCode::Internal, "the picture could not be stored; the server's disk may be full")
        })?;
        service.metrics().stage("store", started.elapsed());
        Ok(ImageRecord {
            sha256,
            job: Some(self.lease.job.id),
            index: self.index,
            seed: self.request.seed,
            width: image.width() as u32,
            height: image.height() as u32,
            format: spec.format,
            size_bytes: bytes.len() as u64,
            created_ms: service.now(),
            favourite: false,
            prompt: spec.prompt.clone(),
        })
    }

    /// The worker's hold on the job.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whose job it is.
    pub fn owner(&self) -> &str {
        &self.lease.job.owner
    }

    /// What decides which jobs can share its steps.
    pub fn batch_key(&self) -> String {
        self.lease.job.spec.batch_key()
    }

    /// How its pictures are carried out, and their loop, if one runs.
    pub fn running(&self) -> Option<(&Denoise, Strategy)> {
        self.denoise.as_ref().map(|denoise| (denoise, self.strategy))
    }

    /// Its loop. Nothing takes steps without one.
    pub fn denoise(&mut self) -> &mut Denoise {
        self.denoise.as_mut().expect("what takes steps has a loop: this is a bug")
    }
}

/// The first picture from `from` on that the job lacks.
fn next_index(lease: &Lease, from: u32) -> Option<u32> {
    (from..lease.job.spec.n).find(|index| lease.job.images.iter().all(|image| image.index != *index))
}

fn request(spec: &JobSpec, index: u32, task: &Task) -> Result<GenerateRequest, Failure> {
    GenerateRequest::new(options(spec, index, task.clone())).map_err(|error| of(&error))
}

fn journal(image: u32, bookmark: &Bookmark) -> Journal {
    let latents = bookmark.latents.data.iter().flat_map(|value| value.to_le_bytes()).collect();
    Journal { image, step: bookmark.step as u32, latents }
}

/// Takes up a loop where the journal says that it was. A journal that doesn't fit is ignored: the picture is made from
/// its beginning, and is the same.
fn resume(denoise: &mut Denoise, journal: &Journal) -> Result<(), Failure> {
    let fresh = denoise.bookmark().ok_or_else(internal)?.latents;
    let values = journal.latents.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let latents = Latents { data: values.collect(), ..fresh };
    if let Err(error) = denoise.resume(Bookmark { step: journal.step as usize, latents }) {
        tracing::warn!("a journal is of no use: {error}");
    }
    Ok(())
}

/// Whether the worker still has the job. One whose report the database didn't take lets go: its lease ends by itself, and
/// the job goes on from its journal.
fn is_held(reported: Result<Held, QueueError>) -> bool {
    reported.inspect_err(|error| tracing::error!("{error}")).is_ok_and(|held| held == Held::Held)
}
