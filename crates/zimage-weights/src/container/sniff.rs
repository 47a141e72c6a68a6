//! What a file is by its first bytes, whatever its name says.

use crate::{Error, Result};

/// Kind of a file by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// A length and a JSON object: most likely safetensors.
    Safetensors,
    /// A zip archive, which is how PyTorch saves pickles.
    Zip,
    /// A bare Python pickle.
    Pickle,
    /// A GGUF file of the llama.cpp family.
    Gguf,
    /// The text that stands in for a file when git-lfs was not run.
    GitLfsPointer,
    /// A web page, usually the error page of a failed download.
    Html,
    /// JSON text.
    Json,
    /// A PNG, JPEG or WebP picture.
    Picture,
    /// Nothing known.
    Unknown,
}

/// Looks at the first bytes of a file.
pub fn sniff(bytes: &[u8]) -> Kind {
    // A safetensors header may have any length, so its first bytes can look like anything: ask for its brace first.
    if bytes.get(8) == Some(&b'{') && bytes[4..8] == [0; 4] {
        return Kind::Safetensors;
    }
    let text = bytes.trim_ascii_start();
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    let html = |tag: &[u8]| text.len() >= tag.len() && text[..tag.len()].eq_ignore_ascii_case(tag);
    match () {
        _ if starts(b"PK\x03\x04") => Kind::Zip,
        _ if starts(b"GGUF") => Kind::Gguf,
        _ if starts(b"version https://git-lfs") => Kind::GitLfsPointer,
        _ if html(b"<!doctype") || html(b"<html") || html(b"<?xml") => Kind::Html,
        _ if starts(b"\x89PNG\r\n") || starts(b"\xff\xd8\xff") => Kind::Picture,
        _ if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") => Kind::Picture,
        _ if bytes.len() > 2 && bytes[0] == 0x80 && (2..=5).contains(&bytes[1]) => Kind::Pickle,
        _ if text.starts_with(b"{") => Kind::Json,
        _ => Kind::Unknown,
    }
}

/// An error that says what `bytes` are, where they are known to be something other than safetensors.
pub(super) fn refuse_others(file: &str, bytes: &[u8]) -> Result<()> {
    let (what, hint) = match sniff(bytes) {
        Kind::Zip => ("a zip archive, probably a PyTorch checkpoint", "convert it to safetensors where it was made"),
        Kind::Pickle => ("a Python pickle", "pickles can run code and are never opened; look for a safetensors file"),
        Kind::Gguf => ("a GGUF file", "give the safetensors version of this file"),
        Kind::GitLfsPointer => ("a git-lfs pointer, not the file itself", "run `git lfs pull` in its repository"),
        Kind::Html => ("a web page, probably of a failed download", "download the file again"),
        Kind::Json => ("a JSON text", "give the .safetensors file or the directory that it belongs to"),
        Kind::Picture => ("a picture", "give a model; `zimage inspect` tells how a picture was made"),
        Kind::Safetensors | Kind::Unknown => return Ok(()),
    };
    Err(Error::NotSafetensors { file: file.to_owned(), what, hint })
}
