//! Chores of the repository: `cargo xtask <chore>`.

mod bench_run;
mod goldens;
mod mlx_linux;
mod random_checkpoint;
mod tidy;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("bench-run") => bench_run::run(arguments),
        Some("goldens") => goldens::run(arguments),
        Some("mlx-linux") => mlx_linux::run(arguments),
        Some("random-checkpoint") => random_checkpoint::run(arguments),
        Some("tidy") => tidy::run(),
        _ => bail!("usage: cargo xtask bench-run|goldens|mlx-linux|random-checkpoint|tidy"),
    }
}
