//! Who may ask, where keys are needed: programs by their key, the page by a session that a one-time address begins.
//!
//! Only digests are kept and compared. A token in an address would end up in logs and histories, so there is none but
//! the code of `/login`, which is worth nothing once it was used.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Asker;
use super::error::Problem;
use super::guard::Ends;
use super::links::Links;
use crate::refusal::Refusal;
use crate::service::{Client, locked};
use crate::store::Keys;

const LOGIN_PAGE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>zimage: log in</title>\
     <h1>This server needs a key</h1><p>Open the address that <code>zimage serve</code> printed when it started; it \
     works once, and <code>zimage serve</code> prints a new one each time it starts. Programs send \
     <code>Authorization: Bearer KEY</code>, with a key made by <code>zimage keys create NAME</code>.</p></html>";
/// What needs no key: whether the process lives, and the way in.
const OPEN: [&str; 2] = ["/healthz", "/login"];
/// What addresses may be given away for.
const PICTURES: &str = "/files/";

type Digest = [u8; 32];

/// See the module.
pub struct Auth {
    required: bool,
    keys: Keys,
    /// Of tokens given at start.
    tokens: Vec<Digest>,
    /// Of codes that were not used yet.
    codes: Mutex<Vec<Digest>>,
    sessions: Mutex<Vec<Digest>>,
    /// Made when the first address is given away.
    links: OnceLock<Links>,
    cookie: String,
}

impl Auth {
    /// Lets in whoever has one of `keys` or `tokens`; everybody, unless that is `required`.
    pub fn new(required: bool, keys: Keys, tokens: &[String], port: u16) -> Auth {
        Auth {
            required,
            keys,
            tokens: tokens.iter().map(|token| digest(token)).collect(),
            codes: Mutex::default(),
            sessions: Mutex::default(),
            links: OnceLock::new(),
            // Cookies do not tell the ports of a host apart.
            cookie: format!("zimage-session-{port}"),
        }
    }

    /// Whether clients must say who they are.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// The path of a picture, as it may be handed on: with a signature that is as good as a key for it, for a while.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn link(&self, path: &str) -> Result<String, Refusal> {
        if !self.required {
            return Ok(path.into());
        }
        let links = match self.links.get() {
            Some(links) => links,
            None => {
                let links = Links::new()?;
                self.links.get_or_init(|| links)
            }
        };
        Ok(format!("{path}?{}", links.query(path, now_s())))
    }

    /// Whether an address is one that was given away.
    fn gave_away(&self, uri: &Uri) -> bool {
        let query = uri.query().unwrap_or_default();
        uri.path().starts_with(PICTURES)
            && self.links.get().is_some_and(|links| links.is_good(uri.path(), query, now_s()))
    }

    /// A new code for `/login`.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn code(&self) -> Result<String, Refusal> {
        let code = secret()?;
        locked(&self.codes).push(digest(&code));
        Ok(code)
    }

    /// Begins a session, if the code is good; it is not from then on.
    fn log_in(&self, code: &str) -> Result<Option<String>, Refusal> {
        let code = digest(code);
        let mut codes = locked(&self.codes);
        let before = codes.len();
        codes.retain(|known| !bool::from(known.ct_eq(&code)));
        if codes.len() == before {
            return Ok(None);
        }
        let session = secret()?;
        locked(&self.sessions).push(digest(&session));
        Ok(Some(session))
    }

    /// Who asks, by the name of the key; `None` for strangers.
    async fn identify(self: &Arc<Auth>, path: &str, headers: &HeaderMap) -> Result<Option<Known>, Refusal> {
        let Some(token) = token(path, headers)? else { return Ok(self.has_session(headers).then_some(Known::Page)) };
        if contains(&self.tokens, &digest(&token)) {
            return Ok(Some(Known::Key("token".into())));
        }
        let auth = Arc::clone(self);
        let verified = tokio::task::spawn_blocking(move || auth.keys.verify(&token)).await;
        let name = verified.map_err(Refusal::internal)?.map_err(Refusal::internal)?;
        Ok(name.map(Known::Key))
    }

    fn has_session(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        let pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut sessions = pairs.filter(|(name, _)| *name == self.cookie);
        sessions.any(|(_, session)| contains(&locked(&self.sessions), &digest(session)))
    }
}

enum Known {
    Key(String),
    Page,
}

/// The token of a request: a bearer's, or the password where A1111's clients send one. An empty header is none.
fn token(path: &str, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let refused = || Refusal::invalid("authorization", "the header `authorization` cannot be used");
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let value = value.to_str().map_err(|_| refused())?.trim();
    if values.next().is_some() {
        return Err(refused());
    }
    let (scheme, credentials) = value.split_once(' ').unwrap_or((value, ""));
    match scheme.to_ascii_lowercase().as_str() {
        "" => Ok(None),
        "bearer" => Ok(Some(credentials.trim().to_owned())),
        "basic" if path.starts_with("/sdapi/") => {
            let decoded = STANDARD.decode(credentials.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let decoded = decoded.ok_or_else(refused)?;
            Ok(Some(decoded.split_once(':').map_or("", |(_, password)| password).to_owned()))
        }
        _ => Err(refused()),
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

/// Compares with all of them, and each in constant time.
fn contains(known: &[Digest], digest: &Digest) -> bool {
    known.iter().fold(false, |found, known| found | bool::from(known.ct_eq(digest)))
}

fn digest(secret: &str) -> Digest {
    Sha256::digest(secret).into()
}

/// 256 random bits in hexadecimal.
fn secret() -> Result<String, Refusal> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(Refusal::internal)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Lets through who may ask, and notes who it is.
pub async fn authenticate(State(auth): State<Arc<Auth>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let mut owner = None;
    if auth.required && !OPEN.contains(&path) && !auth.gave_away(request.uri()) {
        match auth.identify(path, request.headers()).await {
            Ok(Some(Known::Key(name))) => owner = Some(name),
            Ok(Some(Known::Page)) => {}
            Ok(None) => return refuse(path, request.headers()),
            Err(Refusal::Invalid { .. }) => return Problem::unauthorized().for_path(path),
            Err(refusal) => return Problem::from(refusal).for_path(path),
        }
    }
    let peer = request.extensions().get::<Ends>().map(|ends| ends.peer.ip().to_canonical().to_string());
    let owner = owner.or(peer).unwrap_or_else(|| "local".into());
    request.extensions_mut().insert(Asker(Client { owner }));
    next.run(request).await
}

fn refuse(path: &str, headers: &HeaderMap) -> Response {
    let wants_page = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if wants_page.is_some_and(|accept| accept.contains("text/html")) {
        return login_page();
    }
    Problem::unauthorized().for_path(path)
}

fn login_page() -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer"), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::UNAUTHORIZED, challenge, Html(LOGIN_PAGE)).into_response()
}

/// What `/login` is asked with.
#[derive(Deserialize)]
pub struct Login {
    code: String,
}

/// Begins a session of the page.
pub async fn login(State(auth): State<Arc<Auth>>, login: Result<Query<Login>, QueryRejection>) -> Response {
    let session = match login.ok().map(|Query(login)| auth.log_in(&login.code)).transpose() {
        Ok(session) => session.flatten(),
        Err(refusal) => return Problem::from(refusal).into_response(),
    };
    let Some(session) = session else { return login_page() };
    let cookie = format!("{}={session}; HttpOnly; SameSite=Strict; Path=/", auth.cookie);
    let Ok(cookie) = HeaderValue::from_str(&cookie) else { return login_page() };
    let mut response =
        (StatusCode::SEE_OTHER, [(header::LOCATION, "/"), (header::CACHE_CONTROL, "no-store")]).into_response();
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}
