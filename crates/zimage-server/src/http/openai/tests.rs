use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use super::error::{ApiError, Retry};
use super::{models, size};
use crate::job::{Failure, FailureCode};
use crate::limits::Limits;
use crate::models::DemoModel;
use crate::refusal::Refusal;

fn size_problem(text: &str) -> String {
    let error = size::parse(text, &Limits::default()).expect_err("a wrong size");
    assert_eq!((error.status, error.param), (StatusCode::BAD_REQUEST, Some("size")));
    error.message
}

#[test]
fn sizes_are_multiples_of_16_of_no_more_than_three_to_one() {
    for (text, expected) in [("auto", None), ("1024x1536", Some((1024, 1536))), ("768x256", Some((768, 256)))] {
        assert_eq!(size::parse(text, &Limits::default()), Ok(expected), "{text}");
    }
    for text in ["1000x1024", "1024x256", "0x0", "4112x4096", "4294967295x4294967295", "16x", "x", "-16x16", "+16x16"] {
        size_problem(text);
    }
}

#[test]
fn wrong_sizes_are_answered_with_the_nearest_right_ones() {
    assert!(
        size_problem("1000x1000").ends_with("nearest: 992x992, 992x1008, 1008x992"),
        "{}",
        size_problem("1000x1000")
    );
    for text in ["4096x4096", "1024x64", "0x0", "4294967295x1"] {
        let message = size_problem(text);
        let (_, sizes) = message.split_once("nearest: ").expect("proposals");
        for size in sizes.split(", ") {
            assert!(matches!(size::parse(size, &Limits::default()), Ok(Some(_))), "{text}: {size}");
        }
    }
}

#[test]
fn names_that_clients_have_built_in_mean_the_default_model() {
    for name in [None, Some("dall-e-3"), Some("gpt-image-1"), Some("gpt-image-2.6-mini"), Some("demo")] {
        assert_eq!(models::resolve(name, &DemoModel), Ok("demo".into()), "{name:?}");
    }
    let error = models::resolve(Some("imagen"), &DemoModel).expect_err("an unknown model");
    assert_eq!((error.status, error.code), (StatusCode::NOT_FOUND, Some("model_not_found")));
}

#[test]
fn refusals_name_fields_of_this_dialect() {
    let param = |native| ApiError::from(Refusal::invalid(native, "no")).param;
    assert_eq!(param("width"), Some("size"));
    assert_eq!(param("loras"), Some("lora"));
    assert_eq!(param("prompt"), Some("prompt"));
    assert_eq!(param("body"), None);
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let refusal = Refusal::QueueFull { reason: "the queue is full", retry_after_s: 7 };
    let response = ApiError::from(refusal).into_response();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()[header::RETRY_AFTER], "7");
}

#[test]
fn what_would_fail_again_is_not_to_be_tried_again() {
    let failure = Failure { code: FailureCode::OutOfMemory, message: "too large".into() };
    let error = ApiError::from(failure);
    assert_eq!((error.code, error.retry), (Some("out_of_memory"), Retry::Never));
    assert_eq!(error.into_response().headers()["x-should-retry"], "false");
}
