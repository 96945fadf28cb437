//! The forward pass of an encoder with layer norm after each residual sum (BERT and its kin), over
//! some texts in one set of buffers.
//!
//! ```text
//! x = norm(token + type [+ position])
//! per layer:  x = norm(x + output(attention(qkv(x))))
//!             x = norm(x + down(activation(up(x))))
//! ```
//!
//! Everything but attention treats tokens one by one, so it goes tile by tile; attention goes text
//! by text. Nothing depends on which texts share a pass.

use std::ops::Range;

use super::error::ModelError;
use super::hyper::Hyperparameters;
use super::pooling::pool;
use super::scratch::{Scratch, TILE_TOKENS};
use super::weights::{Block, Linear, Weights};
use crate::kernels::{
    Activations, Epilogue, Forms, Kernels, NonFiniteWeight, Output, Product, QuantizedRows,
    Workspace,
};

/// Some texts on their way through the model.
pub(super) struct Pass<'a> {
    pub(super) hyper: &'a Hyperparameters,
    pub(super) weights: &'a Weights,
    pub(super) kernels: Kernels,
    pub(super) workspace: &'a mut Workspace,
    pub(super) scratch: &'a mut Scratch,
    /// The texts' ids, one text after the other.
    pub(super) ids: &'a [u32],
    /// Where each text lies in `ids`.
    pub(super) texts: &'a [Range<usize>],
}

impl Pass<'_> {
    /// Runs the model: one pooled row a text in the scratch's `rows`, `[texts, hidden]`, NaN for a
    /// text whose activations left the range of f32.
    ///
    /// # Errors
    ///
    /// A weight that is not finite.
    pub(super) fn run(&mut self) -> Result<(), ModelError> {
        let longest = self.texts.iter().map(Range::len).max().unwrap_or(0);
        self.scratch.reserve(self.hyper, (self.texts.len(), self.ids.len()), longest);
        self.embed_tokens()?;
        for block in &self.weights.blocks {
            self.project(block)?;
            self.attend();
            self.combine(block)?;
        }
        self.pool_texts();
        Ok(())
    }

    /// `states = norm(token + type [+ position])`
    fn embed_tokens(&mut self) -> Result<(), ModelError> {
        let Self { hyper, weights, kernels, workspace, scratch, ids, texts } = self;
        let hidden = hyper.hidden;
        for range in *texts {
            for (position, token) in range.clone().enumerate() {
                let id = ids[token] as usize;
                let state = &mut scratch.states[token * hidden..][..hidden];
                weights.token_embd.row(*kernels, id, state)?;
                add(state, &weights.token_type);
                if let Some(positions) = &weights.position_embd {
                    let delta = &mut scratch.delta[..hidden];
                    positions.row(*kernels, position, delta)?;
                    add(state, delta);
                }
            }
        }
        let states = &mut scratch.states[..ids.len() * hidden];
        let norm = &weights.token_embd_norm;
        kernels.layer_norm(workspace, states, None, norm.parts(), hyper.norm_epsilon);
        Ok(())
    }

    /// `qkv = states · Wqkv + b`, tile by tile.
    fn project(&mut self, block: &Block) -> Result<(), ModelError> {
        let Self { hyper, kernels, workspace, scratch, ids, .. } = self;
        let hidden = hyper.hidden;
        for tile in tiles(ids.len()) {
            let states = &scratch.states[tile.start * hidden..tile.end * hidden];
            let (quantized, broken) = (&mut scratch.quantized, &mut scratch.broken[tile.clone()]);
            let linears: Vec<&Linear> = block.qkv.iter().collect();
            let x = quantize(*kernels, workspace, states, &linears, quantized, broken);
            let qkv = &mut scratch.qkv[tile.start * 3 * hidden..tile.end * 3 * hidden];
            multiply(*kernels, workspace, &linears, &x, store(qkv, 3 * hidden))?;
        }
        Ok(())
    }

    /// `attended = softmax(q · k^T / sqrt(head_dim)) · v`, text by text, after rotating q and k.
    fn attend(&mut self) {
        let Self { hyper, kernels, workspace, scratch, texts, .. } = self;
        let Hyperparameters { hidden, heads, head_dim, .. } = **hyper;
        for range in *texts {
            let qkv = &mut scratch.qkv[range.start * 3 * hidden..range.end * 3 * hidden];
            if let Some(rope) = hyper.rope {
                let angles = range.len() * rope.dims / 2;
                let table = (&scratch.rope.cos[..angles], &scratch.rope.sin[..angles]);
                kernels.rope(workspace, qkv, (hidden, head_dim), table);
            }
            let attended = &mut scratch.attended[range.start * hidden..range.end * hidden];
            kernels.attention(workspace, qkv, heads, head_dim, attended);
        }
    }

    /// `states = norm(states + output(attended))`, then
    /// `states = norm(states + down(activation(up(states))))`, tile by tile.
    fn combine(&mut self, block: &Block) -> Result<(), ModelError> {
        let Self { hyper, kernels, workspace, scratch, ids, .. } = self;
        let (kernels, hidden, inner) = (*kernels, hyper.hidden, hyper.inner);
        let Block {
            attn_output,
            attn_output_norm,
            ffn_up,
            ffn_gate,
            ffn_down,
            layer_output_norm,
            ..
        } = block;
        for tile in tiles(ids.len()) {
            let count = tile.len();
            let broken = &mut scratch.broken[tile.clone()];
            let quantized = &mut scratch.quantized;
            let states = &mut scratch.states[tile.start * hidden..tile.end * hidden];
            let delta = &mut scratch.delta[..count * hidden];

            let attended = &scratch.attended[tile.start * hidden..tile.end * hidden];
            let x = quantize(kernels, workspace, attended, &[attn_output], quantized, broken);
            multiply(kernels, workspace, &[attn_output], &x, store(delta, hidden))?;
            let norm = attn_output_norm.parts();
            kernels.layer_norm(workspace, states, Some(delta), norm, hyper.norm_epsilon);

            let linears: Vec<&Linear> = [ffn_up].into_iter().chain(ffn_gate).collect();
            let x = quantize(kernels, workspace, states, &linears, quantized, broken);
            let forms = Forms::of([ffn_down.matrix().shape().0]);
            if forms.is_none() {
                // Weights that are not quantized take floats.
                scratch.inner.grow(count * inner);
                let out = &mut scratch.inner[..count * inner];
                let activation = if ffn_gate.is_some() { Epilogue::Store } else { Epilogue::Gelu };
                let output = Output { out, stride: inner, epilogue: activation };
                multiply(kernels, workspace, &[ffn_up], &x, output)?;
                if let Some(ffn_gate) = ffn_gate {
                    let out = &mut scratch.inner[..count * inner];
                    let output = Output { out, stride: inner, epilogue: Epilogue::SiluGate };
                    multiply(kernels, workspace, &[ffn_gate], &x, output)?;
                }
                let up = &scratch.inner[..count * inner];
                let x = quantize(kernels, workspace, up, &[ffn_down], quantized, broken);
                multiply(kernels, workspace, &[ffn_down], &x, store(delta, hidden))?;
            } else {
                let products: Vec<Product<'_>> = linears.iter().map(|l| l.product()).collect();
                let out = (forms, &mut scratch.quantized_inner);
                kernels
                    .feed_forward(workspace, &products[0], products.get(1), &x, out)
                    .map_err(|(index, error)| not_finite(linears[index], error))?;
                let quantized = &scratch.quantized_inner;
                quantized.mark_broken(broken);
                let x = Activations { tokens: count, rows: &[], quantized };
                multiply(kernels, workspace, &[ffn_down], &x, store(delta, hidden))?;
            }
            let norm = layer_output_norm.parts();
            kernels.layer_norm(workspace, states, Some(delta), norm, hyper.norm_epsilon);
        }
        Ok(())
    }

    fn pool_texts(&mut self) {
        let Self { hyper, scratch, texts, .. } = self;
        let hidden = hyper.hidden;
        let rows = scratch.rows.chunks_exact_mut(hidden);
        for (range, row) in texts.iter().zip(rows) {
            // Quantizing shows a broken activation as zeros to the next product, so the states after
            // it look sound; the mark is what counts.
            if range.is_empty() || scratch.broken[range.clone()].contains(&true) {
                row.fill(f32::NAN);
            } else {
                let states = &scratch.states[range.start * hidden..range.end * hidden];
                pool(hyper.pooling, states, row);
            }
        }
    }
}

fn add(sum: &mut [f32], delta: &[f32]) {
    for (sum, delta) in sum.iter_mut().zip(delta) {
        *sum += delta;
    }
}

/// `0..tokens` in tiles.
fn tiles(tokens: usize) -> impl Iterator<Item = Range<usize>> {
    (0..tokens).step_by(TILE_TOKENS).map(move |start| start..tokens.min(start + TILE_TOKENS))
}

/// A product's output as it is.
fn store(out: &mut [f32], stride: usize) -> Output<'_> {
    Output { out, stride, epilogue: Epilogue::Store }
}

/// `rows` in the forms that `linears` want; marks those that are not finite.
fn quantize<'a>(
    kernels: Kernels,
    workspace: &mut Workspace,
    rows: &'a [f32],
    linears: &[&Linear],
    quantized: &'a mut QuantizedRows,
    broken: &mut [bool],
) -> Activations<'a> {
    let forms = Forms::of(linears.iter().map(|linear| linear.matrix().shape().0));
    kernels.quantize(workspace, rows, linears[0].cols, forms, quantized);
    quantized.mark_broken(broken);
    Activations { tokens: rows.len() / linears[0].cols, rows, quantized }
}

/// The products with `linears`, side by side.
fn multiply(
    kernels: Kernels,
    workspace: &mut Workspace,
    linears: &[&Linear],
    activations: &Activations<'_>,
    output: Output<'_>,
) -> Result<(), ModelError> {
    let products: Vec<Product<'_>> = linears.iter().map(|linear| linear.product()).collect();
    kernels
        .matmul(workspace, &products, activations, output)
        .map_err(|(index, error)| not_finite(linears[index], error))
}

fn not_finite(linear: &Linear, error: NonFiniteWeight) -> ModelError {
    ModelError::NotFinite { tensor: linear.name().into(), row: error.row, element: error.element }
}
