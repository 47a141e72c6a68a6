//! What surrounds a run: the home directory, the settings of `config.toml` and `ZIMAGE_*`, and the machine's memory.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use zimage_store::Store;

use crate::commands;
use crate::failure::Failure;

/// The settings that may stand in `config.toml`, and in the environment as `ZIMAGE_` and the name in capitals.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub model: Option<String>,
    pub text_encoder: Option<PathBuf>,
    pub vae: Option<PathBuf>,
    pub tokenizer: Option<PathBuf>,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub steps: Option<usize>,
    pub guidance: Option<f64>,
    pub negative: Option<String>,
    pub cfg_normalization: Option<f64>,
    pub cfg_truncation: Option<f64>,
    pub shift: Option<f64>,
    pub cache: Option<String>,
    pub strength: Option<f64>,
    pub device: Option<String>,
    pub compute: Option<String>,
    pub threads: Option<usize>,
    pub mem: Option<String>,
    pub output: Option<String>,
}

/// The names of [`Config`], and whether their values are text.
const SETTINGS: [(&str, bool); 19] = [
    ("model", true),
    ("text_encoder", true),
    ("vae", true),
    ("tokenizer", true),
    ("width", false),
    ("height", false),
    ("steps", false),
    ("guidance", false),
    ("negative", true),
    ("cfg_normalization", false),
    ("cfg_truncation", false),
    ("shift", false),
    ("cache", true),
    ("strength", false),
    ("device", true),
    ("compute", true),
    ("threads", false),
    ("mem", true),
    ("output", true),
];

/// The home directory and the settings found there and in the environment.
#[derive(Debug)]
pub struct Environment {
    pub home: PathBuf,
    pub config: Config,
}

impl Environment {
    /// Finds the home directory, reads `config.toml` if there is one, and lets the environment override it.
    pub fn load() -> Result<Self, Failure> {
        let home = home()?;
        let path = home.join("config.toml");
        let table = read_table(&path)?;
        let variable = |name: &str| env::var(format!("ZIMAGE_{}", name.to_uppercase())).ok();
        let config = overlay(table, &path, variable)?;
        Ok(Self { home, config })
    }

    /// Where a model is: a path as it is, or the name of an installed one.
    pub fn find_model(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = PathBuf::from(name);
        if path.exists() {
            return Ok(path);
        }
        match self.store().find(name) {
            Ok(model) => Ok(model.path),
            Err(zimage_store::Error::Unknown { hint, .. }) => {
                let failure = Failure::model(format!("there is no model `{name}`, neither as a path nor installed"));
                Err(failure.with_hint(format!("{hint}; or give the path of a model directory or file")))
            }
            Err(error) => Err(commands::models::refused(error)),
        }
    }

    /// The model of the settings, else the one of `models use`; none is the embedded demo model.
    pub fn default_model(&self) -> Result<Option<String>, Failure> {
        match &self.config.model {
            Some(name) => Ok(Some(name.clone())),
            None => self.store().active().map_err(commands::models::refused),
        }
    }

    /// Installed models that may lend a part to one that lacks it, the default one first.
    pub fn lenders(&self) -> Result<Vec<PathBuf>, Failure> {
        let lenders = zimage_store::components(&self.home).map_err(commands::models::refused)?;
        Ok([lenders.text_encoders, lenders.vaes, lenders.tokenizers].concat())
    }

    /// The installed models.
    pub fn store(&self) -> Store {
        Store::new(&self.home)
    }
}

fn home() -> Result<PathBuf, Failure> {
    if let Some(home) = env::var_os("ZIMAGE_HOME").filter(|home| !home.is_empty()) {
        return Ok(home.into());
    }
    let directories = directories::ProjectDirs::from("", "", "zimage");
    directories.map(|directories| directories.data_dir().to_path_buf()).ok_or_else(|| {
        Failure::failed("this account has no home directory").with_hint("set ZIMAGE_HOME to a directory to use")
    })
}

fn read_table(path: &Path) -> Result<Table, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => text.parse().map_err(|error| refused(path.display(), error)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Table::new()),
        Err(error) => Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
    }
}

/// The file's settings, and over them the environment's. Each error names the file or the variable.
fn overlay(mut table: Table, path: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<Config, Failure> {
    let mut config: Config = table.clone().try_into().map_err(|error| refused(path.display(), error))?;
    for (name, is_text) in SETTINGS {
        let Some(text) = variable(name).filter(|text| !text.is_empty()) else { continue };
        let value = if is_text { Value::String(text) } else { number(&text) };
        table.insert(name.into(), value);
        let source = format!("ZIMAGE_{}", name.to_uppercase());
        config = table.clone().try_into().map_err(|error| refused(source, error))?;
    }
    Ok(config)
}

/// A number as TOML sees it; what is none stays text, and is refused with its name.
fn number(text: &str) -> Value {
    let integer = text.parse().map(Value::Integer);
    integer.or_else(|_| text.parse().map(Value::Float)).unwrap_or_else(|_| Value::String(text.into()))
}

fn refused(source: impl std::fmt::Display, error: toml::de::Error) -> Failure {
    let names = SETTINGS.map(|(name, _)| name).join(", ");
    let reason = error.message().lines().next().unwrap_or_default().to_string();
    Failure::usage(format!("{source} is not usable: {reason}")).with_hint(format!("the settings are {names}"))
}

/// Bytes of memory that this process may use: the machine's, or less where a container limits it. Unknown is no limit.
pub fn available_memory() -> u64 {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| kibibytes(&text, "MemTotal:"));
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    total.unwrap_or(u64::MAX).min(limit.unwrap_or(u64::MAX))
}

/// The name of this machine's processor, where the system tells.
pub fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| env::consts::ARCH.into(), |(_, name)| name.trim().into())
}

/// The most memory that this process has held at once, in bytes, where the system tells.
pub fn peak_memory() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// A line such as `VmHWM:    1234 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|count| count << 10)
}

#[cfg(test)]
mod tests;
