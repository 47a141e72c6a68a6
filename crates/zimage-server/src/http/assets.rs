//! The page, which the program carries.

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::App;

/// Path, media type and bytes of each file.
const FILES: [(&str, &str, &[u8]); 5] = [
    ("/", "text/html; charset=utf-8", include_bytes!("../../assets/index.html")),
    ("/assets/app.js", "text/javascript; charset=utf-8", include_bytes!("../../assets/app.js")),
    ("/assets/app.css", "text/css; charset=utf-8", include_bytes!("../../assets/app.css")),
    ("/assets/icon.svg", "image/svg+xml", include_bytes!("../../assets/icon.svg")),
    ("/assets/docs.css", "text/css; charset=utf-8", include_bytes!("../../assets/docs.css")),
];

pub(super) fn routes() -> Router<App> {
    let add = |router: Router<App>, (path, media_type, bytes): (&'static str, &'static str, &'static [u8])| {
        router.route(path, get(move || async move { respond(media_type, bytes) }))
    };
    FILES.into_iter().fold(Router::new(), add)
}

fn respond(media_type: &'static str, bytes: &'static [u8]) -> Response {
    // A new program may carry a new page, so browsers ask each time.
    ([(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "no-cache")], bytes).into_response()
}
