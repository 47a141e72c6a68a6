//! The flags of `zimage bench`.

use std::num::NonZeroUsize;
use std::str::FromStr;

use clap::Args;
use zimage_weights::convert::Precision;

use super::DeviceArgs;

pub const HELP: &str = "\
Examples:
  zimage bench
  zimage bench --precision bf16 --width 512 --height 512 --json
  zimage bench --shape demo --precision bf16 --width 128 --height 128 --steps 8

Weights are made in memory: no model is needed. Rates are operations over CPU time, so per core, beside the peak that the
same run measured. Loading is what it takes to lay out weights that lie in memory.";

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The model's sizes: turbo (Z-Image-Turbo) or demo.
    #[arg(long, default_value = "turbo")]
    pub shape: Shape,
    /// What weights are stored as: f32, bf16, f16, int8, int4, q8_0, q4_k, ...
    #[arg(long, default_value = "int8", value_parser = bench_precision)]
    pub precision: Precision,
    /// Width in pixels, a multiple of 16.
    #[arg(long, value_name = "PX", default_value = "512", value_parser = side)]
    pub width: u32,
    /// Height in pixels, a multiple of 16.
    #[arg(long, value_name = "PX", default_value = "512", value_parser = side)]
    pub height: u32,
    /// Steps that are run; what is printed is one of them on average.
    #[arg(long, value_name = "N", default_value = "1")]
    pub steps: NonZeroUsize,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// The sizes that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Turbo,
    Demo,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "turbo" => Ok(Self::Turbo),
            "demo" => Ok(Self::Demo),
            _ => Err("expected turbo or demo".into()),
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Turbo { "turbo" } else { "demo" })
    }
}

fn bench_precision(text: &str) -> Result<Precision, String> {
    match text.parse()? {
        Precision::Keep => Err("there is nothing to keep: name a precision".into()),
        precision => Ok(precision),
    }
}

/// A side of a picture: a multiple of 16 up to the largest that the model has positions for.
fn side(text: &str) -> Result<u32, String> {
    let side: u32 = text.parse().map_err(|_| "expected a number of pixels")?;
    if (16..=8192).contains(&side) && side.is_multiple_of(16) {
        return Ok(side);
    }
    Err("expected a multiple of 16, up to 8192".into())
}
