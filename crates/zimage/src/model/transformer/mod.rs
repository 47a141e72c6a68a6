//! The Z-Image transformer: caption and noisy latents in, velocity out.
//!
//! What depends on the prompt alone is a [`Caption`], what depends on the time alone is a [`TimeCondition`]; both are
//! made once and shared by all that use them, so that [`Transformer::forward`] holds only what each step must do.
//!
//! Source: diffusers `ZImageTransformer2DModel`.

mod block;
mod embed;
mod positions;
mod recorded;
#[cfg(test)]
mod tests;

use super::{Pages, Parameters, Residency, Watch};
use crate::{Error, Result};
use block::{Block, ModulatedBlock, Modulation};
use embed::{CaptionEmbedder, FinalLayer, TimestepEmbedder};
use positions::{Rope, caption_positions, image_positions, padding};
use zimage_tensor::{Device, Linear, Tensor, ops};
use zimage_weights::schema::TransformerConfig;

pub use recorded::RecordedPass;

const STAGE: &str = "transformer";

/// The transformer.
pub struct Transformer {
    config: TransformerConfig,
    device: Device,
    x_embedder: Linear,
    x_pad_token: Tensor,
    t_embedder: TimestepEmbedder,
    cap_embedder: CaptionEmbedder,
    cap_pad_token: Tensor,
    noise_refiner: Vec<ModulatedBlock>,
    context_refiner: Vec<Block>,
    layers: Vec<ModulatedBlock>,
    final_layer: FinalLayer,
    residency: Residency,
    pages: Pages,
}

/// A prompt, ready for a picture size: refined caption tokens, padded, and the rotary tables of both streams.
pub struct Caption {
    tokens: Tensor,
    image_rope: Rope,
    rope: Rope,
}

/// All modulations at one time.
pub struct TimeCondition {
    noise_refiner: Vec<Modulation>,
    layers: Vec<Modulation>,
    final_scale: Tensor,
}

/// What the main layers added to the picture's tokens, `(tokens, dim)`. Those of the caption are read by these layers
/// alone, so that nothing of them is needed once the layers are passed over.
pub struct Residual(Tensor);

/// One of the pictures, or of the two prompts of a picture, that go through the transformer together.
pub struct Lane<'a> {
    /// `(channels, height, width)`.
    pub latents: &'a Tensor,
    /// Made for latents of this size.
    pub caption: &'a Caption,
    /// The time of the latents.
    pub time: &'a TimeCondition,
    /// What is done about the main layers.
    pub main_layers: MainLayers<'a>,
}

impl<'a> Lane<'a> {
    /// A lane that runs the main layers.
    pub fn new(latents: &'a Tensor, caption: &'a Caption, time: &'a TimeCondition) -> Lane<'a> {
        Lane { latents, caption, time, main_layers: MainLayers::Run }
    }

    /// The same, doing something else about the main layers.
    pub fn with(self, main_layers: MainLayers<'a>) -> Lane<'a> {
        Lane { main_layers, ..self }
    }
}

/// What a lane does about the main layers.
#[derive(Clone, Copy)]
pub enum MainLayers<'a> {
    /// They run.
    Run,
    /// They run, and what they add is kept.
    Keep,
    /// What they added at an earlier time stands in for them.
    Reuse(&'a Residual),
}

/// What a lane gives.
pub struct Output {
    /// Velocity towards the picture, in the shape of the latents.
    pub velocity: Tensor,
    /// What the main layers added, if it was to be kept.
    pub residual: Option<Residual>,
}

/// What a lane gives, before anybody has looked whether it is finite.
struct Passed {
    output: Output,
    watch: Watch,
}

/// A lane on its way.
struct Stream<'a> {
    lane: &'a Lane<'a>,
    x: Result<Tensor>,
    watch: Watch,
    /// The picture's tokens before the main layers, if what these add is to be kept.
    before: Option<Tensor>,
}

impl Stream<'_> {
    /// Runs a block on the tokens, unless something failed before.
    fn advance(&mut self, forward: impl FnOnce(&mut Tensor), layer: impl FnOnce() -> String) {
        let Ok(x) = &mut self.x else { return };
        forward(x);
        if let Err(error) = self.watch.look(x, layer) {
            self.x = Err(error);
        }
    }

    /// Makes the refined tokens of the picture what the main layers take: all tokens, those of the picture first; or what
    /// they give, where an earlier residual stands in for them.
    fn join_caption(&mut self) {
        let Ok(refined) = &self.x else { return };
        let picture = || ops::slice_rows(refined, 0, tokens(self.lane.latents));
        let x = match self.lane.main_layers {
            MainLayers::Run => ops::concat_rows(refined, &self.lane.caption.tokens),
            MainLayers::Keep => {
                self.before = Some(picture());
                ops::concat_rows(refined, &self.lane.caption.tokens)
            }
            MainLayers::Reuse(Residual(residual)) => {
                let mut x = picture();
                ops::add(&mut x, residual);
                x
            }
        };
        self.x = Ok(x);
    }

    fn runs_main_layers(&self) -> bool {
        !matches!(self.lane.main_layers, MainLayers::Reuse(_))
    }
}

impl Transformer {
    /// Reads the transformer. Blocks are counted from the first noise refiner on.
    pub fn load(config: &TransformerConfig, p: &Parameters, residency: Residency) -> Result<Transformer> {
        let modulated = |name: &str, first: usize, count: usize| {
            let block = |i: usize| {
                let prepared = first + i < residency.prepared_blocks;
                let block = ModulatedBlock::load(config, &p.below(name).below(i).prepared(prepared))?;
                if prepared {
                    p.pages().release();
                }
                Ok(block)
            };
            (0..count).map(block).collect::<Result<Vec<_>>>()
        };
        let once = p.below("context_refiner").prepared(residency.prepared_once);
        let context = (0..config.n_refiner_layers).map(|i| Block::load(config, &once.below(i)));
        Ok(Transformer {
            config: config.clone(),
            device: p.device().clone(),
            x_embedder: p.linear_with_bias("all_x_embedder.2-1")?,
            x_pad_token: p.tensor("x_pad_token")?,
            t_embedder: TimestepEmbedder::load(config.t_scale as f32, &p.below("t_embedder"))?,
            cap_embedder: CaptionEmbedder::load(config.norm_eps as f32, &p.below("cap_embedder"))?,
            cap_pad_token: p.tensor("cap_pad_token")?,
            noise_refiner: modulated("noise_refiner", 0, config.n_refiner_layers)?,
            context_refiner: context.collect::<Result<_>>()?,
            layers: modulated("layers", config.n_refiner_layers, config.n_layers)?,
            final_layer: FinalLayer::load(&p.below("all_final_layer.2-1"))?,
            residency,
            pages: p.pages(),
        })
    }

    /// The device that it computes on; what it reads must lie there.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How much of it stays in memory.
    pub fn residency(&self) -> Residency {
        self.residency
    }

    /// Whether all that a step runs stays where it is.
    fn stays(&self) -> bool {
        self.residency.prepared_blocks >= self.noise_refiner.len() + self.layers.len()
    }

    /// After block `index` has run.
    fn done_with(&self, index: usize) {
        if self.residency.streamed && index >= self.residency.prepared_blocks {
            self.pages.release();
        }
    }

    /// Refines the caption features `(n, cap_feat_dim)` for latents of `height x width`. Independent of the time.
    ///
    /// # Errors
    /// [`Error::Request`] when caption or picture reach beyond the positions that the model has.
    pub fn caption(&self, features: &Tensor, height: usize, width: usize) -> Result<Caption> {
        let pads = padding(features.rows());
        let padded = features.rows() + pads;
        self.check_positions(padded, height / 2, width / 2)?;
        let caption = caption_positions(padded);
        let image = image_positions(padded, height / 2, width / 2);
        let caption_rope = Rope::new(&self.config, &caption, &self.device)?;
        let mut tokens = ops::append_token(&self.cap_embedder.forward(features), &self.cap_pad_token, pads);
        let mut watch = Watch::new(STAGE);
        for (i, block) in self.context_refiner.iter().enumerate() {
            block.forward(&mut tokens, &caption_rope);
            watch.look(&tokens, || format!("context_refiner.{i}"))?;
        }
        watch.finish(&self.device)?;
        self.done_with(usize::MAX);
        Ok(Caption {
            tokens,
            image_rope: Rope::new(&self.config, &image, &self.device)?,
            rope: Rope::new(&self.config, &[image, caption].concat(), &self.device)?,
        })
    }

    /// All modulations at time `t`, from 0 (noise) to 1 (picture). Independent of prompt and latents.
    pub fn time_condition(&self, t: f32) -> Result<TimeCondition> {
        Ok(self.condition(&self.t_embedder.features(t, &self.device)?))
    }

    /// All modulations at the time that has these features.
    fn condition(&self, features: &Tensor) -> TimeCondition {
        let mut temb = self.t_embedder.forward(features);
        let modulations = |blocks: &[ModulatedBlock]| blocks.iter().map(|b| b.modulation(&temb)).collect();
        let (noise_refiner, layers) = (modulations(&self.noise_refiner), modulations(&self.layers));
        ops::silu(&mut temb);
        TimeCondition { noise_refiner, layers, final_scale: self.final_layer.scale(&temb) }
    }

    /// One pass for every lane: latents `(channels, height, width)` -> velocity towards the picture, of the same shape.
    ///
    /// The lanes go through each block one after the other, so that its weights are read, widened or laid out once for all
    /// of them. A lane's result doesn't depend on the others, to the bit; nor does its failure touch them.
    ///
    /// # Errors
    /// For each lane, [`Error::NonFinite`] with the layer's name.
    pub fn forward(&self, lanes: &[Lane<'_>]) -> Vec<Result<Output>> {
        let finish = |passed: Passed| passed.watch.finish(&self.device).map(|()| passed.output);
        self.pass(lanes).into_iter().map(|passed| passed.and_then(finish)).collect()
    }

    /// [`Transformer::forward`] up to what the device tells later.
    fn pass(&self, lanes: &[Lane<'_>]) -> Vec<Result<Passed>> {
        let mut streams: Vec<Stream<'_>> = lanes.iter().map(|lane| self.embed(lane)).collect();
        for (i, block) in self.noise_refiner.iter().enumerate() {
            for stream in &mut streams {
                let Lane { caption, time, .. } = stream.lane;
                let forward = |x: &mut Tensor| block.forward(x, &caption.image_rope, &time.noise_refiner[i]);
                stream.advance(forward, || format!("noise_refiner.{i}"));
            }
            self.done_with(i);
        }
        streams.iter_mut().for_each(Stream::join_caption);
        for (i, block) in self.layers.iter().enumerate() {
            for stream in streams.iter_mut().filter(|stream| stream.runs_main_layers()) {
                let Lane { caption, time, .. } = stream.lane;
                let forward = |x: &mut Tensor| block.forward(x, &caption.rope, &time.layers[i]);
                stream.advance(forward, || format!("layers.{i}"));
            }
            self.done_with(self.noise_refiner.len() + i);
        }
        streams.into_iter().map(|stream| self.output(stream)).collect()
    }

    /// [`Transformer::forward`] for a single lane.
    ///
    /// # Errors
    /// [`Error::NonFinite`] with the layer's name.
    pub fn forward_one(&self, lane: Lane<'_>) -> Result<Output> {
        self.forward(&[lane]).remove(0)
    }

    /// Latents -> tokens of the picture, padded: `(tokens + padding, dim)`.
    fn embed<'a>(&self, lane: &'a Lane<'a>) -> Stream<'a> {
        let x = ops::linear(&ops::patchify(lane.latents), &self.x_embedder);
        let x = ops::append_token(&x, &self.x_pad_token, padding(x.rows()));
        Stream { lane, x: Ok(x), watch: Watch::new(STAGE), before: None }
    }

    /// The tokens after the last layer -> what the pass gives.
    fn output(&self, stream: Stream<'_>) -> Result<Passed> {
        let Stream { lane, x, mut watch, before } = stream;
        let x = ops::slice_rows(&x?, 0, tokens(lane.latents));
        let residual = before.map(|mut residual| {
            ops::subtract_from(&mut residual, &x);
            Residual(residual)
        });
        let [_, height, width] = lane.latents.shape()[..] else { panic!("latents of {:?}", lane.latents.shape()) };
        let x = self.final_layer.forward(&x, &lane.time.final_scale);
        watch.look(&x, || "all_final_layer.2-1".into())?;
        Ok(Passed { output: Output { velocity: ops::unpatchify(&x, height, width), residual }, watch })
    }

    /// The sizes that it was read with.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    fn check_positions(&self, caption: usize, height: usize, width: usize) -> Result<()> {
        let [t, h, w] = self.config.axes_lens;
        if caption + 1 >= t {
            return Err(Error::Request {
                what: format!("the prompt takes {caption} tokens, the model has positions for {}", t.saturating_sub(2)),
                hint: "use a shorter prompt".into(),
            });
        }
        if height > h || width > w {
            return Err(Error::Request {
                what: format!("a picture of {}x{} pixels is too large for the model", 16 * width, 16 * height),
                hint: format!("the largest picture has {}x{} pixels", 16 * w, 16 * h),
            });
        }
        Ok(())
    }
}

/// Tokens of latents `(channels, height, width)`, without padding.
fn tokens(latents: &Tensor) -> usize {
    latents.shape()[1] / 2 * (latents.shape()[2] / 2)
}
