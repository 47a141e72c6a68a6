//! Whose names the tensors of a file carry. A dialect is recognised by names that only it has.

use std::fmt;

use serde::Serialize;

use crate::container::Container;
use crate::schema::Component;

/// A naming of tensors, or a model that is not Z-Image at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Dialect {
    /// Z-Image as diffusers saves it.
    Diffusers,
    /// Z-Image as its authors and ComfyUI name it, one part or all in one file.
    Comfyui,
    /// Z-Image quantized or renamed for MLX.
    Mlx,
    /// Z-Image as mflux saves it.
    Mflux,
    /// Z-Image quantized by SVDQuant for nunchaku.
    Nunchaku,
    /// The image-conditioned Z-Image-Omni.
    Omni,
    /// A pixel-space relative of Z-Image.
    PixelSpace,
    /// A control network for Z-Image.
    Controlnet,
    /// A LoRA, LoKr or LoHa adapter.
    Lora,
    /// The text encoder as llama.cpp names it.
    LlamaCpp,
    /// A pickle of PyTorch.
    Pickle,
    /// FLUX.
    Flux,
    /// HunyuanVideo.
    HunyuanVideo,
    /// Lumina-Image 2.
    Lumina2,
    /// Stable Diffusion XL.
    Sdxl,
    /// Stable Diffusion 1.
    Sd1,
    /// Nothing known.
    Unknown,
}

impl Dialect {
    /// In words, for messages: "a FLUX checkpoint, not Z-Image".
    pub fn describe(self) -> &'static str {
        match self {
            Dialect::Diffusers => "a part of Z-Image in the naming of diffusers",
            Dialect::Comfyui => "Z-Image in the naming of ComfyUI",
            Dialect::Mlx => "Z-Image for MLX",
            Dialect::Mflux => "Z-Image as saved by mflux",
            Dialect::Nunchaku => "Z-Image quantized for nunchaku",
            Dialect::Omni => "Z-Image-Omni, which also reads images",
            Dialect::PixelSpace => "a pixel-space relative of Z-Image",
            Dialect::Controlnet => "a Z-Image ControlNet",
            Dialect::Lora => "a LoRA adapter",
            Dialect::LlamaCpp => "a Qwen3 text encoder in the naming of llama.cpp",
            Dialect::Pickle => "a PyTorch pickle, which can run code and is never opened",
            Dialect::Flux => "a FLUX checkpoint, not Z-Image",
            Dialect::HunyuanVideo => "a HunyuanVideo checkpoint, not Z-Image",
            Dialect::Lumina2 => "a Lumina-2 checkpoint, not Z-Image",
            Dialect::Sdxl => "a Stable Diffusion XL checkpoint, not Z-Image",
            Dialect::Sd1 => "a Stable Diffusion 1 checkpoint, not Z-Image",
            Dialect::Unknown => "an unknown kind of file",
        }
    }

    /// Whether it is one of the namings of Z-Image that are read.
    pub(crate) fn is_read(self) -> bool {
        matches!(self, Dialect::Diffusers | Dialect::Comfyui | Dialect::Mlx | Dialect::Mflux | Dialect::LlamaCpp)
    }

    /// The dialect of a diffusers directory by the class that its model index names.
    pub(super) fn of_pipeline(class: &str) -> Self {
        let known = [
            ("ZImageOmni", Dialect::Omni),
            ("ZImage", Dialect::Diffusers),
            ("Flux", Dialect::Flux),
            ("HunyuanVideo", Dialect::HunyuanVideo),
            ("Lumina2", Dialect::Lumina2),
            ("StableDiffusionXL", Dialect::Sdxl),
            ("StableDiffusionPipeline", Dialect::Sd1),
        ];
        known.iter().find(|(prefix, _)| class.starts_with(prefix)).map_or(Dialect::Unknown, |(_, dialect)| *dialect)
    }

    /// The dialect of a file by its metadata and tensor names, and which part of Z-Image it is.
    pub(crate) fn of(container: &Container) -> (Self, Option<Component>) {
        let names = Names::of(container);
        let wrapped = by_wrapping(&names, container);
        wrapped
            .or_else(|| by_transformer(&names))
            .or_else(|| by_other_model(&names))
            .unwrap_or((Dialect::Unknown, None))
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe())
    }
}

type Found = Option<(Dialect, Option<Component>)>;

/// Adapters, control networks and quantized files: they contain the names of the model that they are made for, so they
/// are looked for first.
fn by_wrapping(names: &Names<'_>, container: &Container) -> Found {
    const ADAPTER: [&str; 9] =
        [".lora_A", ".lora_B", ".lora_down", ".lora_up", ".lora.", "_lora.", ".lora_linear_layer", ".lokr_", ".hada_"];
    let metadata = container.metadata();
    let says = |key: &str, word: &str| metadata.get(key).is_some_and(|value| value.contains(word));
    let part = names.component();
    if names.any(|name| ADAPTER.iter().any(|mark| name.contains(mark))) {
        Some((Dialect::Lora, None))
    } else if names.has("control_all_x_embedder.2-1.weight") {
        Some((Dialect::Controlnet, None))
    } else if says("model_class", "Nunchaku") || says("quantization_config", "svdquant") {
        Some((Dialect::Nunchaku, part))
    } else if names.is_z_image() && metadata.contains_key("mflux_version") {
        Some((Dialect::Mflux, part))
    } else if names.is_z_image() && (names.ends(".scales") || names.is_of_mlx()) {
        Some((Dialect::Mlx, part))
    } else {
        None
    }
}

/// Parts of Z-Image in the namings of diffusers and ComfyUI, and the relatives that share most of their names.
fn by_transformer(names: &Names<'_>) -> Found {
    let part = names.component();
    if names.has("siglip_embedder.0.weight") {
        return Some((Dialect::Omni, part));
    }
    if names.has("all_x_embedder.2-1.weight") || names.has("decoder.up_blocks.0.resnets.0.conv1.weight") {
        return Some(if names.is_other_vae() { (Dialect::Unknown, part) } else { (Dialect::Diffusers, part) });
    }
    if names.has("noise_refiner.0.attention.k_norm.weight") {
        let dim = names.shape("cap_embedder.1.weight").and_then(|shape| shape.first().copied());
        return Some(match dim {
            _ if names.has("dec_net.cond_embed.weight") => (Dialect::PixelSpace, None),
            Some(2304) => (Dialect::Lumina2, None),
            _ => (Dialect::Comfyui, part),
        });
    }
    if names.has("time_caption_embed.caption_embedder.0.weight") {
        return Some((Dialect::Lumina2, None));
    }
    if names.has("token_embd.weight") && names.has("blk.0.attn_q_norm.weight") {
        return Some((Dialect::LlamaCpp, Some(Component::TextEncoder)));
    }
    let qwen3 = names.has("embed_tokens.weight") && names.has("layers.0.self_attn.q_norm.weight");
    qwen3.then_some((Dialect::Diffusers, Some(Component::TextEncoder)))
}

/// Models that people try by mistake.
fn by_other_model(names: &Names<'_>) -> Found {
    let known = [
        (Dialect::HunyuanVideo, "txt_in.individual_token_refiner.blocks.0.self_attn_qkv.weight"),
        (Dialect::HunyuanVideo, "context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight"),
        (Dialect::Flux, "double_blocks.0.img_attn.qkv.weight"),
        (Dialect::Flux, "single_transformer_blocks.0.attn.to_q.weight"),
        (Dialect::Sdxl, "label_emb.0.0.weight"),
        (Dialect::Sdxl, "add_embedding.linear_1.weight"),
        (Dialect::Sdxl, "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight"),
        (Dialect::Sd1, "input_blocks.0.0.weight"),
        (Dialect::Sd1, "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"),
    ];
    if let Some((dialect, _)) = known.into_iter().find(|(_, name)| names.has(name)) {
        return Some((dialect, None));
    }
    let vae = names.has("decoder.up.0.block.0.conv1.weight");
    let dialect = if names.is_other_vae() { Dialect::Unknown } else { Dialect::Comfyui };
    vae.then(|| (dialect, names.component()))
}

/// Names of a container, looked up under every prefix that programs put before them.
struct Names<'a>(&'a Container);

/// What programs put before the names of a model.
const PREFIXES: [&str; 6] = ["", "model.diffusion_model.", "diffusion_model.", "transformer.", "model.", "vae."];

impl<'a> Names<'a> {
    fn of(container: &'a Container) -> Self {
        Self(container)
    }

    fn has(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    fn shape(&self, name: &str) -> Option<&'a [usize]> {
        PREFIXES.iter().find_map(|prefix| self.0.info(&format!("{prefix}{name}"))).map(|info| &*info.shape)
    }

    fn any(&self, holds: impl Fn(&str) -> bool) -> bool {
        self.0.names().any(holds)
    }

    fn ends(&self, end: &str) -> bool {
        self.any(|name| name.ends_with(end))
    }

    /// Whether a part of Z-Image is there, as MLX programs name them.
    fn is_z_image(&self) -> bool {
        let transformer = self.any(|name| name.contains("cap_embedder.") || name.contains("noise_refiner."));
        transformer || self.is_vae() || self.any(|name| name.ends_with("embed_tokens.weight"))
    }

    fn is_vae(&self) -> bool {
        self.any(|name| name.contains("decoder.conv_in.")) && !self.is_other_vae()
    }

    /// Names that only the original application has.
    fn is_of_mlx(&self) -> bool {
        self.has("t_embedder.mlp.layers.0.weight") || self.has("decoder.mid_block.layers.0.conv1.weight")
    }

    /// The autoencoder of Stable Diffusion has the same names; its first convolution takes 4 channels and not 16.
    fn is_other_vae(&self) -> bool {
        self.shape("decoder.conv_in.weight").is_some_and(|shape| shape.get(1) == Some(&4))
    }

    /// Which part of Z-Image this is; `None` where it is several in one file, or none.
    fn component(&self) -> Option<Component> {
        let transformer = self.has("cap_embedder.1.weight") || self.has("cap_embedder.layers.1.weight");
        let vae = self.any(|name| name.contains("decoder.conv_in."));
        let text = self.any(|name| name.ends_with("embed_tokens.weight") || name == "token_embd.weight");
        match (transformer, text, vae) {
            (true, false, false) => Some(Component::Transformer),
            (false, true, false) => Some(Component::TextEncoder),
            (false, false, true) => Some(Component::Vae),
            _ => None,
        }
    }
}
