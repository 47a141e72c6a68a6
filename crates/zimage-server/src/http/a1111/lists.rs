//! What there is to choose from, and the options.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::{Extension, Json};
use serde_json::{Value, json};

use crate::http::App;
use crate::http::a1111::error::ApiError;
use crate::http::a1111::fields;
use crate::http::a1111::panel::Panel;
use crate::http::a1111::request::{CHECKPOINT, HONOR_CFG};
use crate::refusal::Refusal;

pub(super) async fn options(
    State(app): State<App>,
    Extension(panel): Extension<Arc<Panel>>,
) -> Result<Json<Value>, ApiError> {
    let settings = panel.settings();
    let names = app.service.run(|service| Ok(service.models().names())).await?;
    let checkpoint = settings.checkpoint.or_else(|| names.into_iter().next());
    Ok(Json(json!({
        CHECKPOINT: checkpoint,
        "sd_vae": "Automatic",
        "samples_format": "png",
        "CLIP_stop_at_last_layers": 1,
        HONOR_CFG: settings.honor_cfg,
    })))
}

/// Clients send back all options with one of them changed; those that mean nothing here are let pass.
pub(super) async fn set_options(
    State(app): State<App>,
    Extension(panel): Extension<Arc<Panel>>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let (parts, body) = request.into_parts();
    let mut fields = fields(&parts.headers, body, app.service.limits(), 0).await?;
    let checkpoint = fields.text(CHECKPOINT)?.filter(|name| !name.is_empty());
    let honor_cfg = fields.flag(HONOR_CFG)?;
    if let Some(name) = checkpoint.clone() {
        let known = move |service: &crate::service::Service| {
            if service.models().names().contains(&name) { Ok(()) } else { Err(Refusal::UnknownModel { name }) }
        };
        app.service.run(known).await?;
    }
    panel.change(|settings| {
        settings.checkpoint = checkpoint.or_else(|| settings.checkpoint.take());
        settings.honor_cfg = honor_cfg.unwrap_or(settings.honor_cfg);
    });
    Ok(Json(Value::Null))
}

pub(super) async fn models(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let names = app.service.run(|service| Ok(service.models().names())).await?;
    let model = |name: String| json!({"title": name, "model_name": name, "hash": null, "sha256": null, "filename": name, "config": null});
    Ok(Json(names.into_iter().map(model).collect()))
}

pub(super) async fn loras(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let loras = app.service.run(|service| Ok(service.models().loras())).await?;
    let lora = |lora: crate::models::LoraInfo| {
        let metadata = json!({"trigger_words": lora.trigger_words, "recommended_weight": lora.recommended_weight});
        json!({"name": lora.id, "alias": lora.id, "path": lora.id, "metadata": metadata})
    };
    Ok(Json(loras.into_iter().map(lora).collect()))
}

pub(super) async fn samplers() -> Json<Value> {
    Json(json!([{"name": "Euler", "aliases": ["k_euler"], "options": {}}]))
}

pub(super) async fn schedulers() -> Json<Value> {
    let scheduler = json!({
        "name": "automatic",
        "label": "Automatic",
        "aliases": null,
        "default_rho": -1.0,
        "need_inner_model": false,
    });
    Json(json!([scheduler]))
}

pub(super) async fn upscalers() -> Json<Value> {
    Json(json!([{"name": "None", "model_name": null, "model_path": null, "model_url": null, "scale": 1.0}]))
}

pub(super) async fn scripts() -> Json<Value> {
    Json(json!({"txt2img": [], "img2img": []}))
}

/// The web UI says it so, too, where it cannot tell.
pub(super) async fn memory() -> Json<Value> {
    Json(json!({"ram": {"error": "unavailable"}, "cuda": {"error": "unavailable"}}))
}

pub(super) async fn flags() -> Json<Value> {
    Json(json!({"api": true, "nowebui": false, "listen": false}))
}

pub(super) async fn vaes() -> Json<Value> {
    Json(json!([]))
}

/// The list of models is read anew whenever it is asked for.
pub(super) async fn refresh() -> Json<Value> {
    Json(Value::Null)
}
