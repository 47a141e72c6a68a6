//! `cargo xtask random-checkpoint`: a checkpoint with random weights, as large as the real one if asked.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use zimage_weights::random::{RandomCheckpoint, vocabulary_of};

const USAGE: &str = "usage: cargo xtask random-checkpoint DIRECTORY --tokenizer FILE [--shape turbo|tiny] [--seed N]";

/// Writes the checkpoint that the arguments describe.
pub fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    let Arguments { directory, tokenizer, shape, seed } = parse(arguments)?;
    let checkpoint = match shape.as_str() {
        "turbo" => RandomCheckpoint::turbo(seed),
        "tiny" => RandomCheckpoint::tiny(vocabulary_of(&tokenizer)?, seed),
        other => bail!("there is no shape {other}\n{USAGE}"),
    };
    let start = Instant::now();
    checkpoint.write(&directory, &tokenizer)?;
    eprintln!("{} written in {:.1} s", directory.display(), start.elapsed().as_secs_f64());
    Ok(())
}

struct Arguments {
    directory: PathBuf,
    tokenizer: PathBuf,
    shape: String,
    seed: u64,
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments> {
    let (mut directory, mut tokenizer, mut shape, mut seed) = (None, None, "turbo".to_owned(), 0);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value\n{USAGE}"));
        match argument.as_str() {
            "--tokenizer" => tokenizer = Some(PathBuf::from(value()?)),
            "--shape" => shape = value()?,
            "--seed" => seed = value()?.parse().context("--seed takes a whole number")?,
            flag if flag.starts_with('-') => bail!("there is no {flag}\n{USAGE}"),
            _ if directory.is_none() => directory = Some(PathBuf::from(argument)),
            _ => bail!("one directory at a time\n{USAGE}"),
        }
    }
    Ok(Arguments { directory: directory.context(USAGE)?, tokenizer: tokenizer.context(USAGE)?, shape, seed })
}
