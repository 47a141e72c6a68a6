//! `zimage merge`: a mixture of models.

use std::path::Path;
use std::process::ExitCode;

use zimage_weights::convert::Opened;
use zimage_weights::merge::{Merged, Method};

use super::convert;
use crate::args::MergeArgs;
use crate::env::Environment;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::request;

pub fn run(args: &MergeArgs, environment: &Environment, progress: &Progress) -> Result<ExitCode, Failure> {
    let [first, others @ .., destination] = &*args.paths else {
        return Err(
            Failure::usage("there are no models to mix").with_hint("give two or more, and then the destination")
        );
    };
    let base = convert::open(first, &args.parts, environment, progress)?;
    let open = |name: &String| {
        let checkpoint = request::open_transformer(name, (first, &args.parts), environment, progress)?;
        Opened::new(checkpoint).map_err(Failure::model)
    };
    let others = others.iter().map(open).collect::<Result<Vec<Opened>, Failure>>()?;
    let alphas = match (&*args.alpha, args.method) {
        ([], Method::AddDifference) => vec![1.0],
        ([], Method::WeightedSum) => vec![0.5; others.len()],
        // One weight is meant for all.
        (&[alpha], Method::WeightedSum) => vec![alpha; others.len()],
        (alphas, _) => alphas.to_vec(),
    };
    let merged = Merged::new(base, others, args.method, &alphas, args.dequantize).map_err(Failure::usage)?;
    let info = format!("{:#}\n", merged.info()).into_bytes();
    convert::write(&merged, &args.target, Path::new(destination), &[("merge_info.json", info)], progress)
}
