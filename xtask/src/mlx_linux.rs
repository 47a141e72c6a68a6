//! `cargo xtask mlx-linux`: makes the `mlx` feature build on Linux, where nobody has a Mac at hand.
//!
//! The published mlx-sys compiles MLX for Apple systems only. This copies its source and gives the copy a build script
//! that takes MLX from a Python wheel, which computes on the CPU. The results of the backend can be checked with it;
//! its speed, and whatever only Metal does, cannot.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const USAGE: &str = "\
usage: cargo xtask mlx-linux --python PATH FOLDER

  --python PATH    a Python that has the packages `mlx[cpu]` and `libclang`
  FOLDER           where the changed copy of mlx-sys is written";

/// What the copy has and the published crate has not.
const OURS: [(&str, &str); 2] =
    [("build.rs", include_str!("mlx_linux/build.rs")), ("format.h", include_str!("mlx_linux/format.h"))];

#[derive(Debug, PartialEq)]
struct Arguments {
    python: PathBuf,
    folder: PathBuf,
}

/// Writes the copy that the arguments ask for, and says how to use it.
pub fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    let Arguments { python, folder } = parse(arguments)?;
    let published = published_source()?;
    let wheel = Wheel::of(&python)?;
    let wanted = vendored_version(&published)?;
    ensure!(
        wheel.version == wanted,
        "{} has MLX {}, but mlx-sys is made for {wanted}\nhint: {} -m pip install 'mlx[cpu]=={wanted}' libclang",
        python.display(),
        wheel.version,
        python.display(),
    );
    let copy = std::path::absolute(folder)?.join("mlx-sys");
    copy_folder(&published, &copy)?;
    for (name, text) in OURS {
        fs::write(copy.join(name), text)?;
    }
    fs::write(copy.join("wheel-path"), wheel.packages.display().to_string())?;
    println!("{} takes MLX {wanted} from {}. Use it so:\n", copy.display(), wheel.packages.display());
    println!(
        "  cargo test -p zimage-tensor --features mlx --config 'patch.crates-io.mlx-sys.path=\"{}\"'\n",
        copy.display()
    );
    println!("Cargo then writes another source of mlx-sys into Cargo.lock: do not commit that.");
    Ok(())
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments> {
    let (mut python, mut folder) = (None, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--python" => python = Some(arguments.next().with_context(|| format!("--python needs a value\n{USAGE}"))?),
            flag if flag.starts_with('-') => bail!("there is no {flag}\n{USAGE}"),
            _ if folder.is_none() => folder = Some(argument),
            _ => bail!("one folder at a time\n{USAGE}"),
        }
    }
    Ok(Arguments { python: python.context(USAGE)?.into(), folder: folder.context(USAGE)?.into() })
}

/// The folder where cargo keeps the source of the version in `Cargo.lock`; fetched, if it is not there.
fn published_source() -> Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let arguments = ["metadata", "--format-version", "1", "--features", "zimage-tensor/mlx"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(cargo).args(arguments).current_dir(root).output().context("cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let package = packages.iter().find(|package| package["name"] == "mlx-sys").context("nothing depends on mlx-sys")?;
    let manifest = package["manifest_path"].as_str().context("mlx-sys has no manifest")?;
    Ok(Path::new(manifest).parent().context("a manifest lies in a folder")?.to_owned())
}

/// The MLX that this source of mlx-sys is made for, as it asks CMake to fetch it.
fn vendored_version(source: &Path) -> Result<String> {
    let path = source.join("src/mlx-c/CMakeLists.txt");
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    tag(&text).with_context(|| format!("{} names no version of MLX", path.display()))
}

fn tag(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("GIT_TAG v"))?;
    Some(line.trim_end_matches(')').trim().to_owned())
}

/// MLX as a Python has it installed.
struct Wheel {
    version: String,
    packages: PathBuf,
}

impl Wheel {
    fn of(python: &Path) -> Result<Wheel> {
        let ask = "import mlx.core, pathlib; print(mlx.core.__version__); \
                   print(pathlib.Path(mlx.core.__file__).parent.parent)";
        let output = Command::new(python)
            .args(["-c", ask])
            .output()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} cannot import MLX:\n{errors}", python.display());
        let text = String::from_utf8(output.stdout).context("Python printed no text")?;
        let mut lines = text.lines();
        let (version, packages) = lines.next().zip(lines.next()).context("Python printed no version of MLX")?;
        Ok(Wheel { version: version.to_owned(), packages: packages.into() })
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("{}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("{}", from.display()))? {
        let (source, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let copy = to.join(name);
        if source.is_dir() {
            copy_folder(&source, &copy)?;
        } else {
            fs::copy(&source, &copy).with_context(|| format!("{} to {}", source.display(), copy.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Arguments, parse, tag};

    fn parsed(line: &str) -> anyhow::Result<Arguments> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_python_and_a_folder_are_needed() {
        let arguments = parsed("build --python bin/python").expect("both are given");
        assert_eq!(arguments, Arguments { python: "bin/python".into(), folder: "build".into() });
        for line in ["build", "--python bin/python", "--pyton x build", "build build --python x"] {
            assert!(parsed(line).expect_err(line).to_string().contains("usage:"), "{line}");
        }
    }

    #[test]
    fn the_version_of_mlx_is_read_from_where_cmake_reads_it() {
        assert_eq!(tag("  GIT_REPOSITORY x\n    GIT_TAG v0.32.2)\n").as_deref(), Some("0.32.2"));
        assert_eq!(tag("  GIT_TAG main)\n"), None);
    }
}
