//! `POST /v1/images/generations`.

use axum::extract::{Request, State};
use axum::response::Response;

use crate::http::fields::Fields;
use crate::http::openai::ApiError;
use crate::http::openai::request::Asked;
use crate::http::openai::response::{self, Answer, Family, Links};
use crate::http::{App, Asker, body};

pub(super) async fn create(State(app): State<App>, asker: Asker, request: Request) -> Result<Response, ApiError> {
    let links = Links::new(&request);
    let (parts, body) = request.into_parts();
    if !body::is_json(&parts.headers) {
        return Err(ApiError::media_type("application/json"));
    }
    let bytes = body::read(body, app.service.limits().max_body_bytes).await?;
    let fields = Fields::from_json(&bytes)?;
    let asked = app.service.run(move |service| Ok(Asked::new(fields, service))).await??;
    response::answer(app.service, asker, Answer { asked, family: Family::Generation, links }).await
}
