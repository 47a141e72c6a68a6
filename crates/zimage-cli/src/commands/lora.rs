//! `zimage lora`: adapters baked into a model.

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;
use zimage_weights::Component;
use zimage_weights::convert::Model;
use zimage_weights::lora::{Adapter, Fused};

use super::convert;
use crate::args::{FuseArgs, LoraCommand};
use crate::env::Environment;
use crate::failure::Failure;
use crate::loras;
use crate::progress::Progress;

pub fn run(command: &LoraCommand, environment: &Environment, progress: &Progress) -> Result<ExitCode, Failure> {
    match command {
        LoraCommand::Fuse(args) => fuse(args, environment, progress),
    }
}

fn fuse(args: &FuseArgs, environment: &Environment, progress: &Progress) -> Result<ExitCode, Failure> {
    let model = convert::open(&args.source, &args.parts, environment, progress)?;
    let (transformer, text_encoder) = (model.specs(Component::Transformer), model.specs(Component::TextEncoder));
    let mut adapters = Vec::new();
    let mut records = Vec::new();
    for choice in &args.lora {
        let (path, weight) = choice.find(environment)?;
        let adapter = Adapter::open(&path, &transformer, &text_encoder).map_err(Failure::model)?;
        loras::tell(&adapter, weight, progress);
        records.push(json!({ "name": adapter.name(), "sha256": adapter.sha256(), "weight": weight }));
        adapters.push((Arc::new(adapter), weight as f32));
    }
    let base = model.checkpoint().label().to_owned();
    let info = json!({ "base": base, "loras": records, "zimage": env!("CARGO_PKG_VERSION") });
    let info = format!("{info:#}\n").into_bytes();
    let fused = Fused::new(model, adapters);
    convert::write(&fused, &args.target, &args.destination, &[("lora_fusion_info.json", info)], progress)
}
