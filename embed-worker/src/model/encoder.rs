//! The forward pass of an encoder with layer norm after each residual sum (BERT and its kin).
//!
//! ```text
//! x = norm(token + type [+ position])
//! per layer:  x = norm(x + output(attention(qkv(x))))
//!             x = norm(x + down(activation(up(x))))
//! ```
//!
//! Everything but attention treats tokens one by one, so it goes tile by tile; attention goes text
//! by text. Nothing depends on which texts share a batch.

use std::ops::Range;

use super::error::ModelError;
use super::hyper::Hyperparameters;
use super::pooling::pool;
use super::scratch::{Scratch, TILE_TOKENS};
use super::token_batch::TokenBatch;
use super::weights::{Block, Linear, Weights};
use crate::gguf::GgufFile;
use crate::kernels::{Activations, Kernels, QuantizedRows, Workspace};

/// A model ready to run, with its buffers.
#[derive(Debug)]
pub struct Encoder {
    hyper: Hyperparameters,
    weights: Weights,
    kernels: Kernels,
    workspace: Workspace,
    scratch: Scratch,
}

impl Encoder {
    /// Finds and checks the tensors of `file`.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or wrong, by its name.
    pub fn new(
        file: &GgufFile,
        hyper: Hyperparameters,
        vocabulary: usize,
        kernels: Kernels,
        workspace: Workspace,
    ) -> Result<Self, ModelError> {
        let weights = Weights::find(file, &hyper, vocabulary)?;
        Ok(Self { hyper, weights, kernels, workspace, scratch: Scratch::default() })
    }

    /// The model's sizes.
    pub fn hyper(&self) -> &Hyperparameters {
        &self.hyper
    }

    /// The kernels that it computes with.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Runs the model over `batch`: one pooled row a text, `[texts, hidden]`, not normalised.
    ///
    /// The row of a text whose activations left the range of f32 is NaN; other texts are not
    /// touched by that.
    ///
    /// # Errors
    ///
    /// A weight that is not finite.
    pub fn forward(&mut self, batch: &TokenBatch) -> Result<&[f32], ModelError> {
        self.scratch.reserve(&self.hyper, batch);
        self.embed_tokens(batch)?;
        for block in 0..self.weights.blocks.len() {
            self.project(block, batch.tokens())?;
            self.attend(batch);
            self.combine(block, batch.tokens())?;
        }
        self.pool_texts(batch);
        Ok(&self.scratch.rows)
    }

    /// `states = norm(token + type [+ position])`
    fn embed_tokens(&mut self, batch: &TokenBatch) -> Result<(), ModelError> {
        let Self { hyper, weights, kernels, scratch, .. } = self;
        let hidden = hyper.hidden;
        for range in batch.ranges() {
            for (position, token) in range.enumerate() {
                let id = batch.ids()[token] as usize;
                let state = &mut scratch.states[token * hidden..][..hidden];
                weights.token_embd.row(id, state)?;
                add(state, &weights.token_type);
                if let Some(positions) = &weights.position_embd {
                    let delta = &mut scratch.delta[..hidden];
                    positions.row(position, delta)?;
                    add(state, delta);
                }
            }
        }
        let states = &mut scratch.states[..batch.tokens() * hidden];
        let norm = &weights.token_embd_norm;
        kernels.layer_norm(states, None, &norm.weight, &norm.bias, hyper.norm_epsilon);
        Ok(())
    }

    /// `qkv = states · Wqkv + b`, tile by tile.
    fn project(&mut self, block: usize, tokens: usize) -> Result<(), ModelError> {
        let Self { hyper, weights, kernels, workspace, scratch } = self;
        let hidden = hyper.hidden;
        for tile in tiles(tokens) {
            let states = &scratch.states[tile.start * hidden..tile.end * hidden];
            quantize(
                *kernels,
                states,
                hidden,
                &mut scratch.quantized,
                &mut scratch.broken[tile.clone()],
            );
            let activations = Activations { rows: states, quantized: &scratch.quantized };
            let qkv = &mut scratch.qkv[tile.start * 3 * hidden..tile.end * 3 * hidden];
            let mut column = 0;
            for linear in &weights.blocks[block].qkv {
                multiply(
                    *kernels,
                    workspace,
                    linear,
                    &activations,
                    &mut qkv[column..],
                    3 * hidden,
                )?;
                column += linear.rows;
            }
        }
        Ok(())
    }

    /// `attended = softmax(q · k^T / sqrt(head_dim)) · v`, text by text, after rotating q and k.
    fn attend(&mut self, batch: &TokenBatch) {
        let Self { hyper, kernels, workspace, scratch, .. } = self;
        let Hyperparameters { hidden, heads, head_dim, .. } = *hyper;
        for range in batch.ranges() {
            let qkv = &mut scratch.qkv[range.start * 3 * hidden..range.end * 3 * hidden];
            if let Some(rope) = hyper.rope {
                let pairs = rope.dims / 2;
                for (position, token) in qkv.chunks_exact_mut(3 * hidden).enumerate() {
                    let cos = &scratch.rope.cos[position * pairs..][..pairs];
                    let sin = &scratch.rope.sin[position * pairs..][..pairs];
                    // Queries and keys stand side by side, head after head.
                    kernels.rope(&mut token[..2 * hidden], head_dim, cos, sin);
                }
            }
            let attended = &mut scratch.attended[range.start * hidden..range.end * hidden];
            kernels.attention(workspace, qkv, heads, head_dim, attended);
        }
    }

    /// `states = norm(states + output(attended))`, then
    /// `states = norm(states + down(activation(up(states))))`, tile by tile.
    fn combine(&mut self, block: usize, tokens: usize) -> Result<(), ModelError> {
        let Self { hyper, weights, kernels, workspace, scratch } = self;
        let (kernels, hidden, inner) = (*kernels, hyper.hidden, hyper.inner);
        let Block {
            attn_output,
            attn_output_norm,
            ffn_up,
            ffn_gate,
            ffn_down,
            layer_output_norm,
            ..
        } = &weights.blocks[block];
        for tile in tiles(tokens) {
            let count = tile.len();
            let broken = &mut scratch.broken[tile.clone()];
            let quantized = &mut scratch.quantized;
            let states = &mut scratch.states[tile.start * hidden..tile.end * hidden];
            let delta = &mut scratch.delta[..count * hidden];

            let attended = &scratch.attended[tile.start * hidden..tile.end * hidden];
            quantize(kernels, attended, hidden, quantized, broken);
            let activations = Activations { rows: attended, quantized };
            multiply(kernels, workspace, attn_output, &activations, delta, hidden)?;
            let norm = attn_output_norm;
            kernels.layer_norm(states, Some(delta), &norm.weight, &norm.bias, hyper.norm_epsilon);

            quantize(kernels, states, hidden, quantized, broken);
            let activations = Activations { rows: states, quantized };
            let up = &mut scratch.inner[..count * inner];
            multiply(kernels, workspace, ffn_up, &activations, up, inner)?;
            if let Some(ffn_gate) = ffn_gate {
                let gate = &mut scratch.gate[..count * inner];
                multiply(kernels, workspace, ffn_gate, &activations, gate, inner)?;
                kernels.silu_mul(up, gate);
            } else {
                kernels.gelu(up);
            }
            quantize(kernels, up, inner, quantized, broken);
            let activations = Activations { rows: up, quantized };
            multiply(kernels, workspace, ffn_down, &activations, delta, hidden)?;
            let norm = layer_output_norm;
            kernels.layer_norm(states, Some(delta), &norm.weight, &norm.bias, hyper.norm_epsilon);
        }
        Ok(())
    }

    fn pool_texts(&mut self, batch: &TokenBatch) {
        let Self { hyper, scratch, .. } = self;
        let hidden = hyper.hidden;
        let rows = scratch.rows.chunks_exact_mut(hidden);
        for (range, row) in batch.ranges().zip(rows) {
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

fn quantize(
    kernels: Kernels,
    rows: &[f32],
    cols: usize,
    quantized: &mut QuantizedRows,
    broken: &mut [bool],
) {
    kernels.quantize(rows, cols, quantized);
    for (broken, row) in broken.iter_mut().zip(quantized.broken()) {
        *broken |= row;
    }
}

fn multiply(
    kernels: Kernels,
    workspace: &mut Workspace,
    linear: &Linear,
    activations: &Activations<'_>,
    out: &mut [f32],
    stride: usize,
) -> Result<(), ModelError> {
    kernels.matmul(workspace, &linear.matrix(), activations, linear.bias(), out, stride).map_err(
        |error| ModelError::NotFinite {
            tensor: linear.name().into(),
            row: error.row,
            element: error.element,
        },
    )
}
