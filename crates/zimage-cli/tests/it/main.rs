//! The real binary on tiny models: what it writes, what it prints where, and how it fails.

// The exemption for tests covers only the test functions themselves, not what they share.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod converting;
mod device;
mod generate;
mod goldens;
mod inspect;
mod load;
mod loras;
mod models;
mod parts;
mod serve;
mod server;
mod settings;
mod speed;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A file or directory of the goldens.
fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(path)
}

fn tiny() -> String {
    golden("models/tiny-a").display().to_string()
}

/// A home directory of its own, in which the command runs.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), contents).unwrap();
        self.text(name)
    }

    /// The command, not yet run, with nothing from the environment of the test, and on the CPU unless it says else.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zimage"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ZIMAGE_")) {
            command.env_remove(name);
        }
        command
            .env("ZIMAGE_HOME", self.0.path())
            .env("ZIMAGE_DEVICE", "cpu")
            .current_dir(self.0.path())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().unwrap())
    }

    /// `generate` on the tiny model at 64x48 in two steps, with seed 42, and then `args`.
    fn generate(&self, args: &[&str]) -> Run {
        let model = tiny();
        let fixed = ["generate", "-m", &model, "--width", "64", "--height", "48", "--steps", "2", "--seed", "42"];
        self.run(&[&fixed, args].concat())
    }

    /// A copy of the tiny model.
    fn copy_of_tiny(&self, name: &str) -> PathBuf {
        let target = self.path(name);
        copy(&golden("models/tiny-a"), &target);
        target
    }

    /// Names in the home directory, sorted.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}

/// What a command did.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// The command failed with `code`, printed nothing on stdout, and said `fragment` in an error without panic text.
    #[track_caller]
    fn fails(self, code: i32, fragment: &str) -> Self {
        assert_eq!(self.code, Some(code), "expected {fragment:?}: {self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        assert!(self.stderr.contains("error: ") && self.stderr.contains(fragment), "expected {fragment:?}: {self:#?}");
        assert!(!self.stderr.contains("panicked") && !self.stderr.contains("internal error"), "{self:#?}");
        self
    }

    fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }
}
