//! An opened model with its LoRAs, ready for jobs.

use std::sync::Arc;
use std::time::Instant;

use zimage::pipeline::encode::Prompts;
use zimage::pipeline::metadata::{FileRecord, Metadata, Origin};
use zimage::pipeline::plan::{Budget, Strategy};
use zimage::pipeline::preview::Preview;
use zimage::pipeline::{Cut, Denoise, Pipeline};
use zimage::{Compute, GenerateRequest, Lora};

use super::WorkerOptions;
use super::failure::{failure, of};
use crate::job::{Failure, FailureCode, JobSpec, LoraChoice};
use crate::service::Service;

/// The loops that another one is to run beside.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    /// One of them.
    pub denoise: &'a Denoise,
    /// How they are carried out.
    pub strategy: Strategy,
    /// How many there are.
    pub count: usize,
}

/// See the module.
pub struct Engine {
    model: String,
    pipeline: Pipeline,
    loras: Vec<LoraChoice>,
    files: Vec<FileRecord>,
    compute: Compute,
    preview: Preview,
    budget: Budget,
    keeps_weights: bool,
}

impl Engine {
    /// The engine that a job needs: the one that is there, or another in its place.
    pub fn ready<'a>(
        place: &'a mut Option<Engine>,
        service: &Service,
        options: &WorkerOptions,
        spec: &JobSpec,
    ) -> Result<&'a mut Engine, Failure> {
        // The old one goes before the new one comes: both may not fit.
        let mut engine = match place.take().filter(|engine| engine.model == spec.model) {
            Some(engine) => engine,
            None => Engine::open(service, options, &spec.model)?,
        };
        engine.set_loras(service, &spec.loras)?;
        Ok(place.insert(engine))
    }

    fn open(service: &Service, options: &WorkerOptions, model: &str) -> Result<Engine, Failure> {
        let started = Instant::now();
        let opened = service.models().open(model, options.place.device.clone());
        let mut pipeline = opened.map_err(|error| of(&error))?;
        pipeline.set_compute(options.compute).map_err(|error| of(&error))?;
        let files = service.models().files(&pipeline).map_err(|error| of(&error))?;
        let compute = pipeline.compute_of_transformer().map_err(|error| of(&error))?;
        let preview = pipeline.preview().map_err(|error| of(&error))?;
        service.metrics().stage("open", started.elapsed());
        Ok(Engine {
            model: model.into(),
            pipeline,
            loras: Vec::new(),
            files,
            compute,
            preview,
            budget: options.place.budget,
            keeps_weights: options.keep_alive.is_none_or(|limit| !limit.is_zero()),
        })
    }

    fn set_loras(&mut self, service: &Service, choices: &[LoraChoice]) -> Result<(), Failure> {
        if self.loras == choices {
            return Ok(());
        }
        let unusable = |id: &str| {
            failure(
                FailureCode::ModelUnusable,
                format!("the LoRA `{id}` cannot be used with the model `{}`", self.model),
            )
        };
        let mut loras = Vec::new();
        for LoraChoice { id, weight } in choices {
            let path = service.models().lora_path(id).ok_or_else(|| unusable(id))?;
            // Two files in different folders may have the same name.
            let mut opened = self.loras.iter().zip(self.pipeline.loras());
            let adapter = match opened.find(|(known, _)| known.id == *id) {
                Some((_, lora)) => Arc::clone(&lora.adapter),
                None => Arc::new(self.pipeline.open_lora(&path).map_err(|error| {
                    tracing::warn!("{error}");
                    unusable(id)
                })?),
            };
            loras.push(Lora { adapter, weight: *weight });
        }
        self.pipeline.set_loras(loras).map_err(|error| of(&error))?;
        self.loras = choices.to_vec();
        Ok(())
    }

    /// The opened model.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// How a request is carried out: alone, or beside others.
    pub fn strategy(&self, request: &GenerateRequest, beside: Option<Beside<'_>>) -> Result<Strategy, Failure> {
        let strategy = match beside {
            Some(others) => self.pipeline.strategy_beside(request, self.budget, (others.strategy, others.count)),
            None => self.pipeline.plan(request, self.budget).map(|plan| match self.keeps_weights {
                true => plan.strategy_before_others(self.budget),
                false => plan.strategy,
            }),
        };
        strategy.map_err(|error| of(&error))
    }

    /// Starts the loop of a picture: over weights of its own, or over those of the others.
    pub fn denoise(
        &self,
        request: &GenerateRequest,
        prompts: &Prompts,
        strategy: Strategy,
        beside: Option<Beside<'_>>,
    ) -> Result<Denoise, Failure> {
        let started = match beside {
            Some(others) => self.pipeline.denoise_beside(others.denoise, request, prompts, strategy),
            None => self.pipeline.denoise(request, prompts, strategy),
        };
        started.map_err(|error| of(&error))
    }

    /// What a finished picture says of itself.
    pub fn metadata(&self, request: &GenerateRequest, cut: Cut) -> Metadata {
        let origin = Origin { model: &self.model, files: &self.files, compute: self.compute };
        self.pipeline.metadata(request, cut, origin)
    }

    /// Previews, which every finished picture makes better.
    pub fn preview(&mut self) -> &mut Preview {
        &mut self.preview
    }
}
