//! The library's errors as what clients are told: a code, and a sentence without paths or internals.

use zimage::Error;
use zimage::pipeline::Step;

use crate::job::{Failure, FailureCode};
use crate::refusal::Refusal;

/// Our bug.
pub fn internal() -> Failure {
    failure(FailureCode::Internal, "internal error; the server's log has the details")
}

/// A failure of this code.
pub fn failure(code: FailureCode, message: impl Into<String>) -> Failure {
    Failure { code, message: message.into() }
}

/// What a loop gave. One that is at its end has no step to give: that would be our bug.
pub fn of_step(step: Option<zimage::Result<Step>>) -> Result<Step, Failure> {
    step.ok_or_else(internal)?.map_err(|error| of(&error))
}

/// An error of the library. What is not said here is in the log.
pub fn of(error: &Error) -> Failure {
    tracing::warn!("{error}");
    match error {
        Error::Tensor(error) if error.is_memory() => {
            tracing::warn!("{error}");
            failure(FailureCode::OutOfMemory, "the device had not enough memory left for the picture")
        }
        Error::Memory { phase, needed_bytes, .. } => {
            let message =
                format!("out of memory: {phase} needs about {} MiB; try a smaller picture", needed_bytes >> 20);
            failure(FailureCode::OutOfMemory, message)
        }
        Error::NonFinite { stage, layer, .. } => {
            let message = format!("a value that is not finite came out of {layer} of the {stage}; no picture was made");
            failure(FailureCode::NotFinite, message)
        }
        Error::Request { .. } | Error::Schedule(_) | Error::Image(_) => {
            failure(FailureCode::InvalidRequest, error.to_string().replace("\nhint: ", "; "))
        }
        Error::Weights(_) | Error::Tokenizer { .. } => {
            failure(FailureCode::ModelUnusable, "the model cannot be used; the server's log has the details")
        }
        _ => internal(),
    }
}

/// A refusal that comes only when the job is run.
pub fn of_refusal(refusal: &Refusal) -> Failure {
    match refusal {
        Refusal::Internal => internal(),
        refusal => failure(FailureCode::InvalidRequest, refusal.to_string()),
    }
}
