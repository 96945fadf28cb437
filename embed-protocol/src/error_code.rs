//! The closed set of error codes: to branch on, while the message beside it is to be read.

use serde::{Deserialize, Serialize};

/// What kind of thing went wrong.
///
/// The names on the wire and in JavaScript are those of [`ErrorCode::as_str`] and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorCode {
    /// An argument or option is of the wrong type or out of range.
    #[serde(rename = "EMBED_BAD_ARGUMENT")]
    BadArgument,
    /// The text has more tokens than the model's context, or more bytes than any text may have.
    #[serde(rename = "EMBED_TEXT_TOO_LONG")]
    TextTooLong,
    /// There is no file at the model's path.
    #[serde(rename = "EMBED_MODEL_NOT_FOUND")]
    ModelNotFound,
    /// The model file is damaged, or its contents do not fit together.
    #[serde(rename = "EMBED_MODEL_INVALID")]
    ModelInvalid,
    /// The model file is whole, but of a kind that this version cannot run.
    #[serde(rename = "EMBED_MODEL_UNSUPPORTED")]
    ModelUnsupported,
    /// No worker could be started or reached.
    #[serde(rename = "EMBED_WORKER_UNAVAILABLE")]
    WorkerUnavailable,
    /// The deadline passed before the vector came.
    #[serde(rename = "EMBED_TIMEOUT")]
    Timeout,
    /// A queue is full; try again later or send less at once.
    #[serde(rename = "EMBED_OVERLOADED")]
    Overloaded,
    /// The peer sent what the protocol does not allow, or speaks another version of it.
    #[serde(rename = "EMBED_PROTOCOL")]
    Protocol,
    /// The worker is about to exit and takes no new work; its successor will.
    #[serde(rename = "EMBED_SHUTTING_DOWN")]
    ShuttingDown,
    /// The caller cancelled the request.
    #[serde(rename = "EMBED_CANCELLED")]
    Cancelled,
    /// A defect of this software: one batch is lost, nothing else.
    #[serde(rename = "EMBED_INTERNAL")]
    Internal,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 12] = [
        Self::BadArgument,
        Self::TextTooLong,
        Self::ModelNotFound,
        Self::ModelInvalid,
        Self::ModelUnsupported,
        Self::WorkerUnavailable,
        Self::Timeout,
        Self::Overloaded,
        Self::Protocol,
        Self::ShuttingDown,
        Self::Cancelled,
        Self::Internal,
    ];

    /// The stable name, as it stands in `error.code` in JavaScript.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadArgument => "EMBED_BAD_ARGUMENT",
            Self::TextTooLong => "EMBED_TEXT_TOO_LONG",
            Self::ModelNotFound => "EMBED_MODEL_NOT_FOUND",
            Self::ModelInvalid => "EMBED_MODEL_INVALID",
            Self::ModelUnsupported => "EMBED_MODEL_UNSUPPORTED",
            Self::WorkerUnavailable => "EMBED_WORKER_UNAVAILABLE",
            Self::Timeout => "EMBED_TIMEOUT",
            Self::Overloaded => "EMBED_OVERLOADED",
            Self::Protocol => "EMBED_PROTOCOL",
            Self::ShuttingDown => "EMBED_SHUTTING_DOWN",
            Self::Cancelled => "EMBED_CANCELLED",
            Self::Internal => "EMBED_INTERNAL",
        }
    }

    /// The code with this stable name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_lead_back() {
        let names: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_name(code.as_str()), Some(code));
        }
        assert_eq!(ErrorCode::from_name("EMBED_NO_SUCH_CODE"), None);
    }

    #[test]
    fn the_wire_carries_the_stable_name() {
        for code in ErrorCode::ALL {
            let bytes = rmp_serde::to_vec_named(&code).expect("encodes");
            let name: String = rmp_serde::from_slice(&bytes).expect("is a string");
            assert_eq!(name, code.as_str());
        }
    }
}
