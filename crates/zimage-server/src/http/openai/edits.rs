//! `POST /v1/images/edits`: from a picture, with a mask or without.

use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::StatusCode;
use axum::response::Response;

use crate::draft::DraftStart;
use crate::http::fields::Fields;
use crate::http::openai::ApiError;
use crate::http::openai::request::Asked;
use crate::http::openai::response::{self, Answer, Family, Links};
use crate::http::picture::{self, MaskKind};
use crate::http::{App, Asker};
use crate::limits::Limits;
use crate::service::Service;

/// Pictures of one edit.
const MAX_IMAGES: usize = 16;

pub(super) async fn create(State(app): State<App>, asker: Asker, request: Request) -> Result<Response, ApiError> {
    let links = Links::new(&request);
    let form = Multipart::from_request(request, &()).await;
    let form = form.map_err(|_| ApiError::media_type("multipart/form-data"))?;
    let form = Form::read(form, app.service.limits()).await?;
    let asked = app.service.decode(move |service| Ok(form.into_asked(service))).await??;
    response::answer(app.service, asker, Answer { asked, family: Family::Edit, links }).await
}

/// What came in a form.
#[derive(Default)]
struct Form {
    /// The first picture; the model starts from one.
    image: Option<Vec<u8>>,
    images: usize,
    mask: Option<Vec<u8>>,
    fields: Fields,
}

impl Form {
    async fn read(mut multipart: Multipart, limits: &Limits) -> Result<Form, ApiError> {
        let mut form = Form::default();
        let mut parts = 0;
        while let Some(field) = multipart.next_field().await.map_err(unreadable)? {
            parts += 1;
            if parts > limits.max_parts {
                return Err(ApiError::invalid(None, Some("invalid_value"), "the form has too many parts"));
            }
            match field.name().unwrap_or_default() {
                "image" | "image[]" => {
                    if form.images == MAX_IMAGES {
                        let message = format!("image: there may be {MAX_IMAGES} at most");
                        return Err(ApiError::unsupported("image", message));
                    }
                    form.images += 1;
                    let image = bytes(field, limits.max_upload_bytes).await?;
                    form.image.get_or_insert(image);
                }
                "mask" => form.mask = Some(bytes(field, limits.max_upload_bytes).await?),
                name => {
                    let name = name.to_owned();
                    let text = String::from_utf8(bytes(field, limits.max_body_bytes).await?);
                    let not_text =
                        |_| ApiError::invalid(None, Some("invalid_value"), "a field of the form is not text");
                    form.fields.add_text(name, text.map_err(not_text)?);
                }
            }
        }
        Ok(form)
    }

    fn into_asked(mut self, service: &Service) -> Result<Asked, ApiError> {
        let strength = self.fields.number("strength")?;
        let mut asked = Asked::new(self.fields, service)?;
        let Some(image) = &self.image else {
            let message = "image: it is missing";
            return Err(ApiError::invalid(Some("image"), Some("missing_required_parameter"), message));
        };
        let upload = service.upload(image)?;
        let mask = match &self.mask {
            Some(mask) => {
                let mask = picture::mask(mask, MaskKind::Transparent, service.limits())?;
                Some(service.upload(&mask)?.sha256)
            }
            None => None,
        };
        if asked.draft.width.is_none() {
            let own = (upload.width, upload.height);
            let (width, height) = picture::drawn_size(service, asked.draft.model.as_deref(), own)?;
            (asked.draft.width, asked.draft.height) = (Some(width), Some(height));
        }
        asked.draft.start = Some(DraftStart { image: upload.sha256, mask, strength });
        asked.ignored.extend((1..self.images).map(|index| format!("image[{index}]")));
        Ok(asked)
    }
}

/// The bytes of a part, measured while they come.
async fn bytes(mut field: Field<'_>, limit_bytes: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(unreadable)? {
        if bytes.len() + chunk.len() > limit_bytes {
            return Err(crate::refusal::Refusal::TooLarge { limit_bytes }.into());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn unreadable(error: MultipartError) -> ApiError {
    let status = error.status();
    let message = if status == StatusCode::PAYLOAD_TOO_LARGE { "the form is too large" } else { "the form is damaged" };
    ApiError { status, ..ApiError::invalid(None, Some("invalid_value"), message) }
}
