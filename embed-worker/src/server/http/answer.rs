//! The bodies of answers. Vectors are written as they are sent, one after the other: their text is several
//! times as large as they are.

use std::convert::Infallible;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use embed_protocol::vector;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::request::Encoding;
use crate::batch::Answer;

/// Any body.
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

/// A whole answer of JSON.
pub(super) fn json(status: StatusCode, text: impl Into<Bytes>) -> Response<AnswerBody> {
    whole(status, "application/json", text)
}

/// A whole answer.
pub(super) fn whole(
    status: StatusCode,
    kind: &'static str,
    text: impl Into<Bytes>,
) -> Response<AnswerBody> {
    response(status, kind, Full::new(text.into()).boxed_unsync())
}

fn response(status: StatusCode, kind: &'static str, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[derive(Serialize)]
struct Item<'a> {
    object: &'static str,
    index: usize,
    embedding: Embedding<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Embedding<'a> {
    Float(&'a [f32]),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// The answer to a request for embeddings; `held` is what is given back when all of it was sent.
pub(super) fn embeddings<H: Send + 'static>(
    answers: Vec<Answer>,
    encoding: Encoding,
    model: &str,
    held: H,
) -> Response<AnswerBody> {
    let tokens = answers.iter().map(|answer| answer.tokens).sum();
    let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
    // Names and numbers have nothing that cannot be written.
    let text = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
    let tail = format!(
        r#"],"model":{},"usage":{}}}"#,
        text(serde_json::to_string(model)),
        text(serde_json::to_string(&usage))
    );
    let items = answers.into_iter().enumerate().map(move |(index, answer)| {
        // The vector is freed as soon as it is text.
        let _held = &held;
        let mut text = Vec::with_capacity(answer.vector.len() * 12);
        if index > 0 {
            text.push(b',');
        }
        let embedding = match encoding {
            Encoding::Float => Embedding::Float(&answer.vector),
            Encoding::Base64 => {
                Embedding::Base64(STANDARD.encode(vector::to_bytes(&answer.vector)))
            }
        };
        let item = Item { object: "embedding", index, embedding };
        if let Err(error) = serde_json::to_writer(&mut text, &item) {
            tracing::error!(%error, "a vector cannot be written");
        }
        let _ = text.flush();
        text
    });
    let head = br#"{"object":"list","data":["#.to_vec();
    let chunks = std::iter::once(head).chain(items).chain(std::iter::once(tail.into_bytes()));
    let frames = chunks.map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::from(chunk))));
    let body = StreamBody::new(stream::iter(frames)).boxed_unsync();
    response(StatusCode::OK, "application/json", body)
}
