//! What a text is embedded for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a text is embedded for: many models are trained with a few words of their own before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// It asks, and documents are looked for with it.
    Query,
    /// It is looked for.
    Document,
    /// It is put together with its like.
    Clustering,
    /// It is given one of some labels.
    Classification,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 4] =
        [Self::Query, Self::Document, Self::Clustering, Self::Classification];

    /// The word for it, on the wire and in JavaScript.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Document => "document",
            Self::Clustering => "clustering",
            Self::Classification => "classification",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wanted query, document, clustering or classification")]
pub struct UnknownTask;

impl FromStr for Task {
    type Err = UnknownTask;

    fn from_str(word: &str) -> Result<Self, UnknownTask> {
        Self::ALL.into_iter().find(|task| task.as_str() == word).ok_or(UnknownTask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_without_a_task_says_nothing_of_it() {
        use crate::EmbedParams;

        let plain = EmbedParams::default();
        let bytes = rmp_serde::to_vec_named(&plain).expect("encodes");
        assert_eq!(rmp_serde::from_slice::<EmbedParams>(&bytes).expect("decodes"), plain);
        let asked = EmbedParams { task: Some(Task::Query), ..plain };
        let more = rmp_serde::to_vec_named(&asked).expect("encodes");
        assert_eq!(rmp_serde::from_slice::<EmbedParams>(&more).expect("decodes"), asked);
        assert_eq!(more.len() - bytes.len(), "_task_query".len());
    }

    #[test]
    fn a_task_has_one_word_everywhere() {
        for task in Task::ALL {
            assert_eq!(task.as_str().parse(), Ok(task));
            let bytes = rmp_serde::to_vec(&task).expect("encodes");
            assert_eq!(rmp_serde::from_slice::<String>(&bytes).expect("a string"), task.as_str());
            assert!(UnknownTask.to_string().contains(task.as_str()));
        }
        assert_eq!("Query".parse::<Task>(), Err(UnknownTask));
    }
}
