//! Hyperparameters: read once from the file's keys and checked against one another.
//!
//! Keys and defaults are those that llama.cpp's converter writes and its loader assumes.

use super::architecture::{Architecture, Pooling, Positions};
use super::error::ModelError;
use crate::gguf::GgufFile;

/// Most layers: the deepest published model has some hundred.
const BLOCKS_MAX: u32 = 1024;
/// Most elements in a row of hidden states or of a feed-forward layer.
const WIDTH_MAX: u32 = 1 << 20;
/// Most dimensions of the answer; what a frame of the protocol holds.
const HIDDEN_MAX: u32 = 16_000;
/// Most tokens in a text; the longest published context is a million.
const CONTEXT_MAX: u32 = 1 << 20;

/// The sizes and constants of a model.
#[derive(Clone, Debug)]
pub struct Hyperparameters {
    /// What it is made of.
    pub architecture: &'static Architecture,
    /// Layers.
    pub blocks: usize,
    /// Width of a token's state, and of the vector.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of one head: `hidden / heads`.
    pub head_dim: usize,
    /// Width inside the feed-forward layer.
    pub inner: usize,
    /// Most tokens in a text, special tokens included.
    pub context_tokens: usize,
    /// Rows of the token type table; only row 0 ("sentence A") is ever used.
    pub token_types: usize,
    /// Added to the variance in layer norm.
    pub norm_epsilon: f32,
    /// Rotary positions, if the architecture has them.
    pub rope: Option<Rope>,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Whether the file names its pooling, or the default was taken.
    pub pooling_named: bool,
}

/// Parameters of rotary position embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Base of the wavelengths.
    pub base: f32,
    /// Elements of each head that are rotated; even.
    pub dims: usize,
}

impl Hyperparameters {
    /// Reads and checks the keys of `file`.
    ///
    /// # Errors
    ///
    /// A missing or wrong key, by its name.
    pub fn read(file: &GgufFile) -> Result<Self, ModelError> {
        let name = file
            .str("general.architecture")?
            .ok_or_else(|| ModelError::KeyMissing { key: "general.architecture".into() })?;
        let architecture = Architecture::by_name(name).ok_or_else(|| ModelError::Architecture {
            found: name.into(),
            supported: Architecture::names(),
        })?;
        let keys = Keys { file, prefix: name };

        let hidden = keys.size("embedding_length", HIDDEN_MAX)?;
        let heads = keys.size("attention.head_count", HIDDEN_MAX)?;
        if hidden % heads != 0 {
            return Err(keys.value(
                "attention.head_count",
                heads,
                format!("a divisor of embedding_length, {hidden}"),
            ));
        }
        let head_dim = hidden / heads;
        if file.bool(&keys.full("attention.causal"))? == Some(true) {
            return Err(ModelError::KeyUnsupported {
                key: keys.full("attention.causal"),
                found: "true".into(),
                wanted: "an encoder's attention is bidirectional",
            });
        }
        let (pooling, pooling_named) = keys.pooling()?;
        Ok(Self {
            architecture,
            blocks: keys.size("block_count", BLOCKS_MAX)?,
            hidden,
            heads,
            head_dim,
            inner: keys.size("feed_forward_length", WIDTH_MAX)?,
            context_tokens: keys.size("context_length", CONTEXT_MAX)?,
            token_types: size(file, "tokenizer.ggml.token_type_count".into(), WIDTH_MAX)?,
            norm_epsilon: keys.epsilon()?,
            rope: match architecture.positions {
                Positions::Learned => None,
                Positions::Rope { default_base } => Some(keys.rope(default_base, head_dim)?),
            },
            pooling,
            pooling_named,
        })
    }
}

/// The keys of one architecture: `PREFIX.…`.
struct Keys<'a> {
    file: &'a GgufFile,
    prefix: &'a str,
}

impl Keys<'_> {
    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn value(&self, key: &str, found: impl ToString, wanted: impl Into<String>) -> ModelError {
        ModelError::KeyValue {
            key: self.full(key),
            found: found.to_string(),
            wanted: wanted.into(),
        }
    }

    /// A required count between 1 and `most`.
    fn size(&self, key: &str, most: u32) -> Result<usize, ModelError> {
        size(self.file, self.full(key), most)
    }

    fn epsilon(&self) -> Result<f32, ModelError> {
        let key = "attention.layer_norm_epsilon";
        let epsilon = self
            .file
            .f32(&self.full(key))?
            .ok_or_else(|| ModelError::KeyMissing { key: self.full(key) })?;
        if epsilon.is_finite() && epsilon >= 0.0 {
            Ok(epsilon)
        } else {
            Err(self.value(key, epsilon, "finite and not negative"))
        }
    }

    fn rope(&self, default_base: f32, head_dim: usize) -> Result<Rope, ModelError> {
        let base = self.file.f32(&self.full("rope.freq_base"))?.unwrap_or(default_base);
        if !(base.is_finite() && base > 0.0) {
            return Err(self.value("rope.freq_base", base, "finite and above zero"));
        }
        let dims = match self.file.u32(&self.full("rope.dimension_count"))? {
            Some(dims) => dims as usize,
            None => head_dim,
        };
        if dims == 0 || !dims.is_multiple_of(2) || dims > head_dim {
            let wanted = format!("even, and from 2 to the head's width, {head_dim}");
            return Err(self.value("rope.dimension_count", dims, wanted));
        }
        if let Some(scaling) = self.file.str(&self.full("rope.scaling.type"))?
            && scaling != "none"
        {
            return Err(ModelError::KeyUnsupported {
                key: self.full("rope.scaling.type"),
                found: format!("`{scaling}`"),
                wanted: "only files without position scaling run",
            });
        }
        Ok(Rope { base, dims })
    }

    /// The pooling, and whether the file names it.
    ///
    /// Numbers are those of llama.cpp's `llama_pooling_type`. Encoders whose file says nothing were
    /// nearly all trained with mean pooling; the families that were not are known by name.
    fn pooling(&self) -> Result<(Pooling, bool), ModelError> {
        const CLS_FAMILIES: [&str; 3] = ["bge", "mxbai", "arctic-embed"];
        let key = self.full("pooling_type");
        let unsupported = |found: &str| ModelError::KeyUnsupported {
            key: key.clone(),
            found: found.into(),
            wanted: "only MEAN and CLS make one vector of a text here",
        };
        match self.file.u32(&key)? {
            Some(1) => Ok((Pooling::Mean, true)),
            Some(2) => Ok((Pooling::Cls, true)),
            Some(0) => Err(unsupported("NONE")),
            Some(3) => Err(unsupported("LAST")),
            Some(4) => Err(unsupported("RANK")),
            Some(other) => Err(unsupported(&other.to_string())),
            None => {
                let name = self.file.str("general.name")?.unwrap_or_default();
                let name = name.to_ascii_lowercase();
                let cls = CLS_FAMILIES.iter().any(|family| name.contains(family));
                Ok((if cls { Pooling::Cls } else { Pooling::Mean }, false))
            }
        }
    }
}

/// A required count between 1 and `most`.
fn size(file: &GgufFile, key: String, most: u32) -> Result<usize, ModelError> {
    match file.u32(&key)? {
        None => Err(ModelError::KeyMissing { key }),
        Some(value) if (1..=most).contains(&value) => Ok(value as usize),
        Some(value) => Err(ModelError::KeyValue {
            key,
            found: value.to_string(),
            wanted: format!("from 1 to {most}"),
        }),
    }
}
