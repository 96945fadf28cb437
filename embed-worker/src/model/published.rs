//! What is known of published models and their files do not say: the words that go before a text, how
//! token vectors become one, and how far a vector may be cut.
//!
//! The table follows the models' own cards and their `config_sentence_transformers.json`.
//! A model is known by what its file calls it (`general.name`, else `general.basename`) together with
//! its architecture. What the file itself is called does not matter, so that a renamed file keeps its
//! vectors.

use super::architecture::Pooling;
use super::error::ModelError;
use crate::gguf::GgufFile;

/// Where a file says what model it is, in the order in which they are asked.
const NAME_KEYS: [&str; 2] = ["general.name", "general.basename"];

/// What goes before a text for each task: nothing (`Some("")`), or `None` if the model is not trained
/// for the task, or wants words of the caller's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefixes {
    /// Before what asks.
    pub query: Option<&'static str>,
    /// Before what is looked for.
    pub document: Option<&'static str>,
    /// Before what is put together with its like.
    pub clustering: Option<&'static str>,
    /// Before what is given a label.
    pub classification: Option<&'static str>,
}

/// To how few dimensions a vector may be cut (Matryoshka).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// The model is not trained for it.
    None,
    /// To these numbers.
    To(&'static [usize]),
    /// To any number from this one on.
    From(usize),
}

impl Cuts {
    /// Whether the model is trained for vectors of so many dimensions, fewer than it gives.
    pub fn allow(self, dimensions: usize) -> bool {
        match self {
            Self::None => false,
            Self::To(numbers) => numbers.contains(&dimensions),
            Self::From(fewest) => dimensions >= fewest,
        }
    }
}

/// One row of the table: a family of models that are used alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// What its makers call it.
    pub family: &'static str,
    /// Words of which a model's name has one, in lower case with dashes between.
    pub names: &'static [&'static str],
    /// The architectures that its files have.
    pub architectures: &'static [&'static str],
    /// How token vectors become one where a file names no pooling.
    pub pooling: Pooling,
    /// What goes before a text.
    pub prefixes: Prefixes,
    /// To how few dimensions a vector may be cut.
    pub cuts: Cuts,
    /// Whether a vector's mean is taken off, and its spread made one, before it is cut.
    pub centred_before_cut: bool,
}

/// No words at all, whatever the task.
const NOTHING: Prefixes = Prefixes {
    query: Some(""),
    document: Some(""),
    clustering: Some(""),
    classification: Some(""),
};

/// No words but before what asks.
const fn before_queries(query: &'static str) -> Prefixes {
    Prefixes { query: Some(query), ..NOTHING }
}

/// An instruction before what asks, nothing before what is looked for. For other tasks callers write an
/// instruction of their own.
const fn instruction(query: &'static str) -> Prefixes {
    Prefixes { query: Some(query), document: Some(""), clustering: None, classification: None }
}

/// `Instruct: TASK\nQuery: TEXT`, with the task of the models' own examples.
const WEB_SEARCH: Prefixes = instruction(
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ",
);

/// The same without the blank at its end.
const WEB_SEARCH_QWEN3: Prefixes = instruction(
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
);

const PASSAGES: &str = "Represent this sentence for searching relevant passages: ";

const NOMIC: Prefixes = Prefixes {
    query: Some("search_query: "),
    document: Some("search_document: "),
    clustering: Some("clustering: "),
    classification: Some("classification: "),
};

const E5: Prefixes = Prefixes {
    query: Some("query: "),
    document: Some("passage: "),
    clustering: Some("query: "),
    classification: Some("query: "),
};

/// A family of encoders with mean pooling and no prefixes.
const PLAIN: Published = Published {
    family: "",
    names: &[],
    architectures: &["bert"],
    pooling: Pooling::Mean,
    prefixes: NOTHING,
    cuts: Cuts::None,
    centred_before_cut: false,
};

/// Every family that is known; of two that fit, the first.
pub const PUBLISHED: [Published; 29] = [
    Published {
        family: "nomic-embed-text v1.5",
        names: &["nomic-embed-text-v1-5"],
        architectures: &["nomic-bert"],
        prefixes: NOMIC,
        cuts: Cuts::To(&[512, 256, 128, 64]),
        centred_before_cut: true,
        ..PLAIN
    },
    Published {
        family: "nomic-embed-text v2",
        names: &["nomic-embed-text-v2"],
        architectures: &["nomic-bert-moe"],
        prefixes: NOMIC,
        cuts: Cuts::To(&[256]),
        ..PLAIN
    },
    Published {
        family: "nomic-embed-text v1",
        names: &["nomic-embed-text"],
        architectures: &["nomic-bert"],
        prefixes: NOMIC,
        ..PLAIN
    },
    Published {
        family: "modernbert-embed",
        names: &["modernbert-embed"],
        architectures: &["modern-bert"],
        prefixes: NOMIC,
        cuts: Cuts::To(&[256]),
        ..PLAIN
    },
    Published {
        family: "nomic-embed-code",
        names: &["nomic-embed-code"],
        architectures: &["qwen2"],
        pooling: Pooling::Last,
        prefixes: instruction("Represent this query for searching relevant code: "),
        ..PLAIN
    },
    Published {
        family: "CodeRankEmbed",
        names: &["coderankembed"],
        architectures: &["nomic-bert"],
        pooling: Pooling::Cls,
        prefixes: instruction("Represent this query for searching relevant code: "),
        ..PLAIN
    },
    Published {
        family: "bge, English",
        names: &["bge-small-en", "bge-base-en", "bge-large-en"],
        pooling: Pooling::Cls,
        prefixes: before_queries(PASSAGES),
        ..PLAIN
    },
    Published {
        family: "bge, Chinese",
        names: &["bge-small-zh", "bge-base-zh", "bge-large-zh"],
        pooling: Pooling::Cls,
        prefixes: before_queries("为这个句子生成表示以用于检索相关文章："),
        ..PLAIN
    },
    Published { family: "bge-m3", names: &["bge-m3"], pooling: Pooling::Cls, ..PLAIN },
    Published {
        family: "mxbai-embed-large",
        names: &["mxbai-embed-large", "mxbai-embed-2d-large"],
        pooling: Pooling::Cls,
        prefixes: before_queries(PASSAGES),
        cuts: Cuts::To(&[512]),
        ..PLAIN
    },
    Published {
        family: "UAE-Large",
        names: &["uae-large"],
        pooling: Pooling::Cls,
        prefixes: before_queries(PASSAGES),
        ..PLAIN
    },
    Published {
        family: "snowflake-arctic-embed v2",
        names: &["arctic-embed-l-v2", "arctic-embed-m-v2"],
        pooling: Pooling::Cls,
        prefixes: before_queries("query: "),
        cuts: Cuts::To(&[256]),
        ..PLAIN
    },
    Published {
        family: "snowflake-arctic-embed v1.5",
        names: &["arctic-embed-m-v1-5"],
        pooling: Pooling::Cls,
        prefixes: before_queries(PASSAGES),
        cuts: Cuts::To(&[256]),
        ..PLAIN
    },
    Published {
        family: "snowflake-arctic-embed v1",
        names: &["arctic-embed"],
        architectures: &["bert", "nomic-bert"],
        pooling: Pooling::Cls,
        prefixes: before_queries(PASSAGES),
        ..PLAIN
    },
    Published {
        family: "multilingual-e5-large-instruct",
        names: &["multilingual-e5-large-instruct"],
        prefixes: WEB_SEARCH,
        ..PLAIN
    },
    Published { family: "e5", names: &["e5-small", "e5-base", "e5-large"], prefixes: E5, ..PLAIN },
    Published {
        family: "e5-mistral",
        names: &["e5-mistral"],
        architectures: &["llama"],
        pooling: Pooling::Last,
        prefixes: WEB_SEARCH,
        ..PLAIN
    },
    Published {
        family: "SFR-Embedding",
        names: &["sfr-embedding-mistral", "sfr-embedding-2"],
        architectures: &["llama"],
        pooling: Pooling::Last,
        prefixes: WEB_SEARCH,
        ..PLAIN
    },
    Published {
        family: "Linq-Embed-Mistral",
        names: &["linq-embed-mistral"],
        architectures: &["llama"],
        pooling: Pooling::Last,
        prefixes: WEB_SEARCH,
        ..PLAIN
    },
    Published {
        family: "gte-Qwen2",
        names: &["gte-qwen2"],
        architectures: &["qwen2"],
        pooling: Pooling::Last,
        prefixes: WEB_SEARCH,
        ..PLAIN
    },
    Published {
        family: "Qwen3-Embedding",
        names: &["qwen3-embedding"],
        architectures: &["qwen3"],
        pooling: Pooling::Last,
        prefixes: WEB_SEARCH_QWEN3,
        cuts: Cuts::From(32),
        ..PLAIN
    },
    Published {
        family: "EmbeddingGemma",
        names: &["embeddinggemma", "embedding-gemma"],
        architectures: &["gemma-embedding"],
        prefixes: Prefixes {
            query: Some("task: search result | query: "),
            document: Some("title: none | text: "),
            clustering: Some("task: clustering | query: "),
            classification: Some("task: classification | query: "),
        },
        cuts: Cuts::To(&[512, 256, 128]),
        ..PLAIN
    },
    Published {
        family: "gte-modernbert",
        names: &["gte-modernbert"],
        architectures: &["modern-bert"],
        pooling: Pooling::Cls,
        ..PLAIN
    },
    Published { family: "gte", names: &["gte-small", "gte-base", "gte-large"], ..PLAIN },
    Published {
        family: "granite-embedding",
        names: &["granite-embedding"],
        architectures: &["bert", "modern-bert"],
        pooling: Pooling::Cls,
        ..PLAIN
    },
    Published {
        family: "jina-embeddings-v2",
        names: &["jina-embeddings-v2", "jina-bert-v2", "jina-bert-implementation"],
        architectures: &["jina-bert-v2"],
        ..PLAIN
    },
    Published { family: "all-MiniLM", names: &["all-minilm"], ..PLAIN },
    Published { family: "multi-qa-MiniLM", names: &["multi-qa-minilm"], ..PLAIN },
    Published {
        family: "paraphrase-MiniLM",
        names: &["paraphrase-minilm", "paraphrase-multilingual-minilm"],
        ..PLAIN
    },
];

/// A model that is known, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its row.
    pub published: &'static Published,
    /// The key of the file that names it.
    pub key: &'static str,
}

impl Known {
    /// The row of the model in `file`, if there is one.
    ///
    /// # Errors
    ///
    /// A name that is no string.
    pub fn of(file: &GgufFile) -> Result<Option<Self>, ModelError> {
        let architecture = file.str("general.architecture")?.unwrap_or_default();
        for key in NAME_KEYS {
            let Some(name) = file.str(key)? else { continue };
            if let Some(published) = Published::find(architecture, name) {
                return Ok(Some(Self { published, key }));
            }
        }
        Ok(None)
    }
}

impl Published {
    /// The row of the model that is called `name` and has this architecture, if there is one.
    pub fn find(architecture: &str, name: &str) -> Option<&'static Self> {
        let words = words(name);
        PUBLISHED.iter().find(|row| row.is(architecture, &words))
    }

    /// Whether a model of this architecture and name, as [`words`] gives it, is of the family.
    fn is(&self, architecture: &str, words: &str) -> bool {
        let named = |name: &&str| words.contains(&format!("-{name}-"));
        self.architectures.contains(&architecture) && self.names.iter().any(named)
    }
}

/// The longest name that is looked at: makers' names have some 40 bytes.
const NAME_BYTES_MAX: usize = 256;

/// A name as the table spells it, with a dash at both ends: `Nomic Embed Text v1.5` is
/// `-nomic-embed-text-v1-5-`.
fn words(name: &str) -> String {
    let name = &name[..name.floor_char_boundary(NAME_BYTES_MAX)];
    let mut words = String::from("-");
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            words.push(c.to_ascii_lowercase());
        } else if !words.ends_with('-') {
            words.push('-');
        }
    }
    if !words.ends_with('-') {
        words.push('-');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(architecture: &str, name: &str) -> Option<&'static str> {
        Published::find(architecture, name).map(|row| row.family)
    }

    /// Who fetches a model by its name is told how to use it.
    #[test]
    fn every_model_that_can_be_fetched_by_name_has_a_row() {
        for model in &embed_store::KNOWN_MODELS {
            let row = Published::find(model.architecture, model.name);
            assert!(row.is_some(), "{} of {}", model.name, model.architecture);
        }
    }

    /// Names as published files have them, with their architectures.
    #[test]
    fn published_names_find_their_rows() {
        for (architecture, name, expected) in [
            ("nomic-bert", "nomic-embed-text-v1.5", "nomic-embed-text v1.5"),
            ("nomic-bert", "Nomic Embed Text v1.5", "nomic-embed-text v1.5"),
            ("nomic-bert", "nomic-embed-text-v1", "nomic-embed-text v1"),
            ("nomic-bert-moe", "Nomic Embed Text V2 Moe", "nomic-embed-text v2"),
            ("modern-bert", "Modernbert Embed Base", "modernbert-embed"),
            ("qwen2", "Nomic Embed Code", "nomic-embed-code"),
            ("nomic-bert", "CodeRankEmbed", "CodeRankEmbed"),
            ("bert", "bge-small-en-v1.5", "bge, English"),
            ("bert", "Bge Large Zh v1.5", "bge, Chinese"),
            ("bert", "Bge M3", "bge-m3"),
            ("bert", "mxbai-embed-large-v1", "mxbai-embed-large"),
            ("bert", "UAE-Large-V1", "UAE-Large"),
            ("bert", "Snowflake Arctic Embed L v2.0", "snowflake-arctic-embed v2"),
            ("bert", "snowflake-arctic-embed-m-v1.5", "snowflake-arctic-embed v1.5"),
            ("nomic-bert", "snowflake-arctic-embed-m-long", "snowflake-arctic-embed v1"),
            ("bert", "Multilingual E5 Large Instruct", "multilingual-e5-large-instruct"),
            ("bert", "multilingual-e5-small", "e5"),
            ("bert", "e5-base-v2", "e5"),
            ("llama", "E5 Mistral 7b Instruct", "e5-mistral"),
            ("llama", "SFR-Embedding-Mistral", "SFR-Embedding"),
            ("llama", "SFR-Embedding-2_R", "SFR-Embedding"),
            ("llama", "Linq Embed Mistral", "Linq-Embed-Mistral"),
            ("qwen2", "gte-Qwen2-1.5B-instruct", "gte-Qwen2"),
            ("qwen3", "Qwen3 Embedding 0.6b", "Qwen3-Embedding"),
            ("gemma-embedding", "Embeddinggemma 300M", "EmbeddingGemma"),
            ("modern-bert", "gte-modernbert-base", "gte-modernbert"),
            ("bert", "gte-large", "gte"),
            ("modern-bert", "Granite Embedding English R2", "granite-embedding"),
            ("jina-bert-v2", "jina-embeddings-v2-base-code", "jina-embeddings-v2"),
            ("bert", "all-MiniLM-L6-v2", "all-MiniLM"),
            ("bert", "multi-qa-MiniLM-L6-cos-v1", "multi-qa-MiniLM"),
            ("bert", "Paraphrase Multilingual MiniLM L12 v2", "paraphrase-MiniLM"),
        ] {
            assert_eq!(family(architecture, name), Some(expected), "{architecture} {name}");
        }
    }

    #[test]
    fn other_names_and_other_architectures_find_none() {
        for (architecture, name) in [
            ("bert", ""),
            ("bert", "."),
            ("bert", "abge-m3"),
            ("bert", "bge-m35"),
            ("bert", "bge-reranker-v2-m3"),
            ("bert", "mxbai-embed-xsmall-v1"),
            ("qwen3", "nomic-embed-text-v1.5"),
            ("qwen3", "Qwen3 Reranker 0.6b"),
            ("llama", "Mistral 7B Instruct"),
        ] {
            assert_eq!(family(architecture, name), None, "{architecture} {name}");
        }
        // What stands after the first bytes is not looked at, and may be cut within a character.
        assert_eq!(family("bert", &format!("{}bge-m3", "é".repeat(NAME_BYTES_MAX))), None);
    }

    #[test]
    fn every_row_can_be_found() {
        for row in &PUBLISHED {
            for (name, architecture) in
                row.names.iter().flat_map(|name| row.architectures.iter().map(move |a| (name, a)))
            {
                assert_eq!(words(name), format!("-{name}-"), "as names are spelt");
                assert_eq!(family(architecture, name), Some(row.family));
            }
            assert!(!row.family.is_empty() && !row.names.is_empty());
        }
    }

    #[test]
    fn a_cut_is_one_that_the_model_is_trained_for() {
        assert!(!Cuts::None.allow(64));
        assert!(Cuts::To(&[256, 128]).allow(128) && !Cuts::To(&[256, 128]).allow(64));
        assert!(Cuts::From(32).allow(32) && !Cuts::From(32).allow(31));
    }
}
