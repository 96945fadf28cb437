//! What each architecture is made of, as a table.
//!
//! Adding an architecture is adding a row, as long as it is made of parts that exist.
//! The rows follow `src/models/*.cpp` of llama.cpp, whose converter wrote the files.

/// How a token learns where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Positions {
    /// A learned vector for each position is added to the token's (`position_embd.weight`).
    Learned,
    /// Queries and keys are rotated by their position, element `i` paired with `i + dims/2`.
    Rope {
        /// `rope.freq_base` where the file names none.
        default_base: f32,
    },
}

/// What stands between the two products of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedForward {
    /// `gelu(up(x))`.
    Gelu,
    /// `silu(gate(x)) * up(x)`.
    SwiGlu,
}

/// How the token vectors of a text become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean, special tokens included.
    Mean,
    /// That of the first token.
    Cls,
}

impl Pooling {
    /// The word for it, as it stands in `info` and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
        }
    }
}

/// One row of the table: an encoder with layer norm after each residual sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Architecture {
    /// `general.architecture`.
    pub name: &'static str,
    /// How positions enter.
    pub positions: Positions,
    /// The feed-forward layer.
    pub feed_forward: FeedForward,
}

/// Every architecture that runs.
pub const ARCHITECTURES: [Architecture; 2] = [
    // BERT and its children: MiniLM, bge, e5, gte, mxbai, snowflake-arctic.
    Architecture { name: "bert", positions: Positions::Learned, feed_forward: FeedForward::Gelu },
    // nomic-embed-text v1 and v1.5.
    Architecture {
        name: "nomic-bert",
        positions: Positions::Rope { default_base: 10_000.0 },
        feed_forward: FeedForward::SwiGlu,
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
