//! Responses: the pictures, how they came about, and what they would have cost.

use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::http::awaited::{Awaited, pictures};
use crate::http::openai::request::{Asked, Delivery};
use crate::http::openai::{ApiError, stream};
use crate::http::picture::to_base64;
use crate::http::{Asker, Auth};
use crate::job::{Format, ImageRecord, Job, JobSpec, JobState};
use crate::service::Service;

const IGNORED: HeaderName = HeaderName::from_static("x-zimage-ignored");
const TRUNCATED: HeaderName = HeaderName::from_static("x-zimage-truncated-tokens");
const JOB: HeaderName = HeaderName::from_static("x-zimage-job");
/// Names of ignored fields are the client's own words: so many characters of them come back.
const MAX_IGNORED_CHARS: usize = 1000;
/// A token of a picture is 16 by 16 pixels.
const TOKEN_PIXELS: u64 = 256;

/// What the answer depends on.
pub struct Answer {
    /// The request.
    pub asked: Asked,
    /// Which endpoint.
    pub family: Family,
    /// What leads to the server's files.
    pub links: Links,
}

/// What leads to the server's files.
pub struct Links {
    headers: HeaderMap,
    auth: Option<Arc<Auth>>,
}

impl Links {
    /// For the client that sent this request.
    pub fn new(request: &Request) -> Links {
        Links { headers: request.headers().clone(), auth: request.extensions().get().cloned() }
    }

    /// The server as the client knows it.
    fn base(&self) -> Result<String, ApiError> {
        let text = |name: &HeaderName| self.headers.get(name).and_then(|value| value.to_str().ok());
        let unknown = "response_format: a request without Host has no address";
        let host = text(&header::HOST).ok_or_else(|| ApiError::unsupported("response_format", unknown))?;
        let is_tls = text(&HeaderName::from_static("x-forwarded-proto")) == Some("https");
        Ok(format!("{}://{host}", if is_tls { "https" } else { "http" }))
    }

    /// The address of a picture, for whoever is to show it.
    fn to(&self, base: &str, image: &ImageRecord) -> Result<String, ApiError> {
        let path = format!("/files/{}.{}", image.sha256, image.format.extension());
        let path = self.auth.as_ref().map_or_else(|| Ok(path.clone()), |auth| auth.link(&path))?;
        Ok(format!("{base}{path}"))
    }
}

/// Which endpoint answers; the events of streams are named after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `/v1/images/generations`
    Generation,
    /// `/v1/images/edits`
    Edit,
}

/// Submits the job, and answers when it has ended, or by a stream at once.
///
/// # Errors
/// Those of submitting, and of the job.
pub async fn answer(service: Arc<Service>, asker: Asker, answer: Answer) -> Result<Response, ApiError> {
    let Answer { asked, family, links } = answer;
    let base = match asked.delivery {
        Delivery::Url => Some(links.base()?),
        Delivery::Base64 => None,
    };
    let client = asker.on_behalf_of(asked.user.as_deref());
    let awaited = Awaited::submit(&service, asked.draft, client).await?;
    let notes = notes(&asked.ignored, awaited.job());
    let mut response = match asked.stream {
        Some(partials) => stream::respond(service, awaited, stream::Style { family, partials, quality: asked.quality }),
        None => {
            let job = done(awaited).await?;
            let data = data(&service, &job, base.as_deref(), &links).await?;
            Json(whole(&job, data, asked.quality)).into_response()
        }
    };
    response.headers_mut().extend(notes);
    Ok(response)
}

/// Waits for a job that must succeed.
async fn done(awaited: Awaited) -> Result<Job, ApiError> {
    let job = awaited.ended().await?;
    match (job.state, job.error.clone()) {
        (JobState::Done, _) => Ok(job),
        (_, Some(failure)) => Err(failure.into()),
        _ => Err(ApiError::cancelled()),
    }
}

/// The pictures, or their addresses.
async fn data(service: &Arc<Service>, job: &Job, base: Option<&str>, links: &Links) -> Result<Vec<Value>, ApiError> {
    if let Some(base) = base {
        let datum = |image| Ok(datum("url", links.to(base, image)?, image));
        return job.images.iter().map(datum).collect();
    }
    let files = pictures(service, &job.images).await?;
    let datum = |(image, file): (&ImageRecord, &Vec<u8>)| datum("b64_json", to_base64(file), image);
    Ok(job.images.iter().zip(&files).map(datum).collect())
}

/// The response with all pictures.
fn whole(job: &Job, data: Vec<Value>, quality: &'static str) -> Value {
    json!({
        "created": job.finished_ms.unwrap_or(job.created_ms) / 1000,
        "data": data,
        "background": "opaque",
        "output_format": format_name(job.spec.format),
        "quality": quality,
        "size": size_name(&job.spec),
        "usage": usage(job, job.spec.n),
    })
}

fn datum(kind: &str, content: String, image: &ImageRecord) -> Value {
    json!({kind: content, "revised_prompt": null, "seed": image.seed})
}

/// Tokens read and drawn, of so many pictures.
pub fn usage(job: &Job, images: u32) -> Value {
    let pixels = u64::from(job.spec.width) * u64::from(job.spec.height);
    // A picture to start from is read as the one that it becomes.
    let of_start = if job.spec.start.is_some() { pixels / TOKEN_PIXELS } else { 0 };
    let (text, drawn) = (u64::from(job.tokens.used), pixels / TOKEN_PIXELS * u64::from(images));
    json!({
        "input_tokens": text + of_start,
        "input_tokens_details": {"text_tokens": text, "image_tokens": of_start},
        "output_tokens": drawn,
        "output_tokens_details": {"image_tokens": drawn, "text_tokens": 0},
        "total_tokens": text + of_start + drawn,
    })
}

/// Headers that say what the body has no place for.
fn notes(ignored: &[String], job: &Job) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(id) = HeaderValue::from_str(&job.id.to_string()) {
        headers.insert(JOB, id);
    }
    if job.tokens.dropped > 0 {
        headers.insert(TRUNCATED, HeaderValue::from(job.tokens.dropped));
    }
    let names = ignored.join(", ");
    let is_plain = |character: &char| character.is_ascii_graphic() || *character == ' ';
    let names: String = names.chars().filter(is_plain).take(MAX_IGNORED_CHARS).collect();
    if let (false, Ok(names)) = (names.is_empty(), HeaderValue::from_str(&names)) {
        headers.insert(IGNORED, names);
    }
    headers
}

/// The name of a format in this dialect.
pub fn format_name(format: Format) -> &'static str {
    match format {
        Format::Png => "png",
        Format::Jpeg => "jpeg",
        Format::Webp => "webp",
    }
}

/// The size of a job's pictures in this dialect.
pub fn size_name(spec: &JobSpec) -> String {
    format!("{}x{}", spec.width, spec.height)
}
