//! `cargo xtask goldens`: writes `goldens/` from the Python reference implementations.
//!
//! Without `--python` it makes a virtual environment under `build/venv` with the exact versions of
//! `python/requirements.txt`. No test calls this: a golden changes only when somebody decides that it should.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What `cargo xtask goldens --help` prints.
const USAGE: &str = "\
usage: cargo xtask goldens [--python PATH] [--qwen-tokenizer FILE] [SUBJECT ...]

  --python PATH           a Python that has python/requirements.txt; default: an environment made under build/venv
  --qwen-tokenizer FILE   Qwen3's tokenizer.json; without it goldens/tokenizer/qwen.json stays as it is
  SUBJECT                 write these only, for example `vae`; default: all";

#[derive(Debug, Default, PartialEq)]
struct Arguments {
    python: Option<PathBuf>,
    qwen_tokenizer: Option<PathBuf>,
    subjects: Vec<String>,
    help: bool,
}

/// Writes the goldens that `arguments` (what follows `goldens` on the command line) ask for.
pub fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    let arguments = parse(arguments)?;
    if arguments.help {
        println!("{USAGE}");
        return Ok(());
    }
    let root = repository_root()?;
    let python = match &arguments.python {
        Some(python) => python.clone(),
        None => environment(&root)?,
    };
    let mut build = Command::new(&python);
    build.arg(root.join("python/goldens/build.py"));
    build.arg("--out").arg(root.join("goldens"));
    for subject in &arguments.subjects {
        build.arg("--only").arg(subject);
    }
    if let Some(tokenizer) = &arguments.qwen_tokenizer {
        build.arg("--qwen-tokenizer").arg(tokenizer);
    }
    succeed(&mut build)
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut parsed = Arguments::default();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-h" | "--help" => parsed.help = true,
            "--python" => parsed.python = Some(value(&argument, &mut arguments)?),
            "--qwen-tokenizer" => parsed.qwen_tokenizer = Some(value(&argument, &mut arguments)?),
            option if option.starts_with('-') => bail!("unknown option {option}\n{USAGE}"),
            subject => parsed.subjects.push(subject.to_owned()),
        }
    }
    Ok(parsed)
}

fn value(option: &str, arguments: &mut impl Iterator<Item = String>) -> Result<PathBuf> {
    match arguments.next() {
        Some(value) => Ok(PathBuf::from(value)),
        None => bail!("{option} needs a value\n{USAGE}"),
    }
}

fn repository_root() -> Result<PathBuf> {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(xtask.parent().context("xtask lies in the repository")?.to_owned())
}

/// The Python of `build/venv`, with the pinned packages installed.
fn environment(root: &Path) -> Result<PathBuf> {
    let venv = root.join("build/venv");
    let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if !python.exists() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    let requirements = root.join("python/requirements.txt");
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
    succeed(install.arg(requirements))?;
    Ok(python)
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Arguments, parse};

    fn check(line: &str, expected: Arguments) {
        let parsed = parse(line.split_whitespace().map(str::to_owned)).expect("the line is valid");
        assert_eq!(parsed, expected, "{line:?}");
    }

    #[test]
    fn subjects_and_options_may_come_in_any_order() {
        check("", Arguments::default());
        check(
            "vae --python /usr/bin/python3 block --qwen-tokenizer q.json",
            Arguments {
                python: Some("/usr/bin/python3".into()),
                qwen_tokenizer: Some("q.json".into()),
                subjects: vec!["vae".into(), "block".into()],
                help: false,
            },
        );
    }

    #[test]
    fn an_unknown_option_or_a_missing_value_is_refused() {
        for line in ["--pyton x", "--python", "vae --qwen-tokenizer"] {
            let refused = parse(line.split_whitespace().map(str::to_owned)).expect_err(line);
            assert!(refused.to_string().contains("usage:"), "{refused}");
        }
    }
}
