//! Which models there are, and the names that clients carry for others.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::http::App;
use crate::http::openai::ApiError;
use crate::models::Models;

/// When this program's models were first served; clients only sort by it.
const CREATED: u64 = 1_764_028_800;
/// Names that clients have built in. All of them mean the default model.
const ALIASES: [&str; 5] = ["dall-e-2", "dall-e-3", "chatgpt-image-latest", "z-image-turbo", "zimage"];
const ALIAS_PREFIX: &str = "gpt-image-";

/// The model that a name means, if any: one of the server's, else an alias of its default.
pub fn resolve(asked: Option<&str>, models: &dyn Models) -> Result<String, ApiError> {
    let names = models.names();
    let asked = asked.unwrap_or(ALIASES[0]);
    if names.iter().any(|name| name == asked) {
        return Ok(asked.into());
    }
    let is_alias = ALIASES.contains(&asked) || asked.starts_with(ALIAS_PREFIX);
    let default = names.into_iter().next().filter(|_| is_alias);
    default.ok_or_else(|| ApiError::unknown_model(asked))
}

pub(super) async fn list(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let names = app.service.run(|service| Ok(service.models().names())).await?;
    let models: Vec<Value> = names.iter().map(|name| model(name)).collect();
    Ok(Json(json!({"object": "list", "data": models})))
}

pub(super) async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let asked = id.clone();
    let found = app.service.run(move |service| Ok(resolve(Some(&asked), service.models()))).await?;
    found.map(|_| Json(model(&id)))
}

fn model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": CREATED, "owned_by": "zimage"})
}
