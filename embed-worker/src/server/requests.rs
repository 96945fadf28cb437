//! What a peer asks for, turned into jobs and answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use embed_protocol::log_name::RequestName;
use embed_protocol::{
    ConnectionName, EmbedParams, ErrorCode, IN_FLIGHT_MAX, Request, Response, Timings, vector,
};

use super::Service;
use super::answers::{Answers, Refusal};
use super::assembly::{Assembly, Part};
use crate::batch::{Answer, Failure, Job, Reply};

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Requests<'a> {
    service: &'a Arc<Service>,
    answers: Answers,
    name: ConnectionName,
    unfinished: Assembly<'a>,
}

impl<'a> Requests<'a> {
    pub(super) fn new(service: &'a Arc<Service>, answers: Answers, name: ConnectionName) -> Self {
        Self { service, answers, name, unfinished: Assembly::new(&service.unfinished) }
    }

    /// Waits until the peer may send more.
    pub(super) async fn room(&self) {
        self.answers.room().await;
    }

    /// Does what is asked, or says why the protocol does not allow it.
    pub(super) fn handle(&mut self, request: Request) -> Result<(), String> {
        match request {
            Request::Hello(_) => return Err("connection: said `hello` twice".into()),
            Request::Embed { id, text, more, params } => match self.answers.enter(id) {
                Ok(()) => {
                    let part = self.unfinished.begin(id, params, text, more);
                    self.advance(id, part);
                }
                Err(Refusal::SameId) => {
                    return Err(format!("request {id}: a request of this id has no answer yet"));
                }
                Err(Refusal::TooMany(waiting)) => {
                    let message = format!(
                        "connection: has {waiting} requests without an answer, at most {IN_FLIGHT_MAX} may be"
                    );
                    self.fail(id, Failure::new(ErrorCode::Overloaded, message));
                }
            },
            Request::Part { id, text, more } => {
                let part = self.unfinished.append(id, &text, more);
                self.advance(id, part);
            }
            Request::Cancel { id } => self.cancel(id),
            Request::Ping { id } => self.answers.give(Response::Pong { id }),
            Request::Stats { id } => {
                self.answers.give(Response::Stats { id, stats: self.service.stats() });
            }
            Request::Shutdown { id } => {
                self.answers.give(Response::Pong { id });
                self.service.stop();
            }
        }
        Ok(())
    }

    /// Answers the texts that are not whole; they will not be any more.
    pub(super) fn leave(mut self) {
        for id in self.unfinished.forget_all() {
            self.fail(id, Failure::shutting_down());
        }
    }

    /// Cancels everything: nobody is there to be answered.
    pub(super) fn cancel_all(&self) {
        self.answers.cancel_all();
    }

    fn cancel(&mut self, id: u64) {
        if self.unfinished.forget(id) {
            self.fail(id, Failure::cancelled());
        } else if let Some(flag) = self.answers.cancel_flag(id) {
            flag.cancel();
        }
        // Any other was answered already.
    }

    fn advance(&mut self, id: u64, part: Part) {
        match part {
            Part::Unfinished | Part::Unknown => {}
            Part::Whole(params, text) => self.submit(id, params, text),
            Part::Refused(failure) => self.fail(id, failure),
        }
    }

    fn submit(&self, id: u64, params: EmbedParams, text: String) {
        let dimensions = self.service.hello.model.dimensions;
        if let Some(found) = params.dimensions
            && !(1..=dimensions).contains(&found)
        {
            let message =
                format!("option `dimensions`: is {found}, the model gives 1 to {dimensions}");
            self.fail(id, Failure::new(ErrorCode::BadArgument, message));
            return;
        }
        let received = Instant::now();
        let cancelled = self.answers.cancel_flag(id).unwrap_or_default();
        let (service, answers) = (Arc::clone(self.service), self.answers.clone());
        let name = self.name.request(id);
        tracing::trace!(request = %name, bytes = text.len(), priority = ?params.priority, "queued");
        let job = Job {
            caller: self.name.number,
            input: text.into(),
            params,
            received,
            deadline: params
                .deadline_ms
                .and_then(|ms| received.checked_add(Duration::from_millis(ms.into()))),
            cancelled,
            reply: Reply::new(move |outcome| {
                // Before the answer, so that who has it finds it in the figures.
                log(name, &outcome);
                service.figures.answered(&outcome, Some(received));
                answers.give(response(id, outcome));
            }),
        };
        if let Err(rejected) = self.service.batcher.submit(job) {
            rejected.job.reply.give(Err(rejected.failure));
        }
    }

    fn fail(&self, id: u64, failure: Failure) {
        let outcome = Err(failure);
        log(self.name.request(id), &outcome);
        self.service.figures.answered(&outcome, None);
        self.answers.give(response(id, outcome));
    }
}

/// What became of a request, without a word of its text.
fn log(request: RequestName, outcome: &Result<Answer, Failure>) {
    match outcome {
        Ok(Answer { tokens, timings: Timings { queue_us, tokenize_us, compute_us }, .. }) => {
            tracing::debug!(%request, tokens, queue_us, tokenize_us, compute_us, "answered");
        }
        Err(Failure { code, message }) => {
            tracing::debug!(%request, %code, why = message, "failed");
        }
    }
}

fn response(id: u64, outcome: Result<Answer, Failure>) -> Response {
    match outcome {
        Ok(Answer { vector, tokens, truncated, timings }) => Response::Vector {
            id,
            vector: vector::to_bytes(&vector),
            tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            truncated,
            timings,
        },
        Err(Failure { code, message }) => Response::Error { id: Some(id), code, message },
    }
}
