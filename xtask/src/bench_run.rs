//! Records a run of `zimage bench`: the numbers of this machine, as a file that is kept.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

const USAGE: &str = "usage: cargo xtask bench-run NAME [FLAGS OF zimage bench]
NAME is a folder of benches/runs, such as 2026-11-25-zen4-2-cores";

/// Builds the program, runs the benchmark with the given flags, and writes what it printed to
/// `benches/runs/NAME/SHAPE-PRECISION-COMPUTE-WIDTHxHEIGHT.json`.
pub fn run(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let Some(name) = arguments.next().filter(|name| !name.starts_with('-') && !name.contains(['/', '\\'])) else {
        bail!(USAGE)
    };
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--release", "--package", "zimage-cli", "--", "bench", "--json"])
        .args(arguments)
        .current_dir(&root)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cargo run")?;
    if !output.status.success() {
        bail!("zimage bench failed");
    }
    let report: Value = serde_json::from_slice(&output.stdout).context("zimage bench printed no JSON")?;
    let folder = root.join("benches/runs").join(name);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(file_name(&report)?);
    let text = serde_json::to_string_pretty(&report).context("a report has a text")?;
    std::fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

/// `turbo-int8-int8-512x512.json`, for a report of `zimage bench`.
fn file_name(report: &Value) -> Result<String> {
    let text = |key: &str| report[key].as_str().with_context(|| format!("the report has no {key}"));
    let number = |key: &str| report[key].as_u64().with_context(|| format!("the report has no {key}"));
    let precision = text("precision")?.split(',').next().unwrap_or_default();
    let (shape, compute) = (text("shape")?, text("compute")?);
    Ok(format!("{shape}-{precision}-{compute}-{}x{}.json", number("width")?, number("height")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_named_by_what_was_run() {
        let report = serde_json::json!({
            "shape": "turbo", "precision": "int8, group 64", "compute": "exact", "width": 512, "height": 768
        });
        assert_eq!(file_name(&report).expect("a whole report"), "turbo-int8-exact-512x768.json");
        assert!(file_name(&serde_json::json!({"shape": "turbo"})).is_err());
    }
}
