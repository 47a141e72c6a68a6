//! Keeps the pages of strangers out: a browser carries any page's requests to a server on its own machine, so what comes
//! from another page is told by its `Host`, `Origin` and `Sec-Fetch-Site`, and refused.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;

use super::error::Problem;

const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
/// Routes that take pictures as parts of a form. A form of another page can send such a body as well, but not without
/// saying where it comes from.
const TAKE_FORMS: [&str; 4] = ["/api/v1/uploads", "/api/v1/metadata", "/v1/images/edits", "/v1/images/variations"];
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// The two ends of a connection; every request carries them as an extension.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client's.
    pub peer: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
}

/// The names under which this server may be asked.
#[derive(Clone, Debug)]
pub struct Hosts {
    names: Vec<String>,
    /// Whether the address that a connection came in on is a name too.
    public: bool,
}

impl Hosts {
    /// The loopback names and `names`, at any port; where the server is bound to a public address, that address as well.
    pub fn new(names: &[String], bound: IpAddr) -> Hosts {
        let names = LOOPBACK.into_iter().map(str::to_owned).chain(names.iter().map(|name| name.to_ascii_lowercase()));
        Hosts { names: names.collect(), public: !bound.is_loopback() }
    }

    fn allow(&self, host: &str, ends: Option<Ends>) -> bool {
        let Some(name) = name_of(host) else { return false };
        let own = ends.filter(|_| self.public).map(|ends| match ends.local.ip().to_canonical() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        });
        self.names.contains(&name) || own == Some(name)
    }
}

/// The name in a `Host` header, without its port and in lower case.
fn name_of(host: &str) -> Option<String> {
    let authority: Authority = host.parse().ok()?;
    let is_plain = !host.contains('@') && authority.host().len() + port_length(host, &authority)? == host.len();
    is_plain.then(|| authority.host().to_ascii_lowercase())
}

/// How much of a `Host` header the port takes, with its colon.
fn port_length(host: &str, authority: &Authority) -> Option<usize> {
    match host.get(authority.host().len()..)?.strip_prefix(':') {
        None => Some(0),
        Some(port) => port.parse::<u16>().ok().map(|_| port.len() + 1),
    }
}

/// Refuses what does not come from our own page or from a program.
pub async fn guard(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    match check(&hosts, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.for_path(request.uri().path()),
    }
}

fn check(hosts: &Hosts, request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let host = single(headers, header::HOST)?.ok_or_else(|| Problem::forbidden("the request names no host"))?;
    let asked = request.uri().authority().is_none_or(|authority| authority.as_str().eq_ignore_ascii_case(host));
    if !asked || !hosts.allow(host, request.extensions().get().copied()) {
        return Err(Problem::forbidden("this server does not answer to this host name; `--allow-host` adds names"));
    }
    if let Some(origin) = single(headers, header::ORIGIN)?
        && !is_same(origin, host)
    {
        return Err(Problem::forbidden("the request comes from another origin"));
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes { check_change(request) } else { Ok(()) }
}

fn check_change(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let site = single(headers, HeaderName::from_static("sec-fetch-site"))?;
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Err(Problem::forbidden("the request comes from another site"));
    }
    let path = request.uri().path();
    let wanted = if TAKE_FORMS.contains(&path) { "multipart/form-data" } else { "application/json" };
    match single(headers, header::CONTENT_TYPE)? {
        // A browser sends a body without a type for any page.
        None if has_body(headers) => Err(Problem::media_type(wanted)),
        None => Ok(()),
        Some(kind) => match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "multipart/form-data" if TAKE_FORMS.contains(&path) => Ok(()),
            "text/plain" | "application/x-www-form-urlencoded" | "multipart/form-data" | "" => {
                Err(Problem::media_type(wanted))
            }
            _ => Ok(()),
        },
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    length || headers.contains_key(header::TRANSFER_ENCODING)
}

/// A header that may be there once at most.
fn single(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    let value = values.next().map(HeaderValue::to_str).transpose();
    match (value, values.next()) {
        (Ok(value), None) => Ok(value),
        _ => Err(Problem::forbidden(format!("the header `{name}` is unreadable or there twice"))),
    }
}

fn is_same(origin: &str, host: &str) -> bool {
    let name = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    name.is_some_and(|name| name.eq_ignore_ascii_case(host))
}

/// Says to browsers, on every response, that nothing of it is for other pages, or to be guessed at.
pub async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    response
}

#[cfg(test)]
mod tests;
