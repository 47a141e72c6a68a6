//! What a picture says of itself.

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Map, Value, json};
use zimage::pipeline::metadata::Embedded;

use crate::http::App;
use crate::http::a1111::error::ApiError;
use crate::http::a1111::fields;
use crate::http::infotext::Infotext;
use crate::http::picture;
use crate::refusal::Refusal;

pub(super) async fn read(State(app): State<App>, request: Request) -> Result<Json<Value>, ApiError> {
    let (parts, body) = request.into_parts();
    let mut fields = fields(&parts.headers, body, app.service.limits(), 1).await?;
    let image = fields.text("image")?.ok_or_else(|| Refusal::invalid("image", "image: it is missing"))?;
    let read = move |service: &crate::service::Service| {
        let bytes = picture::from_base64("image", &image, service.limits())?;
        let unreadable =
            |_| Refusal::invalid("image", "image: it is not a PNG, JPEG or WebP picture, or it is damaged");
        Embedded::from_image_bytes("the picture", &bytes).map_err(unreadable)
    };
    let embedded = app.service.decode(read).await?;
    let (metadata, parameters) = embedded.map_or((None, None), |embedded| (embedded.metadata, embedded.parameters));
    let mut items = Map::new();
    if let Some(text) = &parameters {
        items.insert("parameters".into(), text.as_str().into());
    }
    if let Some(metadata) = &metadata {
        items.insert("zimage".into(), metadata.to_canonical_json().into());
    }
    let parameters = parameters.unwrap_or_default();
    Ok(Json(json!({
        "info": parameters,
        "items": items,
        "parameters": settings(&parameters),
    })))
}

/// The settings by the names that the web UI has for them, from its own text, whoever wrote it.
fn settings(text: &str) -> Map<String, Value> {
    let text = Infotext::parse(text);
    let mut settings = Map::new();
    settings.insert("Prompt".into(), text.prompt.into());
    settings.insert("Negative prompt".into(), text.negative_prompt.into());
    for (name, value) in text.fields {
        match value.split_once('x').filter(|_| name == "Size") {
            Some((width, height)) => {
                settings.insert("Size-1".into(), width.into());
                settings.insert("Size-2".into(), height.into());
            }
            None => drop(settings.insert(name, value.into())),
        }
    }
    settings
}
