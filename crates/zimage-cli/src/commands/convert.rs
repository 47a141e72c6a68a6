//! `zimage convert`: a model in another layout or precision. `merge` and `lora fuse` write theirs through it too.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use zimage_weights::convert::{
    Conversion, Model, Opened, Precision, Progress as Written, Reach, convert, parts_of, verify,
};
use zimage_weights::{Checkpoint, Component, Error};

use crate::args::{ConvertArgs, TargetArgs};
use crate::cancel;
use crate::env::{Environment, peak_memory};
use crate::failure::Failure;
use crate::output::print_line;
use crate::progress::Progress;
use crate::request;

pub fn run(args: &ConvertArgs, environment: &Environment, progress: &Progress) -> Result<ExitCode, Failure> {
    let model = open(&args.source, &args.parts, environment, progress)?;
    write(&model, &args.target, &args.destination, &[], progress)
}

/// Opens a model with all its weights.
pub fn open(
    name: &str,
    parts: &crate::args::PartArgs,
    environment: &Environment,
    progress: &Progress,
) -> Result<Opened, Failure> {
    let checkpoint = request::open(name, parts, environment, progress)?;
    Opened::new(checkpoint).map_err(Failure::model)
}

/// Writes a model, and compares what was written with it if that was asked for.
pub fn write(
    model: &dyn Model,
    args: &TargetArgs,
    destination: &Path,
    extra: &[(&str, Vec<u8>)],
    progress: &Progress,
) -> Result<ExitCode, Failure> {
    let precision = precision(args)?;
    let reach = Reach { text_encoder: args.quantize_text_encoder, embedders: args.quantize_embedders };
    let conversion = Conversion { target: args.to, precision, reach, replace: args.force };
    let stopped = cancel::flag()?;
    let started = Instant::now();
    let mut begun = false;
    let mut told = |written: Written<'_>| {
        if !std::mem::replace(&mut begun, true) {
            progress.bytes("writing", written.total_bytes, 0);
        }
        progress.position(written.done_bytes);
        !stopped.load(Ordering::Relaxed)
    };
    convert(model, &conversion, destination, extra, &mut told).map_err(refused)?;
    progress.finish();
    let gigabytes = peak_memory().map_or(String::new(), |bytes| format!(", {:.2} GB of memory", bytes as f64 / 1e9));
    progress.note(&format!("written in {:.1} s{gigabytes}", started.elapsed().as_secs_f64()));
    tell_formats(destination, progress)?;
    if args.verify {
        progress.stage("reading it back");
        let verified = verify(model, &parts_of(destination)).map_err(refused)?;
        progress.finish();
        let (equal, rounded) = (verified.equal, verified.rounded);
        progress.note(&match rounded {
            0 => format!("verified: all {equal} tensors have the values of the source, bit for bit"),
            _ => format!(
                "verified: {equal} tensors have the values of the source, {rounded} are its values rounded; the relative \
                 error is {:.5}",
                verified.relative_error
            ),
        });
    }
    print_line(&destination.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// The precision that was asked for. Flags that would do nothing are refused.
fn precision(args: &TargetArgs) -> Result<Precision, Failure> {
    let of_quantized =
        [("--quantize-text-encoder", args.quantize_text_encoder), ("--quantize-embedders", args.quantize_embedders)];
    let idle = match args.precision {
        Precision::Affine { bits, group } => {
            return Ok(Precision::Affine { bits, group: args.group_size.unwrap_or(group) });
        }
        _ if args.group_size.is_some() => Some("--group-size"),
        Precision::Blocks(_) => None,
        _ => of_quantized.iter().find(|(_, given)| *given).map(|(flag, _)| *flag),
    };
    let refused = |flag| {
        let precision = args.precision;
        let hint = match flag {
            "--group-size" => "groups are of the precisions int2 to int8",
            _ => "give a --precision that quantizes, such as int8 for mlx or q8_0 for gguf",
        };
        Err(Failure::usage(format!("{flag} does nothing with the precision {precision}")).with_hint(hint))
    };
    idle.map_or(Ok(args.precision), refused)
}

/// Says what the parts are stored as: layers whose rows a format does not divide stay in 16 bits.
fn tell_formats(destination: &Path, progress: &Progress) -> Result<(), Failure> {
    let written = Checkpoint::from_parts(&parts_of(destination)).and_then(Opened::new).map_err(refused)?;
    for component in Component::ALL {
        let counts = &written.weights(component).precision().counts;
        let formats: Vec<String> =
            counts.iter().map(|count| format!("{} tensors in {}", count.tensors, count.format)).collect();
        progress.note(&format!("{component}: {}", formats.join(", ")));
    }
    Ok(())
}

fn refused(error: Error) -> Failure {
    match &error {
        Error::Cancelled => Failure::cancelled(),
        Error::Exists { .. } | Error::Destination { .. } | Error::PrecisionOfTarget { .. } => Failure::usage(error),
        _ => Failure::failed(error),
    }
}
