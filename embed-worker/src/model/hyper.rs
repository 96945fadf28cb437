//! Hyperparameters: read once from the file's keys and checked against one another.
//!
//! Keys and defaults are those that llama.cpp's converter writes and its loader assumes.

use super::architecture::{Architecture, Gate, Pooling, Positions, Sight};
use super::error::ModelError;
use super::keys::{CONTEXT_MAX, HIDDEN_MAX, Keys, WIDTH_MAX};
use super::rope::Rope;
use crate::gguf::GgufFile;
use crate::kernels::{self, Activation, Heads};

/// Most layers: the deepest published model has some hundred.
const BLOCKS_MAX: u32 = 1024;

/// The sizes and constants of a model.
#[derive(Clone, Debug)]
pub struct Hyperparameters {
    /// What it is made of.
    pub architecture: &'static Architecture,
    /// Layers.
    pub blocks: usize,
    /// Width of a token's state.
    pub hidden: usize,
    /// Length of the vector: `hidden`, unless heads stand after pooling.
    pub dimensions: usize,
    /// Attention heads.
    pub heads: Heads,
    /// Width inside the feed-forward layer.
    pub inner: usize,
    /// What makes the feed-forward layer not linear.
    pub activation: Activation,
    /// Several feed-forward layers in the place of one, if the architecture has them.
    pub experts: Option<Experts>,
    /// Most tokens in a text, special tokens included.
    pub context_tokens: usize,
    /// Rows of the token type table, if there is one; only row 0 ("sentence A") is ever used.
    pub token_types: usize,
    /// Added to the variance in norms.
    pub norm_epsilon: f32,
    /// Whether a token sees only those before it.
    pub causal: bool,
    /// Rotary positions, if the architecture has them.
    pub rope: Option<Rope>,
    /// Layers that see only what is near, if the architecture has them.
    pub local: Option<Local>,
    /// What each place of distance takes from a score, `[heads]`; empty if nothing.
    pub slopes: Vec<f32>,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Whether the file names its pooling, or the default was taken.
    pub pooling_named: bool,
    /// Width between the two linear heads after pooling, if there are any.
    pub head_inner: Option<usize>,
}

/// Layers in which a token sees only what is near.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// Places before and after a token that it sees.
    pub reach: usize,
    /// Rotations in these layers.
    pub rope: Rope,
    /// Whether a layer is one of them, `[blocks]`.
    pub layers: Vec<bool>,
}

/// Several feed-forward layers of which a router chooses some for each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many a token uses.
    pub used: usize,
    /// They stand in layers 1, 1 + every, 1 + 2 every and so on.
    pub every: usize,
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
        let keys = Keys { file, architecture };

        let hidden = keys.size("embedding_length", HIDDEN_MAX)?;
        let blocks = keys.size("block_count", BLOCKS_MAX)?;
        let heads = keys.heads(hidden)?;
        let rope = match architecture.positions {
            Positions::Learned | Positions::Alibi => None,
            Positions::Rope { default_base, pairing } => {
                Some(keys.rope("rope.freq_base", (default_base, pairing), heads.width)?)
            }
        };
        let slopes = match architecture.positions {
            Positions::Alibi => alibi_slopes(heads.queries),
            Positions::Learned | Positions::Rope { .. } => Vec::new(),
        };
        let experts = match architecture.gate {
            Gate::NoneWithExperts => Some(keys.experts()?),
            Gate::None | Gate::Own | Gate::InUp => {
                keys.no_experts()?;
                None
            }
        };
        let (pooling, pooling_named) = keys.pooling()?;
        let (head_inner, dimensions) = keys.dense_heads(hidden)?.unzip();
        Ok(Self {
            architecture,
            blocks,
            hidden,
            dimensions: dimensions.unwrap_or(hidden),
            heads,
            inner: keys.size("feed_forward_length", WIDTH_MAX)?,
            activation: keys.activation()?,
            experts,
            context_tokens: keys.size("context_length", CONTEXT_MAX)?,
            token_types: keys.token_types()?,
            norm_epsilon: keys.epsilon()?,
            causal: keys.causal()?,
            rope,
            local: match architecture.sight {
                Sight::All | Sight::Back => None,
                Sight::Alternating { local_base, period, first } => {
                    Some(keys.local(blocks, heads.width, local_base, (period, first))?)
                }
            },
            slopes,
            pooling,
            pooling_named,
            head_inner,
        })
    }

    /// The layers' part of those that see only what is near, if layer `block` is one.
    pub(super) fn local(&self, block: usize) -> Option<&Local> {
        self.local.as_ref().filter(|local| local.layers.get(block) == Some(&true))
    }

    /// Who sees whom in layer `block`.
    pub(super) fn sight(&self, block: usize) -> kernels::Sight {
        match self.local(block) {
            Some(local) => kernels::Sight::Near(local.reach),
            None if self.causal => kernels::Sight::Back,
            None => kernels::Sight::All,
        }
    }

    /// The experts of layer `block`, if it has any.
    pub(super) fn experts(&self, block: usize) -> Option<Experts> {
        self.experts.filter(|experts| block % experts.every == 1)
    }
}

/// The rate at which scores fall in each head: powers of `2^(-8/heads)`, as if there were a power of
/// two of them; heads beyond that lie between (Press et al. 2021, arXiv 2108.12409, and its code).
fn alibi_slopes(heads: usize) -> Vec<f32> {
    let even = 1 << heads.ilog2();
    let slope = |heads: f64, index: usize| (-8.0 * index as f64 / heads).exp2() as f32;
    let between = |head: usize| slope(2.0 * even as f64, 2 * (head - even) + 1);
    let own = |head: usize| slope(even as f64, head + 1);
    (0..heads).map(|head| if head < even { own(head) } else { between(head) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_alibis_code() {
        let halves = |exponents: &[f32]| exponents.iter().map(|e| e.exp2()).collect::<Vec<_>>();
        let whole = [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0];
        assert_eq!(alibi_slopes(8), halves(&whole));
        assert_eq!(alibi_slopes(6), halves(&[-2.0, -4.0, -6.0, -8.0, -1.0, -3.0]));
        assert_eq!(alibi_slopes(1), halves(&[-8.0]));
        assert_eq!(alibi_slopes(12)[8..], halves(&[-0.5, -1.5, -2.5, -3.5]));
    }
}
