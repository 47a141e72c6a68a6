//! Speed of CUDA's operations at the shapes of Z-Image-Turbo and 1024x1024, beside the floor of each on the same GPU.
//!
//! `cargo bench -p zimage-tensor --bench cuda [-- [--tiny] [--list] [--json FILE] NAME...]` prints one line per operation;
//! NAMEs keep the lines that contain one of them, `fp8` those that compute so. A floor is the larger of the bytes that
//! must be moved over the rate of memory and the operations over the rate of products, both measured before on the same
//! device, so that a share of 100 % is what nothing can beat that computes the same. A convolution counts as if it were
//! done directly.
//!
//! `--tiny` has a few tokens and pixels: with it the bench can be tried where there is no GPU, in a build with
//! `--features cuda-emulator` and with `ZIMAGE_CUDA_EMULATOR=8000000000`. Those times say nothing.
//!
//! ```text
//! sizes.rs      the model's sizes, and tiny ones
//! gauge.rs      how a case is timed, and what the device can do at best
//! inputs.rs     tensors and weights
//! report.rs     the table, and the file
//! linear.rs attention.rs rows.rs moves.rs pictures.rs uploads.rs     the cases
//! ```

mod attention;
mod gauge;
mod inputs;
mod linear;
mod moves;
mod pictures;
mod report;
mod rows;
mod sizes;
mod uploads;

use gauge::{Case, Gauge};
use report::Report;
use sizes::Sizes;
use std::path::PathBuf;
use zimage_tensor::Device;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let Arguments { tiny, list, json, names } = arguments()?;
    let device = match Device::cuda(0) {
        Ok(device) => device,
        Err(error) => {
            println!("skipped: {}", error.to_string().lines().next().unwrap_or_default());
            return Ok(());
        }
    };
    let sizes = if tiny { Sizes::TINY } else { Sizes::TURBO };
    let mut cases = cases(&device, &sizes);
    let label = |case: &Case| format!("{} {}", case.name, case.compute.name());
    cases.retain(|case| names.is_empty() || names.iter().any(|name| label(case).contains(name.as_str())));
    if list {
        cases.iter().for_each(|case| println!("{}", label(case)));
        return Ok(());
    }
    let gauge = Gauge::new(&device, &sizes)?;
    let mut report = Report::new(&device, &gauge, tiny);
    report.print_head();
    for case in &cases {
        report.add(case, gauge.measure(case)?);
        // What is measured is kept although something later may fail.
        if let Some(file) = &json {
            report.write(file)?;
        }
    }
    Ok(())
}

fn cases(device: &Device, sizes: &Sizes) -> Vec<Case> {
    let mut cases = linear::cases(device, sizes);
    cases.extend(attention::cases(device, sizes));
    cases.extend(rows::cases(device, sizes));
    cases.extend(moves::cases(device, sizes));
    cases.extend(pictures::cases(device, sizes));
    cases.extend(uploads::cases(device, sizes));
    cases
}

struct Arguments {
    tiny: bool,
    list: bool,
    json: Option<PathBuf>,
    names: Vec<String>,
}

fn arguments() -> Result<Arguments> {
    let mut arguments = Arguments { tiny: false, list: false, json: None, names: Vec::new() };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--tiny" => arguments.tiny = true,
            "--list" => arguments.list = true,
            "--json" => arguments.json = Some(given.next().ok_or("--json takes a file")?.into()),
            // Cargo says this to every bench.
            "--bench" => {}
            flag if flag.starts_with('-') => return Err(format!("there is no {flag}").into()),
            _ => arguments.names.push(argument),
        }
    }
    Ok(arguments)
}
