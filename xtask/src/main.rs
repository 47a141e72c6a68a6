//! Chores of the repository: `cargo xtask <chore>`.

mod goldens;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("goldens") => goldens::run(arguments),
        _ => bail!("usage: cargo xtask goldens"),
    }
}
