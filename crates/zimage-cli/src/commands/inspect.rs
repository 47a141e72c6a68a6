//! `zimage inspect`: what a file or a directory is.

use std::fmt::Display;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use zimage::pipeline::metadata::Embedded;
use zimage_weights::inspect::{Part, Report, inspect};
use zimage_weights::lora;

use crate::args::InspectArgs;
use crate::failure::{Failure, printable, printable_name};
use crate::output::print_line;

/// Longest value of a file's metadata that is printed for people.
const MAX_VALUE_CHARS: usize = 200;
/// Most modules of a LoRA that are listed for people.
const MAX_MODULES: usize = 8;

pub fn run(args: &InspectArgs) -> Result<ExitCode, Failure> {
    if is_picture(&args.path) {
        picture(args)?;
    } else {
        let report = inspect(&args.path).map_err(refused)?;
        match args.json {
            true => print_line(&serde_json::to_string(&report).expect("a report is plain data: this is a bug"))?,
            false => print(&report)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A path that is not there is a missing model; a file that cannot be read is a failure.
pub fn refused(error: zimage_weights::Error) -> Failure {
    match &error {
        zimage_weights::Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => Failure::model(error),
        _ => Failure::failed(error),
    }
}

/// Whether a file begins as PNG, JPEG or WebP files do.
fn is_picture(path: &Path) -> bool {
    let mut start = [0; 12];
    let read = path.is_file() && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok();
    let webp = start.starts_with(b"RIFF") && start.ends_with(b"WEBP");
    read && (start.starts_with(b"\x89PNG\r\n\x1a\n") || start.starts_with(b"\xff\xd8\xff") || webp)
}

fn picture(args: &InspectArgs) -> Result<(), Failure> {
    let embedded = Embedded::from_image_file(&args.path).map_err(Failure::failed)?;
    let (metadata, parameters) = embedded.map_or((None, None), |embedded| (embedded.metadata, embedded.parameters));
    if args.json {
        let path = args.path.display().to_string();
        let object = json!({ "path": path, "container": "picture", "metadata": metadata, "parameters": parameters });
        return print_line(&object.to_string());
    }
    print_line(&format!("{}: a picture", printable_name(&args.path.display().to_string())))?;
    if let Some(parameters) = &parameters {
        print_line(&format!("\nparameters\n{}", printable(parameters)))?;
    }
    if let Some(metadata) = &metadata {
        let pretty = serde_json::to_string_pretty(metadata).expect("metadata is plain data: this is a bug");
        print_line(&format!("\nzimage\n{}", printable(&pretty)))?;
    }
    if metadata.is_none() && parameters.is_none() {
        print_line("it carries no metadata of zimage or of the Stable Diffusion web UI")?;
    }
    Ok(())
}

/// The table for people; `doctor` begins with it too.
pub fn print(report: &Report) -> Result<(), Failure> {
    print_line(&format!("path       {}", printable_name(&report.path)))?;
    print_line(&format!("container  {}", report.container))?;
    print_line(&format!("dialect    {}", report.dialect))?;
    print_line(&format!("supported  {}", if report.supported { "yes" } else { "no" }))?;
    report.parts.iter().try_for_each(print_part)
}

fn tensors(count: usize) -> String {
    if count == 1 { "1 tensor".to_owned() } else { format!("{count} tensors") }
}

fn print_part(part: &Part) -> Result<(), Failure> {
    let name = part.component.map_or("weights".to_string(), |component| component.to_string());
    let precision: Vec<String> = part
        .precision
        .counts
        .iter()
        .map(|count| format!("{} ({}, {})", count.format, tensors(count.tensors), size(count.size_bytes)))
        .collect();
    print_line(&format!(
        "\n{name}: {}, {:.3} M parameters, {}",
        tensors(part.tensors),
        part.parameters as f64 / 1e6,
        size(part.size_bytes)
    ))?;
    if let Some(architecture) = &part.architecture {
        print_line(&format!("  architecture {}", shortened(architecture)))?;
    }
    if !precision.is_empty() {
        print_line(&format!("  precision  {}", precision.join(", ")))?;
    }
    for file in &part.files {
        print_line(&format!("  file       {} ({})", printable_name(&file.path), size(file.size_bytes)))?;
    }
    if let Some(config) = &part.config {
        print_line(&format!("  config     {}", shortened(&config.to_string())))?;
    }
    if let Some(lora) = &part.lora {
        print_lora(lora)?;
    }
    for (key, value) in &part.metadata {
        print_line(&format!("  metadata   {} = {}", shortened(key), shortened(value)))?;
    }
    if let Some(problem) = &part.problem {
        print_line(&format!("  problem    {}", printable(problem)))?;
    }
    Ok(())
}

/// What an adapter is, and how it fits the published model.
fn print_lora(lora: &lora::Report) -> Result<(), Failure> {
    let joined = |list: &[String]| list.iter().map(|text| shortened(text)).collect::<Vec<_>>().join(", ");
    let numbers = |list: &[usize]| list.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let targets: Vec<String> = lora.targets.iter().map(|(name, count)| format!("{name} ({count})")).collect();
    let alphas: Vec<String> = lora.alphas.iter().map(f64::to_string).collect();
    let notes = &lora.notes;
    let weight = notes.recommended_weight.map(|weight| weight.to_string());
    let lines = [
        ("title", notes.title.as_deref().map(shortened).unwrap_or_default()),
        ("kind", lora.kinds.join(", ")),
        ("rank", numbers(&lora.ranks)),
        ("alpha", if alphas.is_empty() { "none: unscaled".to_owned() } else { alphas.join(", ") }),
        ("targets", targets.join(", ")),
        ("triggers", joined(&notes.trigger_words)),
        ("tags", joined(&notes.frequent_tags)),
        ("weight", weight.map(|weight| format!("{weight} recommended")).unwrap_or_default()),
        ("made for", joined(&notes.base_model)),
        ("layers", format!("{} of the {} of Z-Image-Turbo", lora.matched, lora.layers)),
    ];
    for (name, text) in lines.iter().filter(|(_, text)| !text.is_empty()) {
        print_line(&format!("  {name:<10} {text}"))?;
    }
    print_some("unmatched", &lora.unmatched)?;
    print_some("redundant", &lora.redundant)?;
    print_some("misfit", &lora.misfits)
}

/// The first of a list that may be long; `--json` has all.
fn print_some(name: &str, list: &[impl Display]) -> Result<(), Failure> {
    for module in list.iter().take(MAX_MODULES) {
        print_line(&format!("  {name:<10} {}", shortened(&module.to_string())))?;
    }
    let left = list.len().saturating_sub(MAX_MODULES);
    if left > 0 { print_line(&format!("  {name:<10} and {left} more")) } else { Ok(()) }
}

fn shortened(text: &str) -> String {
    let start: String = text.chars().take(MAX_VALUE_CHARS).collect();
    let ellipsis = if start.len() < text.len() { " ..." } else { "" };
    format!("{}{ellipsis}", printable_name(&start.replace('\n', " ")))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
