//! Where the hub is, who asks, and where its cache lies: the variables that the hub's own programs honour.
//!
//! Source: huggingface_hub's `constants.py`.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const ENDPOINT: &str = "https://huggingface.co";

/// A hub and its cache.
#[derive(Clone)]
pub struct Hub {
    /// The address, without a slash at its end.
    pub endpoint: String,
    /// Sent to the endpoint, and to nobody else.
    pub token: Option<String>,
    /// The directory of `models--Org--Name`.
    pub cache: PathBuf,
    /// Whether the network may not be used.
    pub offline: bool,
    /// How failed transfers are tried again.
    pub retry: Retry,
}

/// How failed transfers are tried again.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Failures in a row, without a byte received, that end a transfer.
    pub attempts: u32,
    /// The pause after the first failure; it doubles with each further one.
    pub first_pause: Duration,
    /// The longest pause, also where a server asks for a longer one.
    pub longest_pause: Duration,
    /// How long a connection may be silent.
    pub silence: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { attempts: 6, first_pause: seconds(1), longest_pause: seconds(300), silence: seconds(30) }
    }
}

impl Retry {
    /// How long to wait after a number of failures in a row; `asked` is what the server wants.
    pub(super) fn pause(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let doubled = self.first_pause * 2u32.pow(failures.saturating_sub(1).min(16));
        asked.map_or(doubled, |asked| asked.max(doubled)).min(self.longest_pause)
    }
}

impl Hub {
    /// Settings of the environment: `HF_ENDPOINT`, `HF_TOKEN` (else the file that `hf auth login` writes), `HF_HOME`,
    /// `HF_HUB_CACHE`, `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        Self::from_variables(|name| env::var(name).ok(), env::home_dir())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>, user: Option<PathBuf>) -> Self {
        let value = |names: &[&str]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
        let user = user.unwrap_or_default();
        let path = |names: &[&str]| {
            let text = value(names)?;
            let below_home = text.strip_prefix("~/").map(|rest| user.join(rest));
            Some(below_home.unwrap_or_else(|| PathBuf::from(text)))
        };
        let caches = || path(&["XDG_CACHE_HOME"]).unwrap_or_else(|| user.join(".cache"));
        let home = path(&["HF_HOME"]).unwrap_or_else(|| caches().join("huggingface"));
        let cache = path(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]).unwrap_or_else(|| home.join("hub"));
        let token_file = path(&["HF_TOKEN_PATH"]).unwrap_or_else(|| home.join("token"));
        let token = value(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]).or_else(|| fs::read_to_string(token_file).ok());
        let offline = value(&["HF_HUB_OFFLINE"]).is_some_and(|value| is_true(&value));
        Self {
            endpoint: value(&["HF_ENDPOINT"]).unwrap_or(ENDPOINT.into()).trim_end_matches('/').to_owned(),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            cache,
            offline,
            retry: Retry::default(),
        }
    }
}

fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str())
}

#[cfg(test)]
mod tests;
