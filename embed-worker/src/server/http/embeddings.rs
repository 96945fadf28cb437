//! Texts to vectors: one job for each, and all their answers in order.

use std::sync::Arc;
use std::time::Instant;

use embed_protocol::{EmbedParams, ErrorCode, Priority};
use hyper::{Response, StatusCode};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::HttpService;
use super::answer::{self, AnswerBody};
use super::error::{ApiError, of_failure};
use super::request::{EmbeddingsRequest, Encoding};
use crate::batch::{Answer, CancelFlag, Failure, Input, Job, Reply};
use crate::config::{HTTP_ANSWER_TIMEOUT, HTTP_BODY_TIMEOUT, HTTP_VECTORS_BYTES_MAX};

/// Cancels a request's jobs when its connection ends before they do.
struct Cancels(CancelFlag);

impl Drop for Cancels {
    fn drop(&mut self) {
        // Those that were answered do not mind.
        self.0.cancel();
    }
}

/// Answers a request for embeddings.
pub(super) async fn answer(
    shared: &Arc<HttpService>,
    caller: u64,
    request: EmbeddingsRequest,
) -> Result<Response<AnswerBody>, ApiError> {
    check_model(shared, request.model.as_deref())?;
    let dimensions = check_dimensions(shared, request.dimensions)?;
    let inputs = request.input.0;
    let bytes = inputs.len() * dimensions as usize * size_of::<f32>();
    if bytes > HTTP_VECTORS_BYTES_MAX {
        let most = HTTP_VECTORS_BYTES_MAX / (dimensions as usize * size_of::<f32>());
        let message = format!(
            "input: has {} texts, at most {most} of {dimensions} dimensions are answered at once",
            inputs.len()
        );
        return Err(ApiError::field("input", message));
    }
    // Held until the last vector was sent.
    let room = hold(shared, bytes).await?;
    let params = EmbedParams {
        truncate: request.truncate.unwrap_or(false),
        dimensions: request.dimensions,
        // Somebody waits for a single text; of many, nobody for each.
        priority: if inputs.len() == 1 { Priority::Interactive } else { Priority::Bulk },
        ..EmbedParams::default()
    };
    let answers = embed(shared, caller, inputs, params).await?;
    let encoding = request.encoding_format.unwrap_or(Encoding::Float);
    Ok(answer::embeddings(answers, encoding, shared.name(), room))
}

/// Room for a request's vectors, given back when it is dropped.
struct Room {
    shared: Arc<HttpService>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.vectors.add_permits(self.bytes);
    }
}

async fn hold(shared: &Arc<HttpService>, bytes: usize) -> Result<Room, ApiError> {
    let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
    match timeout(HTTP_BODY_TIMEOUT, shared.vectors.acquire_many(permits)).await {
        Ok(Ok(permit)) => {
            permit.forget();
            Ok(Room { shared: Arc::clone(shared), bytes })
        }
        _ => {
            let message = "worker: has as many vectors to send as it can hold; try again";
            let busy = StatusCode::SERVICE_UNAVAILABLE;
            Err(ApiError::new(busy, ErrorCode::Overloaded.as_str(), message))
        }
    }
}

/// A vector of another model than the caller believes to have is worse than none.
fn check_model(shared: &HttpService, model: Option<&str>) -> Result<(), ApiError> {
    let Some(model) = model.filter(|model| !shared.is_name(model)) else { return Ok(()) };
    let message = format!(
        "model `{}`: is not here, this worker serves `{}`; ask for that, or start the worker with --served-model-name",
        model.escape_debug(),
        shared.name()
    );
    let error = ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message);
    Err(ApiError { param: Some("model"), ..error })
}

fn check_dimensions(shared: &HttpService, wanted: Option<u32>) -> Result<u32, ApiError> {
    let dimensions = shared.service.hello.model.dimensions;
    match wanted {
        None => Ok(dimensions),
        Some(found) if (1..=dimensions).contains(&found) => Ok(found),
        Some(found) => {
            let message = format!("dimensions: is {found}, the model gives 1 to {dimensions}");
            Err(ApiError::field("dimensions", message))
        }
    }
}

/// All texts of a request, or the first error among them.
async fn embed(
    shared: &HttpService,
    caller: u64,
    inputs: Vec<Input>,
    params: EmbedParams,
) -> Result<Vec<Answer>, ApiError> {
    let cancels = Cancels(CancelFlag::default());
    let mut outcomes = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.into_iter().enumerate() {
        let outcome = submit(shared, caller, input, params, &cancels.0)
            .map_err(|failure| of_failure(index, &failure))?;
        outcomes.push(outcome);
    }
    let mut answers = Vec::with_capacity(outcomes.len());
    for (index, outcome) in outcomes.into_iter().enumerate() {
        // A reply is always given.
        let Ok(outcome) = outcome.await else { unreachable!("a job is answered once") };
        answers.push(outcome.map_err(|failure| of_failure(index, &failure))?);
    }
    Ok(answers)
}

type Outcome = Result<Answer, Failure>;

/// One text to the queue.
fn submit(
    shared: &HttpService,
    caller: u64,
    input: Input,
    params: EmbedParams,
    cancelled: &CancelFlag,
) -> Result<oneshot::Receiver<Outcome>, Failure> {
    let (sender, outcome) = oneshot::channel();
    let (service, received) = (Arc::clone(&shared.service), Instant::now());
    let job = Job {
        caller,
        input,
        params,
        received,
        deadline: received.checked_add(HTTP_ANSWER_TIMEOUT),
        cancelled: cancelled.clone(),
        reply: Reply::new(move |outcome| {
            service.figures.answered(&outcome, Some(received));
            // Nobody waits for it any more if the connection has ended.
            let _ = sender.send(outcome);
        }),
    };
    match shared.service.batcher.submit(job) {
        Ok(()) => Ok(outcome),
        Err(rejected) => {
            let failure = rejected.failure.clone();
            rejected.job.reply.give(Err(rejected.failure));
            Err(failure)
        }
    }
}
