//! The well-known models: what each is called here, where its file is, and what it is. How each is used,
//! the worker's own table of published models says.
//!
//! A file's exact size and SHA-256 are not in the table: the hub tells both at every download, and a file
//! that its owner has replaced would be refused by a table that is older.
//!
//! How far it was checked: every repository and file is one that public programs fetch by this very name,
//! and sizes are theirs: to the byte for nomic-embed-text-v1.5, embeddinggemma, bge-m3 and
//! qwen3-embedding-0.6b, for the others as far as rounded numbers tell. Dimensions, contexts and licences
//! are those of the models' cards. No test fetches them; should one have moved, `pull` says which files its
//! repository has now.

/// A model that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownModel {
    /// What it is called on a command line.
    pub name: &'static str,
    /// Its repository on the hub, `owner/name`.
    pub repo: &'static str,
    /// The file in it.
    pub file: &'static str,
    /// About how large that is, in millions of bytes.
    pub megabytes: u32,
    /// The SPDX identifier of the weights' licence, or its name if it has none.
    pub licence: &'static str,
    /// Length of a vector.
    pub dimensions: u32,
    /// Most tokens in a text.
    pub context_tokens: u32,
    /// What its file's `general.architecture` says.
    pub architecture: &'static str,
}

/// Every model that has a name, in the order of their files' sizes.
pub const KNOWN_MODELS: [KnownModel; 12] = [
    KnownModel {
        name: "bge-small-en-v1.5",
        repo: "CompendiumLabs/bge-small-en-v1.5-gguf",
        file: "bge-small-en-v1.5-q8_0.gguf",
        megabytes: 37,
        licence: "MIT",
        dimensions: 384,
        context_tokens: 512,
        architecture: "bert",
    },
    KnownModel {
        name: "bge-base-en-v1.5",
        repo: "CompendiumLabs/bge-base-en-v1.5-gguf",
        file: "bge-base-en-v1.5-q8_0.gguf",
        megabytes: 118,
        licence: "MIT",
        dimensions: 768,
        context_tokens: 512,
        architecture: "bert",
    },
    KnownModel {
        name: "nomic-embed-text-v1.5",
        repo: "nomic-ai/nomic-embed-text-v1.5-GGUF",
        file: "nomic-embed-text-v1.5.Q8_0.gguf",
        megabytes: 146,
        licence: "Apache-2.0",
        dimensions: 768,
        context_tokens: 2048,
        architecture: "nomic-bert",
    },
    KnownModel {
        name: "jina-embeddings-v2-base-en",
        repo: "gpustack/jina-embeddings-v2-base-en-GGUF",
        file: "jina-embeddings-v2-base-en-Q8_0.gguf",
        megabytes: 146,
        licence: "Apache-2.0",
        dimensions: 768,
        context_tokens: 8192,
        architecture: "jina-bert-v2",
    },
    KnownModel {
        name: "embeddinggemma-300m",
        repo: "ggml-org/embeddinggemma-300M-GGUF",
        file: "embeddinggemma-300M-Q8_0.gguf",
        megabytes: 334,
        licence: "Gemma",
        dimensions: 768,
        context_tokens: 2048,
        architecture: "gemma-embedding",
    },
    KnownModel {
        name: "bge-large-en-v1.5",
        repo: "CompendiumLabs/bge-large-en-v1.5-gguf",
        file: "bge-large-en-v1.5-q8_0.gguf",
        megabytes: 358,
        licence: "MIT",
        dimensions: 1024,
        context_tokens: 512,
        architecture: "bert",
    },
    KnownModel {
        name: "nomic-embed-text-v2-moe",
        repo: "nomic-ai/nomic-embed-text-v2-moe-GGUF",
        file: "nomic-embed-text-v2-moe.Q8_0.gguf",
        megabytes: 512,
        licence: "Apache-2.0",
        dimensions: 768,
        context_tokens: 512,
        architecture: "nomic-bert-moe",
    },
    KnownModel {
        name: "bge-m3",
        repo: "ggml-org/bge-m3-Q8_0-GGUF",
        file: "bge-m3-q8_0.gguf",
        megabytes: 635,
        licence: "MIT",
        dimensions: 1024,
        context_tokens: 8192,
        architecture: "bert",
    },
    KnownModel {
        name: "qwen3-embedding-0.6b",
        repo: "Qwen/Qwen3-Embedding-0.6B-GGUF",
        file: "Qwen3-Embedding-0.6B-Q8_0.gguf",
        megabytes: 639,
        licence: "Apache-2.0",
        dimensions: 1024,
        context_tokens: 32_768,
        architecture: "qwen3",
    },
    KnownModel {
        name: "mxbai-embed-large-v1",
        repo: "mixedbread-ai/mxbai-embed-large-v1",
        file: "gguf/mxbai-embed-large-v1-f16.gguf",
        megabytes: 670,
        licence: "Apache-2.0",
        dimensions: 1024,
        context_tokens: 512,
        architecture: "bert",
    },
    KnownModel {
        name: "qwen3-embedding-4b",
        repo: "Qwen/Qwen3-Embedding-4B-GGUF",
        file: "Qwen3-Embedding-4B-Q4_K_M.gguf",
        megabytes: 2497,
        licence: "Apache-2.0",
        dimensions: 2560,
        context_tokens: 40_960,
        architecture: "qwen3",
    },
    KnownModel {
        name: "nomic-embed-code",
        repo: "nomic-ai/nomic-embed-code-GGUF",
        file: "nomic-embed-code.Q4_K_M.gguf",
        megabytes: 4683,
        licence: "Apache-2.0",
        dimensions: 3584,
        context_tokens: 32_768,
        architecture: "qwen2",
    },
];

/// The model called `name`, whatever the case of its letters.
pub fn known_model(name: &str) -> Option<&'static KnownModel> {
    KNOWN_MODELS.iter().find(|model| model.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HubFile;

    #[test]
    fn every_model_is_found_by_its_name_and_names_a_file_that_can_be_fetched() {
        for model in &KNOWN_MODELS {
            assert_eq!(known_model(&model.name.to_uppercase()), Some(model));
            let spec = format!("{}:{}", model.repo, model.file);
            let parsed = HubFile::parse(&spec).expect("is a hub's file").expect("a sound one");
            assert_eq!((parsed.repo.as_str(), parsed.file.as_str()), (model.repo, model.file));
            assert!(model.file.to_lowercase().ends_with(".gguf"), "{}", model.file);
        }
        assert_eq!(known_model("nomic"), None);
    }

    #[test]
    fn names_differ_and_sizes_rise() {
        for pair in KNOWN_MODELS.windows(2) {
            assert_ne!(pair[0].name, pair[1].name);
            assert!(pair[0].megabytes <= pair[1].megabytes, "{}", pair[1].name);
        }
    }
}
