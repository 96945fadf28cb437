//! Finding weights: the only file that knows the tensors' names, and what shape each must have.
//!
//! Names follow `src/llama-arch.cpp` of llama.cpp; GGUF lists the fastest dimension first, so a
//! matrix of `rows` outputs and `cols` inputs has the dimensions `[cols, rows]`.

use super::architecture::{Gate, Input, KeyNorms, NormKind, Norms, Positions};
use super::error::ModelError;
use super::hyper::Hyperparameters;
use super::weights::{Block, BlockNorms, FeedForward, Linear, Norm, Table, Weights, read_row};
use crate::gguf::{GgufFile, Tensor};
use crate::kernels::{DType, Kernels};

/// Norms of queries and of keys.
const KEY_NORMS: [&str; 2] = ["attn_q_norm", "attn_k_norm"];

/// A second norm after attention.
const SECOND_NORM: &str = "attn_norm_2";

/// Other parts of layers that some variant of an architecture has and that would change every vector.
const UNKNOWN_PARTS: [&str; 1] = ["attn_sinks"];

/// Tensors of some variants that stretch rotations pair by pair.
const UNKNOWN_TENSORS: [&str; 3] =
    ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];

impl Weights {
    /// Finds and checks every tensor that `hyper` asks for.
    ///
    /// # Errors
    ///
    /// A tensor that is missing, or of another shape or type than it must have, by its name.
    pub(super) fn find(
        file: &GgufFile,
        hyper: &Hyperparameters,
        vocabulary: usize,
        kernels: Kernels,
    ) -> Result<Self, ModelError> {
        let find = Find { file, hyper, kernels };
        let (hidden, parts) = (hyper.hidden, hyper.architecture);
        if let Some(tensor) = UNKNOWN_TENSORS.iter().find(|name| file.tensor(name).is_some()) {
            return Err(ModelError::TensorUnsupported { tensor: (*tensor).into() });
        }
        let types = "token_types.weight";
        let token_type = match parts.input {
            // Models that were trained with sentences of one kind only may have none.
            Input::TypedAndNormed if file.tensor(types).is_some() => {
                let mut row = vec![0.0; hidden];
                find.table(types, hyper.token_types, hidden)?.row(kernels, 0, &mut row)?;
                Some(row)
            }
            Input::TypedAndNormed | Input::Normed | Input::Plain | Input::Scaled => None,
        };
        let token_embd = find.table("token_embd.weight", vocabulary, hidden)?;
        let position_embd = match parts.positions {
            Positions::Learned => {
                Some(find.table("position_embd.weight", hyper.context_tokens, hidden)?)
            }
            Positions::Rope { .. } | Positions::Alibi => None,
        };
        let token_embd_norm = match parts.input {
            Input::TypedAndNormed | Input::Normed => Some(find.norm("token_embd_norm", hidden)?),
            Input::Plain | Input::Scaled => None,
        };
        // No `with_capacity`: the count comes from the file, and a file that lies about it ends at
        // the first block that is missing.
        let mut blocks = Vec::new();
        for block in 0..hyper.blocks {
            blocks.push(find.block(block)?);
        }
        let output_norm = match parts.norms {
            Norms::After | Norms::AfterOnceOrTwice => None,
            Norms::Before | Norms::Around => Some(find.norm("output_norm", hidden)?),
        };
        let dense_heads = match hyper.head_inner {
            None => None,
            Some(inner) => Some([
                find.linear("dense_2", inner, hidden)?,
                find.linear("dense_3", hyper.dimensions, inner)?,
            ]),
        };
        Ok(Self {
            token_embd,
            token_type,
            position_embd,
            token_embd_norm,
            blocks,
            output_norm,
            dense_heads,
        })
    }
}

/// Looks tensors up and checks them.
struct Find<'a> {
    file: &'a GgufFile,
    hyper: &'a Hyperparameters,
    kernels: Kernels,
}

impl Find<'_> {
    fn block(&self, block: usize) -> Result<Block, ModelError> {
        let Hyperparameters { hidden, heads, architecture: parts, .. } = *self.hyper;
        let name = |part: &str| format!("blk.{block}.{part}");
        let has = |part: &str| self.file.tensor(&name(&format!("{part}.weight"))).is_some();
        let no_key_norms = KEY_NORMS.iter().filter(|_| parts.key_norms == KeyNorms::None);
        let no_second = [SECOND_NORM].iter().filter(|_| parts.norms != Norms::AfterOnceOrTwice);
        let mut unknown = UNKNOWN_PARTS.iter().chain(no_key_norms).chain(no_second);
        if let Some(part) = unknown.find(|part| has(part)) {
            return Err(ModelError::TensorUnsupported { tensor: name(&format!("{part}.weight")) });
        }
        let (queries, keys) = (heads.query_width(), heads.key_width());
        let (of_queries, of_keys) = if self.file.tensor(&name("attn_qkv.weight")).is_some() {
            let all = self.linear(&name("attn_qkv"), heads.row_width(), hidden)?;
            (all.some_rows(0, queries), vec![all.some_rows(queries, 2 * keys)])
        } else {
            let part = |part, rows| self.linear(&name(part), rows, hidden);
            (part("attn_q", queries)?, vec![part("attn_k", keys)?, part("attn_v", keys)?])
        };
        let norms_all = parts.key_norms == KeyNorms::OfAllIfAny && KEY_NORMS.into_iter().any(has);
        let key_widths = match parts.key_norms {
            KeyNorms::OfHeads => Some([heads.width; 2]),
            KeyNorms::OfAllIfAny if norms_all => Some([queries, keys]),
            KeyNorms::OfAllIfAny | KeyNorms::None => None,
        };
        let key_norm = |index: usize, width| self.norm(&name(KEY_NORMS[index]), width);
        let key_norms = match key_widths {
            Some([queries, keys]) => Some([key_norm(0, queries)?, key_norm(1, keys)?]),
            None => None,
        };
        let norm = |part| self.norm(&name(part), hidden).map(Some);
        let (attention_norms, ffn_norms) = match parts.norms {
            Norms::After | Norms::AfterOnceOrTwice => (
                BlockNorms {
                    sum: norm("attn_output_norm")?,
                    second_sum: if has(SECOND_NORM) { norm(SECOND_NORM)? } else { None },
                    ..BlockNorms::default()
                },
                BlockNorms { sum: norm("layer_output_norm")?, ..BlockNorms::default() },
            ),
            Norms::Before => {
                // What was normed just now is not normed again.
                let normed = block == 0 && parts.input == Input::Normed;
                let input = if normed { None } else { norm("attn_norm")? };
                (
                    BlockNorms { input, ..BlockNorms::default() },
                    BlockNorms { input: norm("ffn_norm")?, ..BlockNorms::default() },
                )
            }
            Norms::Around => (
                BlockNorms {
                    input: norm("attn_norm")?,
                    output: norm("post_attention_norm")?,
                    ..BlockNorms::default()
                },
                BlockNorms {
                    input: norm("ffn_norm")?,
                    output: norm("post_ffw_norm")?,
                    ..BlockNorms::default()
                },
            ),
        };
        let attn_output = self.linear(&name("attn_output"), hidden, queries)?;
        let (ffn, router) = match self.hyper.experts(block) {
            None => (vec![self.feed_forward(&name, norms_all)?], None),
            Some(experts) => {
                let router = self.linear(&name("ffn_gate_inp"), experts.count, hidden)?;
                (self.experts(&name, experts.count)?, Some(router))
            }
        };
        Ok(Block {
            attention_norms,
            queries: of_queries,
            keys_values: of_keys,
            key_norms,
            attn_output,
            ffn_norms,
            ffn,
            router,
        })
    }

    /// `up_leads` says which of both stands first where they share a tensor.
    fn feed_forward(
        &self,
        name: &dyn Fn(&str) -> String,
        up_leads: bool,
    ) -> Result<FeedForward, ModelError> {
        let Hyperparameters { hidden, inner, .. } = *self.hyper;
        let own = self.file.tensor(&name("ffn_gate.weight")).is_some();
        let (up, gate) = match self.hyper.architecture.gate {
            Gate::None | Gate::NoneWithExperts => {
                (self.linear(&name("ffn_up"), inner, hidden)?, None)
            }
            Gate::InUp if !own => {
                let both = self.linear(&name("ffn_up"), 2 * inner, hidden)?;
                let (up, gate) = if up_leads { (0, inner) } else { (inner, 0) };
                (both.some_rows(up, inner), Some(both.some_rows(gate, inner)))
            }
            // Some converters split what others leave together.
            Gate::Own | Gate::InUp => (
                self.linear(&name("ffn_up"), inner, hidden)?,
                Some(self.linear(&name("ffn_gate"), inner, hidden)?),
            ),
        };
        Ok(FeedForward { up, gate, down: self.linear(&name("ffn_down"), hidden, inner)? })
    }

    /// Experts stand one after the other in tensors of three dimensions.
    fn experts(
        &self,
        name: &dyn Fn(&str) -> String,
        count: usize,
    ) -> Result<Vec<FeedForward>, ModelError> {
        let Hyperparameters { hidden, inner, .. } = *self.hyper;
        let all = |part: &str, rows: usize, cols: usize| {
            let tensor = self.shaped(&name(part), &[cols, rows, count])?;
            Ok::<_, ModelError>(Linear { tensor, first: 0, rows: rows * count, cols, bias: None })
        };
        let ups = all("ffn_up_exps.weight", inner, hidden)?;
        let downs = all("ffn_down_exps.weight", hidden, inner)?;
        let expert = |index: usize| FeedForward {
            up: ups.some_rows(index * inner, inner),
            gate: None,
            down: downs.some_rows(index * hidden, hidden),
        };
        Ok((0..count).map(expert).collect())
    }

    /// `NAME.weight` of `[rows, cols]`, with `NAME.bias` if there is one.
    fn linear(&self, name: &str, rows: usize, cols: usize) -> Result<Linear, ModelError> {
        let tensor = self.shaped(&format!("{name}.weight"), &[cols, rows])?;
        let bias_name = format!("{name}.bias");
        let bias = match self.file.tensor(&bias_name) {
            Some(_) => Some(self.vector(&bias_name, rows)?),
            None => None,
        };
        Ok(Linear { tensor, first: 0, rows, cols, bias })
    }

    fn table(&self, name: &str, rows: usize, cols: usize) -> Result<Table, ModelError> {
        Ok(Table { tensor: self.shaped(name, &[cols, rows])?, cols })
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm, ModelError> {
        let kind = self.hyper.architecture.norm;
        Ok(Norm {
            centred: kind != NormKind::Rms,
            weight: self.vector(&format!("{name}.weight"), width)?,
            bias: match kind {
                NormKind::Layer => Some(self.vector(&format!("{name}.bias"), width)?),
                NormKind::LayerScale | NormKind::Rms => None,
            },
            epsilon: self.hyper.norm_epsilon,
        })
    }

    /// A row of plain f32 numbers, all finite.
    ///
    /// These are copied: a few kilobytes a layer, read here for the check anyway.
    fn vector(&self, name: &str, elements: usize) -> Result<Vec<f32>, ModelError> {
        let tensor = self.shaped(name, &[elements])?;
        if tensor.dtype() != DType::F32 {
            return Err(ModelError::TensorType { tensor: name.into(), found: tensor.dtype() });
        }
        let mut values = vec![0.0; elements];
        read_row(self.kernels, &tensor, 0, tensor.bytes(), &mut values)?;
        Ok(values)
    }

    /// The tensor of this name, if its shape is `wanted`; missing dimensions count as 1.
    fn shaped(&self, name: &str, wanted: &[usize]) -> Result<Tensor, ModelError> {
        let tensor = self
            .file
            .tensor(name)
            .ok_or_else(|| ModelError::TensorMissing { tensor: name.into() })?;
        let found = tensor.shape();
        let dim = |shape: &[usize], index: usize| shape.get(index).copied().unwrap_or(1);
        let dims = found.len().max(wanted.len());
        if (0..dims).any(|index| dim(found, index) != dim(wanted, index)) {
            return Err(ModelError::TensorShape {
                tensor: name.into(),
                found: format!("{found:?}"),
                wanted: format!("{wanted:?}"),
            });
        }
        Ok(tensor.clone())
    }
}
