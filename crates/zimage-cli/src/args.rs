//! Every flag of the command line, declared once. Defaults that depend on the model or the config are filled in later.

mod bench;
mod serve;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use zimage::{Compute, ComputeChoice};

use crate::device::DeviceChoices;
use zimage::pipeline::cache::StepCache;
use zimage_weights::convert::{Precision, Target};

pub use bench::{BenchArgs, Shape};
pub use serve::{DbCommand, KeysCommand, ServeArgs, WorkArgs};

use crate::loras::LoraChoice;

const EXAMPLES: &str = "\
Examples:
  zimage generate \"a red fox in the snow\"
  zimage generate -m ./Z-Image-Turbo --width 1024 --height 768 --seed 42 -o fox.png \"a red fox\"
  zimage generate -m ./Z-Image-Turbo --init-image photo.jpg --strength 0.5 \"as a watercolour\"
  zimage generate -m z_image_turbo_bf16.safetensors --text-encoder qwen_3_4b.safetensors --vae ae.safetensors \\
    --tokenizer tokenizer.json \"a red fox\"
  zimage generate -m z_image_turbo-Q8_0.gguf --text-encoder Qwen3-4B-Q8_0.gguf --vae ae.safetensors \"a red fox\"
  zimage plan -m ./Z-Image-Turbo --width 2048 --height 2048 \"a red fox\"
  zimage doctor ./Z-Image-Turbo
  zimage models pull Tongyi-MAI/Z-Image-Turbo
  zimage serve

Every setting of config.toml in $ZIMAGE_HOME may also come from the environment, as ZIMAGE_ and its name in capitals
(ZIMAGE_MODEL, ZIMAGE_STEPS, ...). Flags win over the environment, and the environment over the file.";

/// Pictures from text with Z-Image, on your own machine.
#[derive(Debug, Parser)]
#[command(name = "zimage", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Cli {
    /// Print results and errors only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more about what is done; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make pictures from a prompt.
    Generate(Box<GenerateArgs>),
    /// Predict the memory and the work of `generate` with the same flags, without loading weights.
    Plan(Box<GenerateArgs>),
    /// Measure the speed of this machine on random weights of the real shape.
    #[command(after_help = bench::HELP)]
    Bench(BenchArgs),
    /// Serve the web page and the HTTP APIs.
    #[command(after_help = serve::HELP)]
    Serve(Box<ServeArgs>),
    /// Serve MCP, the protocol of language models' tools, on stdin and stdout.
    Mcp(Box<WorkArgs>),
    /// The keys of the server's clients.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// The server's database.
    #[command(subcommand)]
    Db(DbCommand),
    /// Say what a model file, a model directory or a picture is.
    #[command(after_help = READ_HELP)]
    Inspect(InspectArgs),
    /// Say whether a model can be used, and what is wrong with it.
    Doctor(InspectArgs),
    /// Write a model in another layout or precision.
    #[command(after_help = CONVERT_HELP)]
    Convert(Box<ConvertArgs>),
    /// Mix the transformers of several models into one.
    #[command(after_help = MERGE_HELP)]
    Merge(Box<MergeArgs>),
    /// LoRA adapters.
    #[command(subcommand)]
    Lora(LoraCommand),
    /// The models on this machine: list, fetch, import, choose, remove and check them.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Print a completion script for a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

const READ_HELP: &str = "\
What is read as a model or a part of one:
  diffusers      directories and single files, in f32, bf16 or f16
  ComfyUI        a file per part or one for all, also in fp8, mxfp8, nvfp4, int8 and ConvRot
  MLX and mflux  directories, affine with 2 to 8 bits, mxfp4, mxfp8 and nvfp4
  GGUF           transformers in the names of ComfyUI and Qwen3 of llama.cpp: F32, F16, BF16, Q8_0, Q4_0 to Q5_1,
                 Q2_K to Q6_K, IQ4_NL
LoRA files are read too, and pictures tell how they were made.";

const CONVERT_HELP: &str = "\
Examples:
  zimage convert ./Z-Image-Turbo turbo-8bit --to mlx --precision int8 --verify
  zimage convert ./Z-Image-Turbo turbo.safetensors --to comfyui --precision bf16
  zimage convert Z-Image-Turbo turbo-q8 --to gguf --precision q8_0 --quantize-text-encoder
  zimage convert turbo-8bit turbo-again --to diffusers --precision bf16

What is quantized are the linear layers of the transformer's blocks; with mlx also its embedders and final layer,
because the original application loads nothing else. Norms, biases and pad tokens are never quantized, and the VAE
neither.";

const MERGE_HELP: &str = "\
Examples:
  zimage merge A B mixed --method weighted-sum --alpha 0.3 --to diffusers
  zimage merge A B C mixed --method weighted-sum --alpha 0.3,0.2 --to diffusers
  zimage merge A B C mixed --method add-difference --alpha 1 --to comfyui

weighted-sum is (1 - alpha) A + alpha B, one model after the other; add-difference is A + alpha (B - C). Text encoder,
VAE and tokenizer are those of A.";

#[derive(Debug, Subcommand)]
pub enum LoraCommand {
    /// Write a model with LoRAs in its weights.
    Fuse(Box<FuseArgs>),
}

#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// The model: an installed one, or a path in any format that is read.
    pub source: String,
    /// Where to write it: a directory, with --to comfyui a .safetensors file.
    pub destination: PathBuf,
    #[command(flatten)]
    pub parts: PartArgs,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The models A, B, ..., and at last where to write the mixture.
    #[arg(required = true, num_args = 3.., value_names = ["A", "B", "DESTINATION"])]
    pub paths: Vec<String>,
    /// How models are mixed: weighted-sum or add-difference.
    #[arg(long, default_value = "weighted-sum")]
    pub method: zimage_weights::merge::Method,
    /// Weights, one for each model after the first [default: 0.5, with add-difference 1].
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true)]
    pub alpha: Vec<f32>,
    /// Mix quantized models by their rounded values.
    #[arg(long)]
    pub dequantize: bool,
    #[command(flatten)]
    pub parts: PartArgs,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Debug, Args)]
pub struct FuseArgs {
    /// The model: an installed one, or a path in any format that is read.
    pub source: String,
    /// Where to write it.
    pub destination: PathBuf,
    /// A LoRA file, or the name of one in <home>/loras, and how strongly it acts [default weight: 1]; repeatable.
    #[arg(long, value_name = "FILE|NAME[:WEIGHT]", required = true)]
    pub lora: Vec<LoraChoice>,
    #[command(flatten)]
    pub parts: PartArgs,
    #[command(flatten)]
    pub target: TargetArgs,
}

/// How a model is written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct TargetArgs {
    /// The layout: diffusers, mlx, comfyui (one file), comfyui-split, gguf.
    #[arg(long, value_name = "LAYOUT")]
    pub to: Target,
    /// What weights are stored as: keep, f32, bf16, f16; with mlx int8, int6, int5, int4, int3, int2; with gguf q8_0,
    /// q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k, q6_k.
    #[arg(long, default_value = "keep")]
    pub precision: Precision,
    /// Values that share a scale in the int formats: 32, 64 or 128 [default: 64].
    #[arg(long, value_name = "N", value_parser = group_size)]
    pub group_size: Option<usize>,
    /// Quantize the text encoder too, its table of tokens included.
    #[arg(long)]
    pub quantize_text_encoder: bool,
    /// Quantize the embedders and the final layer of the transformer too.
    #[arg(long)]
    pub quantize_embedders: bool,
    /// Read the result back, and compare every tensor with its source.
    #[arg(long)]
    pub verify: bool,
    /// Replace what is at the destination.
    #[arg(long)]
    pub force: bool,
}

fn group_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ (32 | 64 | 128)) => Ok(size),
        _ => Err("expected 32, 64 or 128".into()),
    }
}

#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List the installed models; `*` marks the default.
    List {
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model from Hugging Face, as far as it is not in its cache, and install it.
    #[command(after_help = PULL_HELP)]
    Pull(PullArgs),
    /// Install a model that is on the disk already; its files stay where they are.
    Import(ImportArgs),
    /// Make a model the default; `demo` goes back to the embedded one.
    Use {
        /// An installed model.
        name: String,
    },
    /// Remove a model, and those of its files that were fetched or copied for it.
    Rm {
        /// An installed model.
        name: String,
    },
    /// Read every file of a model, and compare it with what was installed.
    Verify {
        /// An installed model.
        name: String,
    },
}

const PULL_HELP: &str = "\
Examples:
  zimage models pull Tongyi-MAI/Z-Image-Turbo
  zimage models pull Comfy-Org/z_image_turbo:split_files/vae/ae.safetensors --name flux-vae

An interrupted pull goes on where it was. Files lie in the cache that diffusers uses too: HF_HOME, HF_HUB_CACHE.
Also honoured: HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE, HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE.";

#[derive(Debug, Args)]
pub struct PullArgs {
    /// ORGANIZATION/NAME, and maybe @REVISION, and maybe :FILE for one file alone.
    pub repo: String,
    /// The name to install it under [default: that of the repository or the file].
    #[arg(long)]
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A model, or a part of one: a file or a directory.
    pub path: PathBuf,
    /// The name to install it under [default: that of the file or directory].
    #[arg(long)]
    pub name: Option<String>,
    /// Copy the files into the home directory.
    #[arg(long)]
    pub copy: bool,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A file or a directory.
    pub path: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub prompt: PromptArgs,
    #[command(flatten)]
    pub size: SizeArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub image: ImageArgs,
    #[command(flatten)]
    pub lora: LoraArgs,
    #[command(flatten)]
    pub machine: MachineArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub later: LaterArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Prompt and model")]
pub struct PromptArgs {
    /// What the picture shows; may be empty.
    #[arg(conflicts_with = "prompt_file")]
    pub prompt: Option<String>,

    /// One prompt per line, one picture each; `-` reads stdin.
    #[arg(long, value_name = "FILE")]
    pub prompt_file: Option<PathBuf>,

    /// An installed model, or the path of one [default: the one of `models use`, else the embedded demo model].
    #[arg(short, long, value_name = "NAME|PATH")]
    pub model: Option<String>,

    #[command(flatten)]
    pub parts: PartArgs,
}

/// Parts of a model that are somewhere else.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Parts of the model")]
pub struct PartArgs {
    /// The text encoder, where the model has none or another is wanted: a safetensors or GGUF file, its directory or a
    /// model's [default: that of an installed model].
    #[arg(long, value_name = "PATH")]
    pub text_encoder: Option<PathBuf>,

    /// The VAE, likewise.
    #[arg(long, value_name = "PATH")]
    pub vae: Option<PathBuf>,

    /// A Z-Image checkpoint whose pad tokens are used, for a model of the original MLX application, which has none.
    #[arg(long, value_name = "PATH")]
    pub pad_tokens_from: Option<PathBuf>,

    /// The tokenizer: a tokenizer.json, its directory or a model's [default: the one beside the model].
    #[arg(long, value_name = "PATH")]
    pub tokenizer: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Size")]
pub struct SizeArgs {
    /// Width in pixels, a multiple of 16 [default: 1024; the demo model's own size; the init image's size].
    #[arg(long, value_name = "PX", conflicts_with_all = ["aspect", "base"])]
    pub width: Option<u32>,

    /// Height in pixels, a multiple of 16 [default: as for --width].
    #[arg(long, value_name = "PX", conflicts_with_all = ["aspect", "base"])]
    pub height: Option<u32>,

    /// Shape of the picture, instead of width and height: 16:9, 3:2, 1:1, ...
    #[arg(long, value_name = "W:H")]
    pub aspect: Option<Aspect>,

    /// Side of the square that has the picture's area, for --aspect [default: 1024; the demo model's own size].
    #[arg(long, value_name = "PX")]
    pub base: Option<u32>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Forward passes of the whole schedule [default: 8].
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,

    /// Seed of the noise, 64-bit; the same seed gives the same picture [default: random, and printed].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Pictures per prompt, with seeds counting up.
    #[arg(short = 'n', long, value_name = "N", default_value = "1")]
    pub count: NonZeroUsize,

    /// Guidance: pos + G (pos - neg); 0 is off [default: 0].
    #[arg(long, value_name = "G", allow_negative_numbers = true)]
    pub guidance: Option<f64>,

    /// What the picture must not show; acts when guidance is above 0 [default: empty].
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub negative: Option<String>,

    /// Cap the norm of the guided prediction at X times the unguided one's; 0 is off [default: 0].
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub cfg_normalization: Option<f64>,

    /// Stop guidance at times above X [default: 1].
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub cfg_truncation: Option<f64>,

    /// Shift of the schedule [default: the model's].
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub shift: Option<f64>,

    /// Step caching: none, slow, medium, fast; on some steps the main layers are not run, and what they added before is
    /// used again. Of 9 steps 7, 6 and 5 run them, and runs of up to 4 steps are not cached [default: none].
    #[arg(long, value_name = "MODE")]
    pub cache: Option<StepCache>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Starting from a picture")]
pub struct ImageArgs {
    /// Start from this picture instead of from noise.
    #[arg(long, value_name = "FILE")]
    pub init_image: Option<PathBuf>,

    /// How much of the init image is painted anew, from 0 to 1 [default: 0.6].
    #[arg(long, value_name = "X", requires = "init_image", allow_negative_numbers = true)]
    pub strength: Option<f64>,

    /// Paint only where this picture is white.
    #[arg(long, value_name = "FILE", requires = "init_image")]
    pub mask: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub struct DeviceArgs {
    /// Where to compute: auto (a GPU if there is one), cpu, cuda[:N], metal, mlx; `serve` takes several, as in
    /// cuda:0,cuda:1 [default: auto].
    #[arg(long)]
    pub device: Option<DeviceChoices>,

    /// Arithmetic: exact (f32; no activation is rounded or quantized), int8 (integer dot products in the blocks, also of
    /// weights that are not quantized), on a GPU also bf16, f16 and fp8; auto (on the CPU int8 for quantized weights where
    /// it has such instructions, else exact; on a GPU bf16, or f16 where it has no bf16) [default: auto].
    #[arg(long, value_parser = compute)]
    pub compute: Option<ComputeChoice>,

    /// Threads; the picture does not depend on them [default: all cores].
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub struct MachineArgs {
    #[command(flatten)]
    pub device: DeviceArgs,

    /// Cap on memory, on a GPU on its own: 6G, 512M, ... [default: all memory].
    #[arg(long, value_name = "SIZE")]
    pub mem: Option<MemorySize>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "LoRA")]
pub struct LoraArgs {
    /// A LoRA file, or the name of one in <home>/loras, and how strongly it acts [default weight: 1]; repeatable.
    #[arg(long, value_name = "FILE|NAME[:WEIGHT]")]
    pub lora: Vec<LoraChoice>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// File to write, .png, .jpg or .webp; {seed}, {index} and {prompt} are filled in; an existing file is never
    /// overwritten, a number is added instead [default: <home>/outputs/<date>/<time>-<seed>.png].
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<String>,

    /// Write the final latents, before the VAE, as safetensors.
    #[arg(long, value_name = "FILE")]
    pub save_latents: Option<String>,

    /// Print one JSON line per picture instead of its path.
    #[arg(long)]
    pub json: bool,
}

/// Flags of the contract that this build does not serve. They are refused by name, never ignored.
#[derive(Debug, Args)]
#[command(next_help_heading = "Not in this build")]
pub struct LaterArgs {
    /// ControlNet.
    #[arg(long, value_name = "PATH")]
    pub control_model: Option<PathBuf>,

    /// Picture for the ControlNet.
    #[arg(long, value_name = "FILE")]
    pub control_image: Option<PathBuf>,

    /// Weight of the ControlNet.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub control_scale: Option<f64>,

    /// Expand the prompt with a language model first.
    #[arg(long)]
    pub enhance: bool,

    /// Show the picture in the terminal.
    #[arg(long)]
    pub show: bool,
}

/// Width to height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aspect {
    pub width: f64,
    pub height: f64,
}

impl FromStr for Aspect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str| text.trim().parse().ok().filter(|side: &f64| side.is_finite() && *side > 0.0);
        let sides = text.split_once(':').and_then(|(width, height)| Some((side(width)?, side(height)?)));
        let (width, height) = sides.ok_or("expected two positive numbers, as in 16:9")?;
        Ok(Self { width, height })
    }
}

/// Which arithmetic to use.
pub fn compute(text: &str) -> Result<ComputeChoice, String> {
    let all = [Compute::Exact, Compute::Bf16, Compute::F16, Compute::Fp8, Compute::Int8];
    match all.into_iter().find(|compute| compute.name() == text) {
        Some(compute) => Ok(ComputeChoice::Always(compute)),
        None if text == "auto" => Ok(ComputeChoice::Auto),
        None => Err("expected auto, exact, bf16, f16, fp8 or int8".into()),
    }
}

/// A number of bytes; `6G`, `6GB` and `6GiB` are all 6 * 2^30.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySize(pub u64);

impl FromStr for MemorySize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim().to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return Err("expected a size such as 6G, 512M or 8000000000".into()),
        };
        let number: f64 = number.parse().map_err(|_| "expected a size such as 6G, 512M or 8000000000")?;
        let bytes = number * (1u64 << shift) as f64;
        if bytes >= 1.0 && bytes < u64::MAX as f64 {
            Ok(Self(bytes as u64))
        } else {
            Err("the size is out of range".into())
        }
    }
}

#[cfg(test)]
mod tests;
