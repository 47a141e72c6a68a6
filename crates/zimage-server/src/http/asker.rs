//! Who sent a request.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::convert::Infallible;

use crate::service::Client;

/// The client of a request. The guard puts it into the request's extensions once it knows who it is; the owner is the
/// name of the key, else the address.
#[derive(Clone, Debug)]
pub struct Asker(pub Client);

impl Asker {
    /// The same client on behalf of one of its own users.
    pub fn on_behalf_of(self, user: Option<&str>) -> Client {
        match user.filter(|user| !user.is_empty()) {
            Some(user) => Client { owner: format!("{}/{user}", self.0.owner) },
            None => self.0,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Asker, Infallible> {
        let known = parts.extensions.get::<Asker>().cloned();
        Ok(known.unwrap_or_else(|| Asker(Client { owner: "local".into() })))
    }
}
