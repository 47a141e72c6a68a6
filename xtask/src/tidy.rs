//! The rules of the house that a program can check: who may depend on whom, and how long functions and files may be.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The whole allowed list of dependencies between our crates.
const ARROWS: [(&str, &[&str]); 9] = [
    ("zimage-kernels", &[]),
    ("zimage-tensor", &["zimage-kernels"]),
    ("zimage-weights", &["zimage-kernels"]),
    ("zimage", &["zimage-tensor", "zimage-weights"]),
    ("zimage-store", &["zimage-weights"]),
    ("zimage-server", &["zimage"]),
    ("zimage-cli", &["zimage", "zimage-server", "zimage-store", "zimage-weights"]),
    ("zimage-hostile", &["zimage", "zimage-weights"]),
    ("xtask", &["zimage-weights"]),
];

/// Crates from elsewhere that one of ours alone may name.
const OWNED: [(&str, &str); 10] = [
    ("rayon", "zimage-tensor"),
    ("cudarc", "zimage-tensor"),
    ("libloading", "zimage-tensor"),
    ("mlx-rs", "zimage-tensor"),
    ("mlx-sys", "zimage-tensor"),
    ("clap", "zimage-cli"),
    ("ureq", "zimage-store"),
    ("tokio", "zimage-server"),
    ("axum", "zimage-server"),
    ("rusqlite", "zimage-server"),
];

/// Words that only the backends may say which they belong to, and the folders of these.
const PRIVATE: [(&str, &str); 4] = [
    ("cudarc::", "backend/cuda/native"),
    ("libloading::", "backend/cuda"),
    ("mlx_rs::", "backend/mlx"),
    ("mlx_sys::", "backend/mlx"),
];

const LONGEST_FUNCTION: usize = 70;
const LONGEST_FILE: usize = 600;

/// Fails with every rule that the repository breaks.
pub fn run() -> Result<()> {
    let broken = [borders()?, lengths()?].concat();
    if !broken.is_empty() {
        bail!("the house is not tidy:\n  {}", broken.join("\n  "));
    }
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn borders() -> Result<Vec<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .context("cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    Ok(packages.iter().flat_map(broken_borders).collect())
}

fn broken_borders(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
        return vec![format!("{name} is not in the list of crates")];
    };
    let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = dependencies.iter().filter_map(|dependency| dependency["name"].as_str());
    let breaks = |dependency: &&str| {
        let inside = ARROWS.iter().any(|(ours, _)| ours == dependency) && !allowed.contains(dependency);
        inside || OWNED.iter().any(|(owned, owner)| owned == dependency && *owner != name)
    };
    names.filter(breaks).map(|dependency| format!("{name} may not depend on {dependency}")).collect()
}

fn lengths() -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for folder in ["crates", "xtask"] {
        for path in rust_files(&root().join(folder))? {
            let text = std::fs::read_to_string(&path)?;
            let name = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
            // The list itself says all of them.
            let says = |(word, folder): &&(&str, &str)| text.contains(word) && !name.contains(folder);
            let said = PRIVATE.iter().filter(says).filter(|_| !name.ends_with("tidy.rs"));
            broken.extend(said.map(|(word, folder)| format!("{name} says {word}, which belongs to {folder}")));
            broken.extend(long_functions(&text).into_iter().map(|f| format!("{name}: {f}")));
            let lines = text.lines().count();
            if lines > LONGEST_FILE {
                broken.push(format!("{name} has {lines} lines"));
            }
        }
    }
    Ok(broken)
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// rustfmt closes a function with a brace at the indentation of its first line. A line that ends with a semicolon
/// only declares one.
fn long_functions(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let starts = lines.iter().enumerate().filter(|(_, line)| is_function(line) && !line.ends_with(';'));
    let length = |(start, line): (usize, &&str)| {
        let indent = line.len() - line.trim_start().len();
        let close = format!("{}}}", &line[..indent]);
        let end = (start..lines.len()).find(|&i| lines[i] == close).unwrap_or(start);
        (end + 1 - start, line.trim().to_string())
    };
    let long = starts.map(length).filter(|(length, _)| *length > LONGEST_FUNCTION);
    long.map(|(length, line)| format!("{length} lines: {line}")).collect()
}

fn is_function(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.contains('(')).collect();
    let modifiers = ["pub", "const", "unsafe", "extern", "\"C\""];
    match words.iter().position(|word| *word == "fn") {
        Some(at) => words[..at].iter().all(|word| modifiers.contains(word)),
        None => line.trim_start().starts_with("pub(") && line.contains(" fn "),
    }
}

#[cfg(test)]
mod tests {
    use super::{long_functions, run};

    #[test]
    fn the_house_is_tidy() {
        run().expect("tidy");
    }

    #[test]
    fn long_functions_are_found_by_their_closing_brace() {
        let body = "    x();\n".repeat(70);
        let text = format!("fn short() {{\n}}\npub(crate) fn long(\n    a: u8,\n) {{\n{body}}}\n");
        assert_eq!(long_functions(&text), ["74 lines: pub(crate) fn long("]);
    }
}
