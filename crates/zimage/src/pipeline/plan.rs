//! What a request will take, before anything is loaded: memory and work per phase.
//!
//! A phase's memory is its weights, in the form that fits ([`super::residency`]), and its working memory, counted from the
//! largest set of tensors that are alive at once. In the transformer and the text encoder, whose loops keep their memory,
//! that is the largest set of each width: narrow and wide layers lie side by side.

use super::request::{GenerateRequest, Task};
use super::{Cut, Pipeline};
use crate::model::Residency;
use crate::model::tokenizer::MAX_TOKENS;
use crate::{Error, Result};
use serde::Serialize;
use zimage_weights::{Component, VaeConfig};

const F32: u64 = 4;

const ENCODE: &str = "encode";
const ENCODE_IMAGE: &str = "encode image";
const DENOISE: &str = "denoise";
const DECODE: &str = "decode";

/// How much memory a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// A cap on everything that is resident, mapped weights included.
    Cap(u64),
    /// The machine's memory: working memory must fit, while mapped weights may be dropped and read again.
    Machine(u64),
}

/// What one phase takes.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// `encode`, `encode image`, `denoise`, `decode`.
    pub name: &'static str,
    /// Bytes of the weights that the phase reads.
    pub weights_bytes: u64,
    /// Bytes of everything else at its peak.
    pub working_bytes: u64,
    /// Floating-point operations, a multiply-add counting two.
    pub flop: f64,
}

/// What a request takes.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The phases in their order; each releases what it loaded before the next begins.
    pub phases: Vec<Phase>,
    /// Steps that are run: fewer than the request's when it starts from an image.
    pub steps: usize,
    /// Those of them that run the main layers; the others reuse what these added.
    pub computed_steps: usize,
    /// How it is carried out.
    #[serde(skip)]
    pub strategy: Strategy,
    /// Whether the memory is a device's own.
    #[serde(skip)]
    in_own_memory: bool,
}

/// How a request is carried out within its budget. Only the cut acts on the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strategy {
    /// Whether the VAE works in tiles.
    pub cut: Cut,
    /// How much of the text encoder stays in memory.
    pub text_encoder: Residency,
    /// How much of the transformer stays in memory.
    pub transformer: Residency,
    /// Whether the transformer stays for the next picture, beside what decoding takes.
    pub keep_transformer: bool,
    /// Whether all else stays too, in memory of the device's own.
    pub keep_rest: bool,
}

impl Strategy {
    /// Nothing is cut, and all weights stay where they lie.
    pub const WHOLE: Strategy = Strategy {
        cut: Cut::Whole,
        text_encoder: Residency::MAPPED,
        transformer: Residency::MAPPED,
        keep_transformer: false,
        keep_rest: false,
    };
}

impl Phase {
    /// Weights and working memory.
    pub fn peak_bytes(&self) -> u64 {
        self.weights_bytes + self.working_bytes
    }
}

impl Budget {
    /// How much it is.
    pub fn bytes(self) -> u64 {
        match self {
            Budget::Cap(bytes) | Budget::Machine(bytes) => bytes,
        }
    }

    /// What working memory of so many bytes leaves for weights. A machine needs some memory for all else.
    fn left_by(self, working_bytes: u64) -> u64 {
        match self {
            Budget::Cap(bytes) => bytes.saturating_sub(working_bytes),
            Budget::Machine(bytes) => (bytes - bytes / 6).saturating_sub(working_bytes),
        }
    }

    /// What is left when so many bytes are taken.
    fn without(self, bytes: u64) -> Budget {
        match self {
            Budget::Cap(cap) => Budget::Cap(cap.saturating_sub(bytes)),
            Budget::Machine(memory) => Budget::Machine(memory.saturating_sub(bytes)),
        }
    }

    /// Whether pages of mapped files count.
    fn counts_mapped(self) -> bool {
        matches!(self, Budget::Cap(_))
    }

    /// The error of the phase that is furthest over the budget, if one is.
    fn exceeded_by(self, plan: &Plan) -> Option<Error> {
        let (budget_bytes, needed): (u64, fn(&Phase) -> u64) = match self {
            Budget::Cap(bytes) => (bytes, Phase::peak_bytes),
            Budget::Machine(bytes) => (bytes, |phase| phase.working_bytes),
        };
        let worst =
            plan.phases.iter().max_by_key(|phase| needed(phase)).filter(|phase| needed(phase) > budget_bytes)?;
        Some(Error::Memory { phase: worst.name, needed_bytes: needed(worst), budget_bytes })
    }
}

impl Plan {
    /// The phase that needs most memory.
    pub fn peak(&self) -> &Phase {
        self.phases.iter().max_by_key(|phase| phase.peak_bytes()).expect("a plan has phases: this is a bug")
    }

    /// The strategy for a picture that others follow: the transformer stays where it was laid out in memory, and where
    /// the budget has room for it beside every other phase; in a device's own memory all else stays too, where the
    /// weights of all phases fit beside the working memory of any.
    pub fn strategy_before_others(&self, budget: Budget) -> Strategy {
        let (denoise, others): (Vec<&Phase>, Vec<&Phase>) = self.phases.iter().partition(|phase| phase.name == DENOISE);
        let kept = denoise.iter().map(|phase| phase.weights_bytes).sum();
        let beside = others.iter().map(|phase| phase.peak_bytes()).max().unwrap_or(0);
        let fits = beside <= budget.left_by(kept);
        let keep_transformer = self.strategy.transformer.prepared_blocks > 0 && fits;
        let weights: u64 = self.phases.iter().map(|phase| phase.weights_bytes).sum();
        let working = self.phases.iter().map(|phase| phase.working_bytes).max().unwrap_or(0);
        let keep_rest = keep_transformer && self.in_own_memory && weights + working <= budget.left_by(0);
        Strategy { keep_transformer, keep_rest, ..self.strategy }
    }
}

impl Pipeline {
    /// Plans a request within a budget. The VAE works whole where that fits, else in tiles.
    ///
    /// # Errors
    /// [`Error::Memory`] when a phase needs more even so; [`Error::Weights`] when a component cannot be opened.
    pub fn plan(&self, request: &GenerateRequest, budget: Budget) -> Result<Plan> {
        let whole = self.plan_with(request, Cut::Whole, budget)?;
        if budget.exceeded_by(&whole).is_none() {
            return Ok(whole);
        }
        let tiled = self.plan_with(request, Cut::Tiles, budget)?;
        match budget.exceeded_by(&tiled) {
            None => Ok(tiled),
            Some(error) => Err(error),
        }
    }

    /// How a request is carried out that is to share the steps of `running` others of its size, which follow `strategy`:
    /// its text is encoded, and every picture decoded, beside the transformer and the working memory of all loops.
    ///
    /// # Errors
    /// Those of [`Pipeline::plan`].
    pub fn strategy_beside(
        &self,
        request: &GenerateRequest,
        budget: Budget,
        (strategy, running): (Strategy, usize),
    ) -> Result<Strategy> {
        let alone = self.plan(request, budget)?;
        let tokens = self.caption_tokens(request)?;
        let (denoise, _) = self.plan_denoise(request, tokens, (alone.steps, alone.computed_steps), budget)?;
        let loops = denoise.working_bytes.saturating_mul(running as u64 + 1);
        let weights =
            if budget.counts_mapped() || strategy.transformer.prepared_blocks > 0 { denoise.weights_bytes } else { 0 };
        let rest = budget.without(weights.saturating_add(loops));
        let (encode, text_encoder) = self.plan_encode(request, tokens, rest)?;
        let mut phases = vec![encode];
        phases.extend(alone.phases.into_iter().filter(|phase| ![ENCODE, DENOISE].contains(&phase.name)));
        let strategy = Strategy { cut: alone.strategy.cut, text_encoder, ..strategy };
        let beside = Plan { phases, strategy, ..alone };
        rest.exceeded_by(&beside).map_or(Ok(strategy), Err)
    }

    /// Tokens of the prompt that the model reads.
    fn caption_tokens(&self, request: &GenerateRequest) -> Result<u64> {
        Ok(self.tokenizer.encode(&request.prompt)?.ids.len().min(MAX_TOKENS) as u64)
    }

    fn plan_with(&self, request: &GenerateRequest, cut: Cut, budget: Budget) -> Result<Plan> {
        let tokens = self.caption_tokens(request)?;
        let (encode, text_encoder) = self.plan_encode(request, tokens, budget)?;
        let mut phases = vec![encode];
        if !matches!(request.task, Task::TextToImage) {
            phases.push(self.plan_vae(ENCODE_IMAGE, request, cut)?);
        }
        let steps = self.steps_to_run(request)?;
        let computed_steps = request.cache.computed(steps).count();
        let (denoise, transformer) = self.plan_denoise(request, tokens, (steps, computed_steps), budget)?;
        phases.push(denoise);
        phases.push(self.plan_vae(DECODE, request, cut)?);
        Ok(Plan {
            phases,
            steps,
            computed_steps,
            strategy: Strategy { cut, text_encoder, transformer, ..Strategy::WHOLE },
            in_own_memory: self.device.has_own_memory(),
        })
    }

    fn steps_to_run(&self, request: &GenerateRequest) -> Result<usize> {
        let schedule = self.schedule(request)?;
        match request.task {
            Task::TextToImage => Ok(schedule.steps()),
            Task::ImageToImage { strength, .. } | Task::Inpaint { strength, .. } => {
                Ok(schedule.steps() - schedule.start_index(strength)?)
            }
        }
    }

    fn plan_encode(&self, request: &GenerateRequest, tokens: u64, budget: Budget) -> Result<(Phase, Residency)> {
        let c = self.checkpoint.text_encoder_config();
        let (hidden, ffn) = (c.hidden_size as u64, c.intermediate_size as u64);
        let (q, kv) = ((c.n_heads * c.head_dim) as u64, (c.n_kv_heads * c.head_dim) as u64);
        let layer = 2 * hidden * q + 2 * hidden * kv + 3 * hidden * ffn;
        let flop = 2 * tokens * layer * (c.n_layers as u64 - 1) + 4 * tokens * tokens * q;
        let texts = if request.is_guided() { 2.0 } else { 1.0 };
        let weights = self.weight_bytes(Component::TextEncoder)?;
        let working_bytes = weights.value_bytes() * tokens * (3 * hidden + 3 * q + 2 * kv + 2 * ffn)
            + weights.linear_scratch(hidden.max(ffn))
            + self.branch_bytes(Component::TextEncoder, tokens * hidden.max(ffn));
        // Every text reads all weights once, so that laying them out would not pay.
        let (residency, weights_bytes) = weights.fit_once(budget.left_by(working_bytes), budget.counts_mapped());
        Ok((Phase { name: ENCODE, weights_bytes, working_bytes, flop: flop as f64 * texts }, residency))
    }

    fn plan_denoise(
        &self,
        request: &GenerateRequest,
        caption: u64,
        (steps, computed_steps): (usize, usize),
        budget: Budget,
    ) -> Result<(Phase, Residency)> {
        let c = self.checkpoint.transformer_config();
        let (dim, ffn) = (c.dim as u64, c.ffn_hidden() as u64);
        let patches = request.width as u64 / 16 * (request.height as u64 / 16);
        let image = patches.next_multiple_of(32);
        let tokens = image + caption.next_multiple_of(32);
        let block = |tokens: u64| 2 * tokens * (4 * dim * dim + 3 * dim * ffn) + 4 * tokens * tokens * dim;
        let layers = block(tokens) * c.n_layers as u64 * computed_steps as u64;
        let refiners = block(image) * c.n_refiner_layers as u64 * steps as u64;
        let branches = if request.is_guided() { 2 } else { 1 };
        // Each branch keeps what the main layers added to the picture's tokens.
        let kept = if computed_steps < steps { branches * patches * dim } else { 0 };
        // The pool holds what attention needs at once beside what the feed-forward layer does, and for each the bytes of
        // their inputs where those are quantized.
        let weights = self.weight_bytes(Component::Transformer)?;
        let value = weights.value_bytes();
        let (narrow, wide) = (5 * value * dim, 2 * value * ffn);
        // Both branches of a guided request go through each block, and wait for each other with all their tokens.
        let working_bytes = tokens * (narrow + wide + weights.activation_bytes(dim, ffn))
            + value * (branches - 1) * tokens * dim
            + value * kept
            + weights.linear_scratch(ffn)
            + self.branch_bytes(Component::Transformer, tokens * ffn);
        let (residency, weights_bytes) = weights.fit(budget.left_by(working_bytes), budget.counts_mapped());
        let flop = (layers + refiners) as f64 * branches as f64;
        Ok((Phase { name: DENOISE, weights_bytes, working_bytes, flop }, residency))
    }

    /// Both halves of the VAE have about the same work.
    fn plan_vae(&self, name: &'static str, request: &GenerateRequest, cut: Cut) -> Result<Phase> {
        let c = self.checkpoint.vae_config();
        let picture = (request.width * request.height) as u64;
        let pixels = match cut {
            Cut::Whole => picture,
            Cut::Tiles => picture.min((c.sample_size * c.sample_size) as u64),
        };
        if self.device.has_own_memory() {
            return self.plan_vae_on_device(name, picture, pixels);
        }
        // Convolution weights are widened to f32 when they are read, beside the mapped file.
        let widened = self.values_of_half(name);
        let planes = if name == DECODE { decoder_planes(c) } else { encoder_planes(c) };
        Ok(Phase {
            name,
            weights_bytes: self.weights_bytes(Component::Vae)?,
            working_bytes: F32 * (planes * pixels + 6 * picture + widened + convolution_values(c)),
            flop: vae_flop(c, picture),
        })
    }

    /// The same in a device's own memory, where norms and what goes into a convolution lie beside each other, and the
    /// picture is widened to f32 at the end.
    fn plan_vae_on_device(&self, name: &'static str, picture: u64, pixels: u64) -> Result<Phase> {
        let c = self.checkpoint.vae_config();
        let planes = if name == DECODE { decoder_planes_on_device(c) } else { encoder_planes_on_device(c) };
        let weights = self.weight_bytes(Component::Vae)?;
        let widest = c.block_out_channels.iter().max().map_or(0, |&channels| channels as u64);
        let scratch = weights.value_bytes() * 9 * widest * widest + weights.linear_scratch(widest);
        Ok(Phase {
            name,
            weights_bytes: F32 * self.values_of_half(name),
            working_bytes: weights.value_bytes() * (planes * pixels + 3 * picture) + F32 * 3 * picture + scratch,
            flop: vae_flop(c, picture),
        })
    }

    /// Values of the parameters of the half of the VAE that a phase uses.
    fn values_of_half(&self, name: &str) -> u64 {
        let half = if name == DECODE { "decoder." } else { "encoder." };
        let specs = self.checkpoint.specs(Component::Vae);
        specs.iter().filter(|spec| spec.name.starts_with(half)).map(|spec| spec.elements() as u64).sum()
    }

    fn weights_bytes(&self, component: Component) -> Result<u64> {
        Ok(self.checkpoint.weights(component)?.size_bytes() + self.adapters.size_bytes(component))
    }

    /// What the widest side branch of an adapter works in: as much as its layer's output.
    fn branch_bytes(&self, component: Component, widest: u64) -> u64 {
        if self.adapters.size_bytes(component) == 0 { 0 } else { F32 * widest }
    }
}

/// Operations of one pass through the decoder for a picture of `pixels`; the encoder has nearly the same.
fn vae_flop(c: &VaeConfig, pixels: u64) -> f64 {
    let channels: Vec<f64> = c.block_out_channels.iter().map(|&channels| channels as f64).collect();
    let last = channels.len() - 1;
    let pixels_of = |level: usize| pixels as f64 / 4f64.powi(level as i32);
    let levels = (0..=last).map(|level| {
        let (own, above) = (channels[level], channels[last.min(level + 1)]);
        let shortcut = if own == above { 0.0 } else { own * above };
        let upsample = if level == last { 0.0 } else { 9.0 * above * above };
        let resnets = 9.0 * (own * above + own * own) + shortcut + 18.0 * own * own * c.layers_per_block as f64;
        pixels_of(level) * (resnets + upsample)
    });
    let (tokens, width) = (pixels_of(last), channels[last]);
    let mid_block = tokens * (40.0 * width * width + 2.0 * tokens * width);
    let ends = 9.0 * (tokens * c.latent_channels as f64 * width + pixels as f64 * 3.0 * channels[0]);
    2.0 * (levels.sum::<f64>() + mid_block + ends)
}

/// The most planes of full size that are alive at once in the decoder: a resnet's input and the first convolution of
/// it, where the channels change. All else of the resnet lies in these two.
fn decoder_planes(c: &VaeConfig) -> u64 {
    let channels = &c.block_out_channels;
    (channels[1.min(channels.len() - 1)] + channels[0]) as u64
}

/// The same in the encoder, where a level of fewer pixels may have more: its first resnet keeps input, convolution and
/// shortcut.
fn encoder_planes(c: &VaeConfig) -> u64 {
    let channels = &c.block_out_channels;
    let below = (channels[0] + 2 * channels[1.min(channels.len() - 1)]).div_ceil(4);
    below.max(2 * channels[0]) as u64
}

/// Values that a convolution works in: the widest weight at 36 places in place of 9, and for two threads the
/// inputs and outputs of 96 tiles.
fn convolution_values(c: &VaeConfig) -> u64 {
    let widest = c.block_out_channels.iter().max().map_or(0, |&channels| channels as u64);
    36 * widest * (widest + 2 * 2 * 96)
}

/// The most planes of full size that are alive at once in the decoder on a device: where the channels change, a resnet's
/// input, the same normalized, and its first convolution.
fn decoder_planes_on_device(c: &VaeConfig) -> u64 {
    let channels = &c.block_out_channels;
    (2 * channels[1.min(channels.len() - 1)] + channels[0]) as u64
}

/// The same in the encoder: of a resnet at the first level, or with the next level's channels at a quarter of the pixels.
fn encoder_planes_on_device(c: &VaeConfig) -> u64 {
    let channels = &c.block_out_channels;
    let below = (3 * channels[1.min(channels.len() - 1)] + channels[0]).div_ceil(4);
    (3 * channels[0]).max(below) as u64
}
