//! Weights: the only file that knows the tensors' names, and what shape each must have.
//!
//! Nothing is copied but a few rows of plain numbers: a [`Linear`] is a handle on the blocks where
//! the file is mapped.
//! Names follow `src/llama-arch.cpp` of llama.cpp; GGUF lists the fastest dimension first, so a
//! matrix of `rows` outputs and `cols` inputs has the dimensions `[cols, rows]`.

use super::architecture::{FeedForward, Positions};
use super::error::ModelError;
use super::hyper::Hyperparameters;
use crate::gguf::{GgufFile, Tensor};
use crate::kernels::{DType, Kernels, Matrix, Product};

/// All weights of a model.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) token_embd: Table,
    /// Row 0 of the token types, `[hidden]`; the sentence "A" of BERT's pairs, which every text is.
    pub(super) token_type: Vec<f32>,
    /// `[context_tokens, hidden]`, if positions are learned.
    pub(super) position_embd: Option<Table>,
    pub(super) token_embd_norm: Norm,
    pub(super) blocks: Vec<Block>,
}

/// The weights of one layer.
#[derive(Debug)]
pub(super) struct Block {
    /// Queries, keys and values: one product of `3 * hidden` rows, or three of `hidden` rows.
    pub(super) qkv: Vec<Linear>,
    pub(super) attn_output: Linear,
    pub(super) attn_output_norm: Norm,
    pub(super) ffn_up: Linear,
    /// Only in gated feed-forward layers.
    pub(super) ffn_gate: Option<Linear>,
    pub(super) ffn_down: Linear,
    pub(super) layer_output_norm: Norm,
}

/// A product `[tokens, cols] -> [tokens, rows]` with its bias.
#[derive(Debug)]
pub(super) struct Linear {
    tensor: Tensor,
    pub(super) rows: usize,
    pub(super) cols: usize,
    bias: Option<Vec<f32>>,
}

/// A matrix of which single rows are looked up.
#[derive(Debug)]
pub(super) struct Table {
    tensor: Tensor,
    cols: usize,
}

/// Scale and shift of a layer norm, `[hidden]` each.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

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
        let hidden = hyper.hidden;
        let token_types = find.table("token_types.weight", hyper.token_types, hidden)?;
        let mut token_type = vec![0.0; hidden];
        token_types.row(kernels, 0, &mut token_type)?;
        // No `with_capacity`: the count comes from the file, and a file that lies about it ends at
        // the first block that is missing.
        let mut blocks = Vec::new();
        let token_embd = find.table("token_embd.weight", vocabulary, hidden)?;
        let position_embd = match hyper.architecture.positions {
            Positions::Learned => {
                Some(find.table("position_embd.weight", hyper.context_tokens, hidden)?)
            }
            Positions::Rope { .. } => None,
        };
        let token_embd_norm = find.norm("token_embd_norm")?;
        for block in 0..hyper.blocks {
            blocks.push(find.block(block)?);
        }
        Ok(Self { token_embd, token_type, position_embd, token_embd_norm, blocks })
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
        let Hyperparameters { hidden, inner, .. } = *self.hyper;
        let name = |part: &str| format!("blk.{block}.{part}");
        let qkv = if self.file.tensor(&name("attn_qkv.weight")).is_some() {
            vec![self.linear(&name("attn_qkv"), 3 * hidden, hidden)?]
        } else {
            ["attn_q", "attn_k", "attn_v"]
                .map(|part| self.linear(&name(part), hidden, hidden))
                .into_iter()
                .collect::<Result<_, _>>()?
        };
        let ffn_gate = match self.hyper.architecture.feed_forward {
            FeedForward::Gelu => None,
            FeedForward::SwiGlu => Some(self.linear(&name("ffn_gate"), inner, hidden)?),
        };
        Ok(Block {
            qkv,
            attn_output: self.linear(&name("attn_output"), hidden, hidden)?,
            attn_output_norm: self.norm(&name("attn_output_norm"))?,
            ffn_up: self.linear(&name("ffn_up"), inner, hidden)?,
            ffn_gate,
            ffn_down: self.linear(&name("ffn_down"), hidden, inner)?,
            layer_output_norm: self.norm(&name("layer_output_norm"))?,
        })
    }

    /// `NAME.weight` of `[rows, cols]`, with `NAME.bias` if there is one.
    fn linear(&self, name: &str, rows: usize, cols: usize) -> Result<Linear, ModelError> {
        let tensor = self.shaped(&format!("{name}.weight"), &[cols, rows])?;
        let bias_name = format!("{name}.bias");
        let bias = match self.file.tensor(&bias_name) {
            Some(_) => Some(self.vector(&bias_name, rows)?),
            None => None,
        };
        Ok(Linear { tensor, rows, cols, bias })
    }

    fn table(&self, name: &str, rows: usize, cols: usize) -> Result<Table, ModelError> {
        Ok(Table { tensor: self.shaped(name, &[cols, rows])?, cols })
    }

    fn norm(&self, name: &str) -> Result<Norm, ModelError> {
        Ok(Norm {
            weight: self.vector(&format!("{name}.weight"), self.hyper.hidden)?,
            bias: self.vector(&format!("{name}.bias"), self.hyper.hidden)?,
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

impl Block {
    /// Its products, with the kind of each; those that take the same rows at once are together.
    pub(super) fn products(&self) -> Vec<(&'static str, Vec<Matrix<'_>>)> {
        let mut products = vec![
            ("qkv", self.qkv.iter().map(Linear::matrix).collect()),
            ("attn_output", vec![self.attn_output.matrix()]),
            ("ffn_up", vec![self.ffn_up.matrix()]),
        ];
        products.extend(self.ffn_gate.iter().map(|gate| ("ffn_gate", vec![gate.matrix()])));
        products.push(("ffn_down", vec![self.ffn_down.matrix()]));
        products
    }
}

impl Norm {
    /// Scale and shift.
    pub(super) fn parts(&self) -> (&[f32], &[f32]) {
        (&self.weight, &self.bias)
    }
}

impl Linear {
    pub(super) fn matrix(&self) -> Matrix<'_> {
        Matrix::new(self.tensor.dtype(), self.rows, self.cols, self.tensor.bytes())
    }

    pub(super) fn product(&self) -> Product<'_> {
        Product { weights: self.matrix(), bias: self.bias.as_deref() }
    }

    pub(super) fn name(&self) -> &str {
        self.tensor.name()
    }
}

impl Table {
    /// Unpacks row `row` into `out`, `[cols]`.
    ///
    /// # Errors
    ///
    /// A weight of the row that is not finite.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub(super) fn row(
        &self,
        kernels: Kernels,
        row: usize,
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        let bytes = self.tensor.dtype().row_bytes(self.cols).unwrap_or(0);
        read_row(kernels, &self.tensor, row, &self.tensor.bytes()[row * bytes..][..bytes], out)
    }
}

/// Unpacks the bytes of one row and names the tensor if a weight of it is not finite.
fn read_row(
    kernels: Kernels,
    tensor: &Tensor,
    row: usize,
    bytes: &[u8],
    out: &mut [f32],
) -> Result<(), ModelError> {
    kernels.dequantize_row(tensor.dtype(), bytes, out).map_err(|error| ModelError::NotFinite {
        tensor: tensor.name().into(),
        row,
        element: error.element,
    })
}
