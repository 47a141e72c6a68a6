//! Why a request is refused: a closed list, which every HTTP dialect words in its own way. Messages are made here, from
//! what the client sent and from our limits; nothing from inside the program is ever in them.

use thiserror::Error;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A field cannot be used.
    #[error("{message}")]
    Invalid {
        /// The field, by its name in the native API.
        param: &'static str,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// There is no such model.
    #[error("there is no model `{name}`")]
    UnknownModel {
        /// As it was asked for.
        name: String,
    },
    /// There is no such job, picture or upload.
    #[error("there is no such {what}")]
    NotFound {
        /// `job`, `picture`, `upload`.
        what: &'static str,
    },
    /// The request is longer than it may be.
    #[error("the request is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The picture would need more memory than there is.
    #[error("a picture of {width}x{height} needs more memory than this server has; try a smaller one")]
    OutOfMemory {
        /// As it was asked for.
        width: u32,
        /// As it was asked for.
        height: u32,
    },
    /// Too many jobs wait, of all or of this client.
    #[error("{reason}; try again in {retry_after_s} seconds")]
    QueueFull {
        /// Which line is full.
        reason: &'static str,
        /// When room is likely.
        retry_after_s: u64,
    },
    /// The same idempotency key came with another request.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// The server is going down, or its model is still loading.
    #[error("the server is {state}; try again in {retry_after_s} seconds")]
    Unavailable {
        /// `shutting down`.
        state: &'static str,
        /// When another may be there.
        retry_after_s: u64,
    },
    /// Something failed that is not the client's fault. The log has the details.
    #[error("internal error; the server's log has the details")]
    Internal,
}

impl Refusal {
    /// A field cannot be used.
    pub fn invalid(param: &'static str, message: impl Into<String>) -> Refusal {
        Refusal::Invalid { param, message: message.into() }
    }

    /// An inner error: logged here, and hidden from the client.
    pub fn internal(error: impl std::fmt::Display) -> Refusal {
        tracing::error!("{error}");
        Refusal::Internal
    }
}
