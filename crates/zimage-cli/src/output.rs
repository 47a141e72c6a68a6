//! Where results go: file names, numbering, and files that are whole or not there.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use zimage::pipeline::image::ImageFormat;

use crate::failure::Failure;

/// Longest part of a prompt in a file name, in bytes; file systems allow 255 for the whole name.
const MAX_PROMPT_BYTES: usize = 100;

/// What the placeholders of a file name stand for.
pub struct Placeholders<'a> {
    pub seed: u64,
    /// Counts the pictures of a run from 0.
    pub index: usize,
    pub prompt: &'a str,
}

/// A file name with `{seed}`, `{index}` and `{prompt}` in it.
#[derive(Debug, Clone)]
pub struct Template(String);

impl Template {
    /// Checks the placeholders.
    pub fn new(text: &str) -> Result<Self, Failure> {
        let template = Self(text.into());
        let filled = template.fill(&Placeholders { seed: 0, index: 0, prompt: "x" })?;
        if filled.file_name().is_none() {
            return Err(Failure::usage(format!("`{text}` is not a file name")));
        }
        Ok(template)
    }

    /// A template for pictures: its ending selects the format.
    pub fn for_pictures(text: &str) -> Result<(Self, ImageFormat), Failure> {
        let template = Self::new(text)?;
        let format = ImageFormat::from_path(Path::new(text)).map_err(Failure::usage)?;
        Ok((template, format))
    }

    /// The file name of one picture.
    pub fn fill(&self, values: &Placeholders<'_>) -> Result<PathBuf, Failure> {
        let mut name = String::new();
        let mut rest = self.0.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            name.push_str(before);
            let (key, after) = after.split_once('}').unwrap_or((after, ""));
            match key {
                "seed" => name.push_str(&values.seed.to_string()),
                "index" => name.push_str(&values.index.to_string()),
                "prompt" => name.push_str(&sanitized(values.prompt)),
                other => {
                    let failure = Failure::usage(format!("`{{{other}}}` is not a placeholder of file names"));
                    return Err(failure.with_hint("the placeholders are {seed}, {index} and {prompt}"));
                }
            }
            rest = after;
        }
        name.push_str(rest);
        Ok(name.into())
    }
}

/// A prompt as part of a file name: letters and digits, and one dash for anything else between them.
fn sanitized(prompt: &str) -> String {
    let words = prompt.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut name = String::new();
    for c in words.collect::<Vec<_>>().join("-").chars() {
        if name.len() + c.len_utf8() > MAX_PROMPT_BYTES {
            break;
        }
        name.push(c);
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() { "untitled".into() } else { name.into() }
}

/// Makes the directory of a file and checks that files can be made there, before minutes are spent on the contents.
pub fn prepare(path: &Path) -> Result<(), Failure> {
    let directory = directory_of(path);
    let failed = |error: io::Error| Failure::usage(format!("cannot write in {}: {error}", directory.display()));
    fs::create_dir_all(directory).map_err(failed)?;
    let temporary = temporary_beside(path);
    fs::write(&temporary, b"").and_then(|()| fs::remove_file(&temporary)).map_err(failed)
}

/// Writes a new file, and says its name: `path`, or with the first free number, `path-1`, `path-2`, ...
pub fn write_numbered(path: &Path, bytes: &[u8]) -> Result<PathBuf, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    let temporary = temporary_beside(path);
    let written = write_synced(&temporary, bytes).and_then(|()| link_numbered(&temporary, path));
    // After a rename the temporary name is gone already.
    let _ = fs::remove_file(&temporary);
    written.map_err(failed)
}

/// Replaces a file of our own, at once.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    fs::create_dir_all(directory_of(path)).map_err(failed)?;
    let temporary = temporary_beside(path);
    let renamed = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    renamed.inspect_err(|_| drop(fs::remove_file(&temporary))).map_err(failed)
}

/// The first name in the numbering that is free: `out.png`, `out-1.png`, ...
pub fn numbered(path: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    let name = move |number: u64| path.with_file_name(format!("{stem}-{number}{extension}"));
    std::iter::once(path.to_path_buf()).chain((1..).map(name))
}

/// Gives the temporary file its final name without ever replacing a file, also when two programs do it at once: making
/// a hard link fails where the name exists. Where links are not to be had, the name is checked and then taken.
fn link_numbered(temporary: &Path, path: &Path) -> io::Result<PathBuf> {
    for candidate in numbered(path) {
        match fs::hard_link(temporary, &candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(_) if candidate.exists() => {}
            Err(_) => return fs::rename(temporary, &candidate).map(|()| candidate),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary_beside(path: &Path) -> PathBuf {
    directory_of(path).join(format!(".zimage-{}.tmp", std::process::id()))
}

/// Writes one line of data to stdout.
pub fn print_line(line: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    written.map_err(|error| Failure::failed(format!("cannot write to stdout: {error}")))
}

#[cfg(test)]
mod tests;
