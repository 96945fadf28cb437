//! Weights: handles on the blocks where the file is mapped.
//!
//! Nothing is copied but a few rows of plain numbers: `find.rs` knows what they are called.

use super::error::ModelError;
use super::hyper::Hyperparameters;
use crate::gguf::{Slice, Tensor};
use crate::kernels::{self, Kernels, Matrix, NonFiniteWeight, Product};

/// All weights of a model.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) token_embd: Table,
    /// Row 0 of the token types, `[hidden]`, if there are any; the sentence "A" of BERT's pairs,
    /// which every text is.
    pub(super) token_type: Option<Vec<f32>>,
    /// `[context_tokens, hidden]`, if positions are learned.
    pub(super) position_embd: Option<Table>,
    pub(super) token_embd_norm: Option<Norm>,
    pub(super) blocks: Vec<Block>,
    /// After the last layer.
    pub(super) output_norm: Option<Norm>,
    /// Two products with the pooled vector, if there are any.
    pub(super) dense_heads: Option<[Linear; 2]>,
}

/// The weights of one layer.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) attention_norms: BlockNorms,
    pub(super) queries: Linear,
    /// Keys, then values: one product of both, or one for each.
    pub(super) keys_values: Vec<Linear>,
    /// Of queries, and of keys: of each head, or of all together.
    pub(super) key_norms: Option<[Norm; 2]>,
    pub(super) attn_output: Linear,
    pub(super) ffn_norms: BlockNorms,
    /// One, or as many as there are experts.
    pub(super) ffn: Vec<FeedForward>,
    /// Chooses between them, `[experts, hidden]`.
    pub(super) router: Option<Linear>,
}

/// The norms about attention or a feed-forward layer, as far as there are any.
#[derive(Debug, Default)]
pub(super) struct BlockNorms {
    /// Of what goes in.
    pub(super) input: Option<Norm>,
    /// Of what comes out, before it is added.
    pub(super) output: Option<Norm>,
    /// Of the sum.
    pub(super) sum: Option<Norm>,
    /// Of what that gives and the states, once more added.
    pub(super) second_sum: Option<Norm>,
}

impl BlockNorms {
    /// Those that there are.
    fn all(&self) -> impl Iterator<Item = &Norm> {
        [&self.input, &self.output, &self.sum, &self.second_sum].into_iter().flatten()
    }
}

/// A feed-forward layer: `down(activation(up(x)))`, with the gate `down(activation(gate(x)) * up(x))`.
#[derive(Debug)]
pub(super) struct FeedForward {
    pub(super) up: Linear,
    pub(super) gate: Option<Linear>,
    pub(super) down: Linear,
}

/// A product `[tokens, cols] -> [tokens, rows]` with its bias.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) tensor: Tensor,
    /// The first of the tensor's rows that are meant.
    pub(super) first: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) bias: Option<Vec<f32>>,
}

/// A matrix of which single rows are looked up.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) tensor: Tensor,
    pub(super) cols: usize,
}

/// A norm and its weights.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) centred: bool,
    pub(super) weight: Vec<f32>,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) epsilon: f32,
}

impl Weights {
    /// All matrices that rows of a tile are multiplied with, and whether these rows are the inside of a
    /// feed-forward layer.
    pub(super) fn linears(&self) -> impl Iterator<Item = (bool, &Linear)> {
        let blocks = self.blocks.iter().flat_map(Block::linears);
        let heads = self.dense_heads.iter().flatten().map(|linear| (false, linear));
        blocks.chain(heads)
    }

    /// Where the matrices of each layer lie.
    pub(super) fn layers(&self) -> Vec<Vec<Slice>> {
        let slices = |block: &Block| {
            let slices = block.linears().map(|(_, linear)| linear.tensor.data().clone());
            let mut slices: Vec<Slice> = slices.collect();
            // In the order of the file, and of experts that share a tensor once.
            slices.sort_by_key(Slice::offset);
            slices.dedup_by_key(|slice| slice.offset());
            slices
        };
        self.blocks.iter().map(slices).collect()
    }

    /// Bytes of what was copied from the file.
    pub(super) fn private_bytes(&self) -> usize {
        let biases = self.linears().filter_map(|(_, linear)| linear.bias.as_ref()).map(Vec::len);
        let in_blocks = self.blocks.iter().flat_map(|block| {
            let norms =
                [&block.attention_norms, &block.ffn_norms].into_iter().flat_map(BlockNorms::all);
            norms.chain(block.key_norms.iter().flatten())
        });
        let norms = in_blocks.chain(&self.token_embd_norm).chain(&self.output_norm);
        let norms = norms.map(|norm| norm.weight.len() + norm.bias.as_ref().map_or(0, Vec::len));
        let floats = biases.sum::<usize>() + norms.sum::<usize>();
        let handles = self.linears().count() * size_of::<Linear>();
        floats * size_of::<f32>() + self.blocks.len() * size_of::<Block>() + handles
    }
}

impl Block {
    /// Its matrices, and whether they meet the inside of a feed-forward layer.
    fn linears(&self) -> impl Iterator<Item = (bool, &Linear)> {
        let outer = self.qkv().chain([&self.attn_output]).chain(&self.router);
        let ffn = self.ffn.iter().flat_map(|FeedForward { up, gate, down }| {
            let outer = [up].into_iter().chain(gate).map(|linear| (false, linear));
            outer.chain([(true, down)])
        });
        outer.map(|linear| (false, linear)).chain(ffn)
    }

    /// Queries, keys and values.
    fn qkv(&self) -> impl Iterator<Item = &Linear> {
        std::iter::once(&self.queries).chain(&self.keys_values)
    }

    /// Its products, with the kind of each; those that take the same rows at once are together. Of
    /// experts as many as a token uses.
    pub(super) fn products(&self, hyper: &Hyperparameters) -> Vec<(&'static str, Vec<Matrix<'_>>)> {
        let mut products = vec![
            ("qkv", self.qkv().map(Linear::matrix).collect()),
            ("attn_output", vec![self.attn_output.matrix()]),
        ];
        let used = match hyper.experts {
            Some(experts) if self.router.is_some() => experts.used,
            _ => 1,
        };
        for FeedForward { up, gate, down } in self.ffn.iter().take(used) {
            products.push(("ffn_up", vec![up.matrix()]));
            products.extend(gate.iter().map(|gate| ("ffn_gate", vec![gate.matrix()])));
            products.push(("ffn_down", vec![down.matrix()]));
        }
        products
    }
}

impl Norm {
    /// The norm, as kernels want it.
    pub(super) fn kernel(&self) -> kernels::Norm<'_> {
        let Self { centred, weight, bias, epsilon } = self;
        kernels::Norm { centred: *centred, weight, bias: bias.as_deref(), epsilon: *epsilon }
    }
}

impl Linear {
    /// The part of it that gives `rows` elements from `first` on.
    pub(super) fn some_rows(&self, first: usize, rows: usize) -> Self {
        let bias = self.bias.as_ref().map(|bias| bias[first..first + rows].to_vec());
        Self { tensor: self.tensor.clone(), first: self.first + first, rows, cols: self.cols, bias }
    }

    pub(super) fn matrix(&self) -> Matrix<'_> {
        let row = self.tensor.dtype().row_bytes(self.cols).unwrap_or(0);
        let bytes = &self.tensor.bytes()[self.first * row..(self.first + self.rows) * row];
        Matrix::new(self.tensor.dtype(), self.rows, self.cols, bytes)
    }

    pub(super) fn product(&self) -> Product<'_> {
        Product { weights: self.matrix(), bias: self.bias.as_deref() }
    }

    /// The error that a weight of it is not finite.
    pub(super) fn not_finite(
        &self,
        NonFiniteWeight { row, element }: NonFiniteWeight,
    ) -> ModelError {
        ModelError::NotFinite { tensor: self.tensor.name().into(), row: self.first + row, element }
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
pub(super) fn read_row(
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
