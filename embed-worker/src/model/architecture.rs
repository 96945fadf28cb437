//! What each architecture is made of, as a table.
//!
//! Adding an architecture is adding a row, as long as it is made of parts that exist.
//! The rows follow `src/models/*.cpp` of llama.cpp, whose converter wrote the files.

use super::rope::Pairing;
use crate::kernels::Activation;

/// How a token learns where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Positions {
    /// A learned vector for each position is added to the token's (`position_embd.weight`).
    Learned,
    /// Queries and keys are rotated by their position.
    Rope {
        /// `rope.freq_base` where the file names none.
        default_base: f32,
        /// Which elements turn together.
        pairing: Pairing,
    },
    /// Scores fall with the distance, in each head at its own rate (ALiBi).
    Alibi,
}

/// What is done to a token's row of `token_embd.weight` before the first layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Row 0 of `token_types.weight`, if there is one, is added, and the sum normed.
    TypedAndNormed,
    /// It is normed, and the first layer does not norm its attention's input again.
    Normed,
    /// Nothing.
    Plain,
    /// It is multiplied by the root of its width.
    Scaled,
}

/// Which norm: what is taken off, and what is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Layer norm with scale and shift.
    Layer,
    /// Layer norm with a scale only.
    LayerScale,
    /// Division by the root of the mean square, with a scale.
    Rms,
}

/// What norms queries and keys before they are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyNorms {
    /// Nothing.
    None,
    /// One norm for each head of queries, and one for each of keys.
    OfHeads,
    /// One norm for all queries of a token and one for all of its keys, in a file that has them.
    OfAllIfAny,
}

/// Where the norms of attention and of the feed-forward layer stand, `f` being either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norms {
    /// `x = norm(x + f(x))`
    After,
    /// The same; in a file that has `attn_norm_2`, `x = norm_2(x + norm(x + f(x)))` for attention.
    AfterOnceOrTwice,
    /// `x = x + f(norm(x))`, and one norm after the last layer.
    Before,
    /// `x = x + norm(f(norm(x)))`, and one norm after the last layer.
    Around,
}

/// Which tokens a token sees, where the file does not say otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sight {
    /// All of its text.
    All,
    /// Itself and those before it; a file may ask for all with `attention.causal`.
    Back,
    /// All in some layers, and in the others those within half of `attention.sliding_window`, with
    /// rotations of their own base.
    Alternating {
        /// `rope.freq_base_swa` where the file names none.
        local_base: f32,
        /// Every how many layers one sees all, where the file does not say.
        period: u32,
        /// Whether that is the first of each period, or else the last.
        first: bool,
    },
}

/// What gates the inside of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Nothing: `activation(up(x))`.
    None,
    /// `activation(gate(x)) * up(x)`.
    Own,
    /// The same, where the rows of `gate` stand before those of `up` in `ffn_up.weight`, or after them
    /// in a file that norms all queries and keys ([`KeyNorms::OfAllIfAny`]).
    InUp,
    /// Nothing; but in every so manieth layer a router chooses a few of several such layers for each
    /// token (`moe_every_n_layers`, `expert_count`, `expert_used_count`).
    NoneWithExperts,
}

/// How the token vectors of a text become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean, special tokens included.
    Mean,
    /// That of the first token.
    Cls,
    /// That of the last token.
    Last,
}

impl Pooling {
    /// The word for it, as it stands in `info` and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Last => "last",
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Architecture {
    /// `general.architecture`.
    pub name: &'static str,
    /// What happens to a token's row first.
    pub input: Input,
    /// How positions enter.
    pub positions: Positions,
    /// Who sees whom.
    pub sight: Sight,
    /// What norms queries and keys.
    pub key_norms: KeyNorms,
    /// Which norm all are.
    pub norm: NormKind,
    /// Where they stand.
    pub norms: Norms,
    /// What makes a feed-forward layer not linear; a file may name another (`hidden_activation`).
    pub activation: Activation,
    /// What gates it.
    pub gate: Gate,
    /// How a text's vectors become one where the file does not say.
    pub pooling: Pooling,
}

/// The base that most models have, and the pairs.
const ROPE: Positions = Positions::Rope { default_base: 10_000.0, pairing: Pairing::Halves };

/// Encoders: the norm comes after the sum.
const BERT: Architecture = Architecture {
    name: "bert",
    input: Input::TypedAndNormed,
    positions: Positions::Learned,
    sight: Sight::All,
    key_norms: KeyNorms::None,
    norm: NormKind::Layer,
    norms: Norms::After,
    activation: Activation::Gelu,
    gate: Gate::None,
    pooling: Pooling::Mean,
};

/// Decoders: the last token has seen all others, and stands for the text.
const QWEN2: Architecture = Architecture {
    name: "qwen2",
    input: Input::Plain,
    positions: ROPE,
    sight: Sight::Back,
    key_norms: KeyNorms::None,
    norm: NormKind::Rms,
    norms: Norms::Before,
    activation: Activation::Silu,
    gate: Gate::Own,
    pooling: Pooling::Last,
};

/// Every architecture that runs.
pub const ARCHITECTURES: [Architecture; 9] = [
    // BERT and its children: MiniLM, bge, e5, gte, mxbai, snowflake-arctic.
    BERT,
    // nomic-embed-text v1 and v1.5.
    Architecture {
        name: "nomic-bert",
        positions: ROPE,
        activation: Activation::Silu,
        gate: Gate::Own,
        ..BERT
    },
    // nomic-embed-text v2.
    Architecture { name: "nomic-bert-moe", positions: ROPE, gate: Gate::NoneWithExperts, ..BERT },
    // jina-embeddings-v2; that for code has more norms than those for text.
    Architecture {
        name: "jina-bert-v2",
        positions: Positions::Alibi,
        key_norms: KeyNorms::OfAllIfAny,
        norms: Norms::AfterOnceOrTwice,
        gate: Gate::InUp,
        ..BERT
    },
    // ModernBERT, gte-modernbert, granite-embedding R2.
    Architecture {
        name: "modern-bert",
        input: Input::Normed,
        positions: Positions::Rope { default_base: 160_000.0, pairing: Pairing::Halves },
        sight: Sight::Alternating { local_base: 10_000.0, period: 3, first: true },
        norm: NormKind::LayerScale,
        norms: Norms::Before,
        gate: Gate::InUp,
        ..BERT
    },
    // nomic-embed-code, gte-Qwen2.
    QWEN2,
    // Qwen3-Embedding.
    Architecture { name: "qwen3", key_norms: KeyNorms::OfHeads, ..QWEN2 },
    // Llama, and Mistral under its name: e5-mistral, SFR-Embedding, Linq-Embed. The converter has put
    // the rows of queries and keys in another order than its neighbours have.
    Architecture {
        name: "llama",
        positions: Positions::Rope { default_base: 10_000.0, pairing: Pairing::Neighbours },
        ..QWEN2
    },
    // EmbeddingGemma: a decoder's layers, but an encoder's sight and pooling.
    Architecture {
        name: "gemma-embedding",
        input: Input::Scaled,
        sight: Sight::Alternating { local_base: 10_000.0, period: 6, first: false },
        key_norms: KeyNorms::OfHeads,
        norms: Norms::Around,
        activation: Activation::GeluTanh,
        pooling: Pooling::Mean,
        ..QWEN2
    },
];

impl Architecture {
    /// The row of this name.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|row| row.name == name)
    }

    /// The names of all rows, for an error text.
    pub fn names() -> String {
        ARCHITECTURES.map(|row| row.name).join(", ")
    }
}
