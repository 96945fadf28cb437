//! The body of a request, as far as it is taken: so many bytes, in so long a time.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::HttpService;
use super::error::ApiError;
use crate::config::{
    HTTP_BODY_BYTES_MAX, HTTP_BODY_TIMEOUT, HTTP_REFUSED_BYTES_MAX, HTTP_REFUSED_TIMEOUT,
};

/// Reads a body; its room in memory is given back with the permit.
pub(super) async fn read<'a>(
    shared: &'a HttpService,
    body: &mut Incoming,
) -> Result<(Bytes, SemaphorePermit<'a>), ApiError> {
    let announced = body.size_hint().upper();
    if body.size_hint().lower() > HTTP_BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    // One who does not say how much will come gets room for the most.
    let room = announced.map_or(HTTP_BODY_BYTES_MAX, |bytes| bytes as usize).max(1);
    let room = u32::try_from(room.min(HTTP_BODY_BYTES_MAX)).unwrap_or(u32::MAX);
    let permit = timeout(HTTP_BODY_TIMEOUT, shared.bodies.acquire_many(room)).await;
    let Ok(Ok(permit)) = permit else {
        let message = "worker: reads as many requests as it can hold; try again";
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        return Err(ApiError::new(busy, embed_protocol::ErrorCode::Overloaded.as_str(), message));
    };
    let read = timeout(HTTP_BODY_TIMEOUT, collect(Limited::new(body, HTTP_BODY_BYTES_MAX))).await;
    match read {
        Ok(Ok(bytes)) => Ok((bytes, permit)),
        Ok(Err(error)) => Err(error),
        Err(_) => {
            let message = format!("body: not whole {HTTP_BODY_TIMEOUT:?} after its beginning");
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message))
        }
    }
}

async fn collect(mut body: Limited<&mut Incoming>) -> Result<Bytes, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if error.downcast_ref::<LengthLimitError>().is_some() {
                return too_large();
            }
            let message = format!("body: cannot be read ({error})");
            ApiError::new(StatusCode::BAD_REQUEST, "bad_body", message)
        })?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// Reads what comes after a refusal, and forgets it: a client that still sends when its connection is
/// closed may never see why.
pub(super) async fn forget(mut body: Incoming) {
    let rest = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > HTTP_REFUSED_BYTES_MAX {
                return;
            }
        }
    };
    let _ = timeout(HTTP_REFUSED_TIMEOUT, rest).await;
}

fn too_large() -> ApiError {
    let message =
        format!("body: has more than {HTTP_BODY_BYTES_MAX} bytes; send fewer texts in one request");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}
