//! What is asked for, and by whom it is answered.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::{Body as _, Incoming};
use hyper::header;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::answer::{AnswerBody, json, whole};
use super::error::ApiError;
use super::places::Place;
use super::request::EmbeddingsRequest;
use super::{HttpService, body, embeddings};
use crate::server::prometheus::{self, Scraped};

/// The format of the figures.
const PROMETHEUS: &str = "text/plain; version=0.0.4";

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

#[derive(Serialize)]
struct Models<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

impl HttpService {
    /// What answers call the model.
    pub(super) fn name(&self) -> &str {
        self.options.models.first().map_or("", String::as_str)
    }

    /// Whether requests may call the model so.
    pub(super) fn is_name(&self, name: &str) -> bool {
        self.options.models.iter().any(|model| model == name)
    }

    fn model<'a>(&self, id: &'a str) -> Model<'a> {
        Model { id, object: "model", created: self.started, owned_by: "embed-worker" }
    }
}

/// Answers a request.
pub(super) async fn answer(
    shared: &Arc<HttpService>,
    caller: u64,
    place: &Place,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let _work = place.work();
    let (head, mut sent) = request.into_parts();
    let response = route(shared, caller, place, &head, &mut sent).await.unwrap_or_else(|error| {
        tracing::debug!(caller, why = %error.message, "failed over HTTP");
        error.into_response()
    });
    let (method, path, status) = (&head.method, head.uri.path(), response.status().as_u16());
    tracing::debug!(caller, %method, path, status, "answered over HTTP");
    if !sent.is_end_stream() && response.status() != StatusCode::OK {
        tokio::spawn(body::forget(sent));
    }
    Ok(response)
}

async fn route(
    shared: &Arc<HttpService>,
    caller: u64,
    place: &Place,
    head: &Parts,
    sent: &mut Incoming,
) -> Result<Response<AnswerBody>, ApiError> {
    let guard = &shared.options.guard;
    guard.check_host(&head.uri, &head.headers)?;
    let path = head.uri.path().trim_end_matches('/');
    let is_read = [Method::GET, Method::HEAD].contains(&head.method);
    // Whoever balances load or restarts what has died has no key.
    if path == "/health" && is_read {
        return Ok(health(shared));
    }
    guard.check_key(&head.headers)?;
    place.let_in();
    match path {
        "/v1/embeddings" if head.method == Method::POST => {
            check_content_type(head)?;
            let (bytes, room) = body::read(shared, sent).await?;
            let wanted = EmbeddingsRequest::read(&bytes)?;
            drop((bytes, room));
            embeddings::answer(shared, caller, wanted).await
        }
        "/v1/models" if is_read => {
            let data = shared.options.models.iter().map(|id| shared.model(id)).collect();
            Ok(json(StatusCode::OK, text(&Models { object: "list", data })))
        }
        "/metrics" if is_read => Ok(whole(StatusCode::OK, PROMETHEUS, figures(shared))),
        "/v1/embeddings" => Err(method_not_allowed("POST")),
        "/v1/models" | "/metrics" | "/health" => Err(method_not_allowed("GET, HEAD")),
        other => {
            if let Some(id) = other.strip_prefix("/v1/models/")
                && is_read
                && shared.is_name(id)
            {
                return Ok(json(StatusCode::OK, text(&shared.model(id))));
            }
            let message = format!(
                "path `{}`: is none; there are /v1/embeddings, /v1/models, /health and /metrics",
                other.escape_debug()
            );
            Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", message))
        }
    }
}

fn health(shared: &HttpService) -> Response<AnswerBody> {
    if shared.service.is_serving() {
        json(StatusCode::OK, r#"{"status":"ok"}"#)
    } else {
        json(StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"stopping"}"#)
    }
}

fn figures(shared: &HttpService) -> Vec<u8> {
    let HttpService { service, options, .. } = shared;
    let stats = service.stats();
    let scraped = Scraped {
        pid: service.hello.pid,
        model: &options.model_path,
        answer: Some((&service.hello, &stats)),
    };
    let mut text = Vec::new();
    if let Err(error) = prometheus::write(&mut text, &[scraped]) {
        tracing::error!(%error, "figures cannot be written");
    }
    text
}

/// A page of another origin may send other kinds without asking whether it may.
fn check_content_type(head: &Parts) -> Result<(), ApiError> {
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "header `Content-Type`: wanted `application/json`";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

fn method_not_allowed(allowed: &'static str) -> ApiError {
    let message = format!("method: wanted {allowed} at this path");
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    ApiError { allowed: Some(allowed), ..error }
}

fn text(value: &impl Serialize) -> Vec<u8> {
    // Names and numbers have nothing that cannot be written.
    serde_json::to_vec(value).unwrap_or_default()
}
