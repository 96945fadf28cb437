//! What a client over HTTP is told that went wrong, in the form that OpenAI's clients read.

use std::borrow::Cow;

use bytes::Bytes;
use embed_protocol::ErrorCode;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::answer::{AnswerBody, json};
use crate::batch::Failure;

/// Seconds after which a client may ask an overloaded worker again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// An answer that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    /// To branch on.
    pub(super) code: &'static str,
    /// To read.
    pub(super) message: Cow<'static, str>,
    /// Which field of the request is to blame.
    pub(super) param: Option<&'static str>,
    /// Which methods are taken, if that is what is wrong.
    pub(super) allowed: Option<&'static str>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: Fields<'a>,
}

#[derive(Serialize)]
struct Fields<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'a str,
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, message: message.into(), param: None, allowed: None }
    }

    /// Of a field with something else than is wanted.
    pub(super) fn field(param: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let error = Self::new(StatusCode::BAD_REQUEST, ErrorCode::BadArgument.as_str(), message);
        Self { param: Some(param), ..error }
    }

    /// The whole answer.
    pub(super) fn into_response(self) -> Response<AnswerBody> {
        let r#type = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        let Self { status, code, message, param, allowed } = &self;
        let body = Body { error: Fields { message, r#type, param: *param, code } };
        let text = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = json(*status, Bytes::from(text));
        let headers = response.headers_mut();
        if let Some(allowed) = allowed {
            headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        match *status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            // A peer that was not heard out has more to say that nobody will read.
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

/// What became of text `index` of a request.
pub(super) fn of_failure(index: usize, failure: &Failure) -> ApiError {
    let (status, param) = match failure.code {
        ErrorCode::BadArgument | ErrorCode::TextTooLong => (StatusCode::BAD_REQUEST, Some("input")),
        // Both pass: a client that is told so asks again, and a balancer asks another worker.
        ErrorCode::Overloaded | ErrorCode::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, None),
        ErrorCode::Timeout => (StatusCode::GATEWAY_TIMEOUT, None),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, None),
    };
    let message = match param {
        Some(_) => format!("input[{index}]: {}", failure.message),
        None => failure.message.clone(),
    };
    ApiError { param, ..ApiError::new(status, failure.code.as_str(), message) }
}
