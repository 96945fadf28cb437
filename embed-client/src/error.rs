//! The one error of this crate: a code to branch on and a sentence to read.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use embed_protocol::{ErrorCode, TEXT_BYTES_MAX};

/// Why a text has no vector.
///
/// Cheap to clone, since one cause may fail many requests.
#[derive(Clone, Debug)]
pub struct EmbedError {
    code: ErrorCode,
    message: Arc<str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
    /// Whether it says nothing of other texts, though its code might.
    is_of_one_text: bool,
}

impl EmbedError {
    /// An error without an underlying one.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into().into(), source: None, is_of_one_text: false }
    }

    /// An error with its cause.
    pub fn with_source(
        code: ErrorCode,
        message: impl Into<String>,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        let source = Some(Arc::new(source) as Arc<dyn Error + Send + Sync>);
        Self { code, message: message.into().into(), source, is_of_one_text: false }
    }

    /// A text of `bytes` bytes of UTF-8 is more than any worker takes.
    pub fn text_too_long(bytes: usize) -> Self {
        Self::new(
            ErrorCode::TextTooLong,
            format!(
                "text: {bytes} bytes of UTF-8, at most {TEXT_BYTES_MAX} are accepted; split it"
            ),
        )
    }

    /// What to branch on.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// What to read: one sentence, with the causes that belong to it.
    pub fn message(&self) -> String {
        let mut message = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        message
    }

    /// The same of a text that was lost with its worker again and again: others may still have one.
    pub(crate) fn of_one_text(self) -> Self {
        Self { is_of_one_text: true, ..self }
    }

    /// Whether the model's file is at fault.
    pub(crate) fn blames_the_model(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::ModelNotFound | ErrorCode::ModelInvalid | ErrorCode::ModelUnsupported
        )
    }

    /// Whether another text would meet the same error at once: the fault is not the text's.
    pub fn concerns_every_text(&self) -> bool {
        if self.is_of_one_text {
            return false;
        }
        match self.code {
            ErrorCode::BadArgument
            | ErrorCode::ModelNotFound
            | ErrorCode::ModelInvalid
            | ErrorCode::ModelUnsupported
            | ErrorCode::WorkerUnavailable
            | ErrorCode::Protocol
            | ErrorCode::ShuttingDown => true,
            ErrorCode::TextTooLong
            | ErrorCode::Timeout
            | ErrorCode::Overloaded
            | ErrorCode::Cancelled
            | ErrorCode::Internal => false,
        }
    }
}

impl fmt::Display for EmbedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for EmbedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_ends_with_its_causes_and_display_does_not() {
        let cause = std::io::Error::other("disk on fire");
        let error = EmbedError::with_source(ErrorCode::ModelNotFound, "model `m`", cause);
        assert_eq!(error.to_string(), "model `m`");
        assert_eq!(error.message(), "model `m`: disk on fire");
    }

    #[test]
    fn a_text_too_long_names_both_numbers() {
        let message = EmbedError::text_too_long(2_000_000).message();
        assert!(message.contains("2000000") && message.contains("1048576"), "{message}");
    }
}
