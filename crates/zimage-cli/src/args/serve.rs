//! The flags of `serve`, `mcp`, `keys` and `db`.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{MachineArgs, PartArgs};

pub const HELP: &str = "\
Examples:
  zimage serve                          then open http://127.0.0.1:7860
  zimage serve -m Z-Image-Turbo --port 8080 --keep-alive forever
  zimage keys create laptop             then: zimage serve --host 0.0.0.0

What clients speak: the page at /, the native API of /openapi.json (described at /docs), OpenAI's Images API at /v1, the
Stable Diffusion web UI's at /sdapi/v1, MCP at /mcp. Pictures, jobs and history lie in $ZIMAGE_HOME.";

/// Everything that decides what a server can do, over HTTP or over a pipe.
#[derive(Debug, Args)]
pub struct WorkArgs {
    /// The default model: an installed one, or the path of one [default: the one of `models use`, else the embedded demo
    /// model].
    #[arg(short, long, value_name = "NAME|PATH")]
    pub model: Option<String>,

    #[command(flatten)]
    pub parts: PartArgs,

    #[command(flatten)]
    pub machine: MachineArgs,

    /// How long an idle server keeps its model in memory: 30s, 15m, 2h, forever; 0 keeps it for no time.
    #[arg(long, value_name = "TIME", default_value = "15m", help_heading = "Machine")]
    pub keep_alive: KeepAlive,
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub work: WorkArgs,

    /// The address to listen on. Others than this machine's own need a key (`zimage keys create`).
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", help_heading = "Network")]
    pub host: IpAddr,

    /// The port to listen on; 0 takes a free one.
    #[arg(long, default_value = "7860", help_heading = "Network")]
    pub port: u16,

    /// A name that clients may call this server by, beside its address; repeatable.
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    pub allow_host: Vec<String>,

    /// Listen on a public address without any key: whoever reaches it can use it.
    #[arg(long, help_heading = "Network")]
    pub insecure_no_auth: bool,

    /// Jobs of different clients that may share a step; they must agree in model, LoRAs and size.
    #[arg(long, value_name = "N", default_value = "4", help_heading = "Jobs")]
    pub max_batch: NonZeroUsize,

    /// Jobs that may wait; further ones are refused with 429.
    #[arg(long, value_name = "N", default_value = "256", help_heading = "Jobs")]
    pub max_queue: u64,

    /// Jobs of one client that may wait or run.
    #[arg(long, value_name = "N", default_value = "128", help_heading = "Jobs")]
    pub max_queue_per_client: u64,

    /// Width times height that may be asked for.
    #[arg(long, value_name = "PIXELS", default_value = "4194304", help_heading = "Jobs")]
    pub max_pixels: u64,

    /// How long a job may wait for its turn: 90s, 10m [default: as long as it takes].
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Jobs")]
    pub max_wait_time: Option<Duration>,

    /// How long a job may run: 90s, 10m [default: as long as it takes].
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Jobs")]
    pub max_job_time: Option<Duration>,

    /// Write prompts into the log, at -vv.
    #[arg(long, help_heading = "Jobs")]
    pub log_prompts: bool,
}

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it; it is shown this once.
    Create {
        /// Who will have it.
        name: String,
    },
    /// List the names of the keys.
    List,
    /// Take a key back.
    Revoke {
        /// Whose.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Find the pictures of the gallery again from their files. Jobs and favourites are in the database alone.
    Rebuild,
}

/// How long an idle server keeps its model; for ever if absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive(pub Option<Duration>);

impl FromStr for KeepAlive {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "forever" { Ok(Self(None)) } else { duration(text).map(|time| Self(Some(time))) }
    }
}

/// `90`, `90s`, `15m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("expected a time such as 30s, 15m or 2h".into()),
    };
    let number: u64 = number.parse().map_err(|_| "expected a time such as 30s, 15m or 2h")?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "the time is too long".into())
}

#[cfg(test)]
mod tests {
    use super::{Duration, KeepAlive};

    fn check(text: &str, expected: Option<Option<u64>>) {
        let parsed = text.parse::<KeepAlive>().ok().map(|time| time.0);
        assert_eq!(parsed, expected.map(|seconds| seconds.map(Duration::from_secs)), "{text}");
    }

    #[test]
    fn times_have_units() {
        check("30", Some(Some(30)));
        check("30s", Some(Some(30)));
        check("15m", Some(Some(900)));
        check("2h", Some(Some(7200)));
        check("0", Some(Some(0)));
        check("forever", Some(None));
        check("", None);
        check("m", None);
        check("15 m", None);
        check("-1", None);
        check("99999999999999999999h", None);
    }
}
