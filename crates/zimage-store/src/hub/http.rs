//! One request at a time, and whether it makes sense to repeat it.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{Response, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::{Hub, Repo};
use crate::{Error, Result};

/// The longest answer about a repository: ten times that of one with ten thousand files.
const MAX_ANSWER_BYTES: u64 = 32 << 20;
const MAX_REDIRECTS: usize = 10;

/// Why a request did not succeed.
pub(super) enum Trouble {
    /// It never will.
    Final(Error),
    /// It may the next time, and no earlier than after the pause where one is given.
    Passing { reason: String, pause: Option<Duration> },
    /// The range that was asked for is not there.
    Range,
}

impl Trouble {
    pub(super) fn passing(reason: impl Into<String>) -> Self {
        Self::Passing { reason: reason.into(), pause: None }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// A client of one hub.
pub(crate) struct Http {
    agent: Agent,
    pub(super) hub: Hub,
}

impl Http {
    /// A client; proxies are those of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    pub(crate) fn new(hub: &Hub) -> Result<Self> {
        let refused = |reason: &str| Error::Endpoint { endpoint: hub.endpoint.clone(), reason: reason.to_owned() };
        let secure = hub.endpoint.starts_with("https://");
        if !secure && !hub.endpoint.starts_with("http://") {
            return Err(refused("it begins with neither https:// nor http://"));
        }
        if hub.token.as_ref().is_some_and(|token| !token.chars().all(|c| c.is_ascii_graphic())) {
            return Err(refused("the token for it has characters that no token has"));
        }
        let mut config = Agent::config_builder();
        // A hub on this very machine is not reached through a proxy.
        if ["localhost", "127.", "[::1]"].iter().any(|host| hub.endpoint.contains(&format!("://{host}"))) {
            config = config.proxy(None);
        }
        let config = config
            .http_status_as_error(false)
            // A hub that is reached safely does not send anybody to a place that is not.
            .https_only(secure)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("zimage/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(root_certificates()?).build())
            .timeout_connect(Some(hub.retry.silence))
            .timeout_recv_response(Some(hub.retry.silence))
            .timeout_per_read(Some(hub.retry.silence))
            .max_idle_connections_per_host(4)
            .build();
        Ok(Self { agent: config.new_agent(), hub: hub.clone() })
    }

    /// The text of an answer about a repository.
    pub(super) fn text(&self, url: &str, repo: &Repo) -> Result<String, Trouble> {
        let mut text = String::new();
        let body = self.get(url, repo, None)?.into_body();
        let mut reader = body.into_with_config().limit(MAX_ANSWER_BYTES).reader();
        let read = reader.read_to_string(&mut text);
        read.map(|_| text).map_err(|error| Trouble::passing(error.to_string()))
    }

    /// Asks for a file, from a byte on where one is given, and goes where the answer leads. The status of what is
    /// returned is 200 or 206.
    pub(super) fn get(&self, url: &str, repo: &Repo, from: Option<u64>) -> Result<Response<Body>, Trouble> {
        let mut url = url.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let mut request = self.agent.get(&url);
            // The token is for the hub, and not for the store of files that it leads to: another port is another server.
            if let Some(token) = self.hub.token.as_ref().filter(|_| origin(&url) == origin(&self.hub.endpoint)) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if let Some(from) = from {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|error| self.refused(error))?;
            match response.status() {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(response),
                StatusCode::RANGE_NOT_SATISFIABLE => return Err(Trouble::Range),
                _ => url = redirected(&url, &response).ok_or_else(|| self.status(&response, repo))?,
            }
        }
        Err(Trouble::passing(format!("{} leads in circles", self.hub.endpoint)))
    }

    /// What went wrong before there was an answer.
    fn refused(&self, error: ureq::Error) -> Trouble {
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
                let reason = error.to_string();
                Trouble::Final(Error::Endpoint { endpoint: self.hub.endpoint.clone(), reason })
            }
            error => Trouble::passing(format!("{}: {error}", self.hub.endpoint)),
        }
    }

    /// What a status other than success means.
    fn status(&self, response: &Response<Body>, repo: &Repo) -> Trouble {
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let status = response.status().as_u16();
        let not_found = |what: String, hint: &str| {
            Trouble::Final(Error::NotFound { endpoint: self.hub.endpoint.clone(), what, hint: hint.to_owned() })
        };
        match (status, header("X-Error-Code")) {
            (404, "RevisionNotFound") => {
                not_found(format!("revision {} of {}", repo.revision(), repo.id()), "name a branch, a tag or a commit")
            }
            (404, "EntryNotFound") => not_found(format!("such file in {}", repo.id()), "it may have been renamed"),
            // The hub tells nobody without a token whether a repository is private or not there.
            (404 | 410, _) => not_found(format!("repository {}", repo.id()), "check how it is written"),
            (401, "RepoNotFound") if self.hub.token.is_none() => not_found(
                format!("public repository {}", repo.id()),
                "check how it is written; a private one needs HF_TOKEN",
            ),
            (401 | 403, _) => Trouble::Final(self.denied(status, repo)),
            (408 | 425 | 429 | 500..=599, _) => {
                let pause = header("Retry-After").trim().parse().ok().map(Duration::from_secs);
                Trouble::Passing { reason: format!("{} answered {status}", self.hub.endpoint), pause }
            }
            _ => Trouble::Final(Error::Answer {
                endpoint: self.hub.endpoint.clone(),
                repo: repo.id().to_owned(),
                reason: format!("status {status}"),
            }),
        }
    }

    fn denied(&self, status: u16, repo: &Repo) -> Error {
        let (who, hint) = match self.hub.token {
            None => ("everybody", "set HF_TOKEN to a token of an account that may read it"),
            Some(_) => {
                ("this account", "check the token in HF_TOKEN, and accept the terms on the page of the repository")
            }
        };
        Error::Denied { repo: repo.id().to_owned(), who, status, hint }
    }
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> &str {
    let path = url.find("://").and_then(|scheme| url[scheme + 3..].find(['/', '?', '#']).map(|at| scheme + 3 + at));
    &url[..path.unwrap_or(url.len())]
}

/// Where an answer leads, if it leads anywhere.
fn redirected(url: &str, response: &Response<Body>) -> Option<String> {
    let place = response.headers().get("Location").filter(|_| response.status().is_redirection())?.to_str().ok()?;
    if place.starts_with("//") {
        return Some(format!("{}:{place}", url.split(':').next()?));
    }
    Some(if place.starts_with('/') { format!("{}{place}", origin(url)) } else { place.to_owned() })
}

/// The authorities that vouch for servers: Mozilla's, or those of the file `SSL_CERT_FILE`, which networks with a proxy
/// that reads along need.
fn root_certificates() -> Result<RootCerts> {
    let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) else {
        return Ok(RootCerts::WebPki);
    };
    let path = std::path::PathBuf::from(path);
    let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    let certificates: Vec<_> = parse_pem(&text).filter_map(certificate).collect();
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

/// A path or revision as part of an address.
pub(super) fn encoded(text: &str, keep_slashes: bool) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep_slashes && byte == b'/';
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
