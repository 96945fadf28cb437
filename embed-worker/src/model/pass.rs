//! The forward pass, over some texts in one set of buffers.
//!
//! ```text
//! x = [norm](token [+ type] [+ position])
//! per layer:  x = [norm](x + [norm](output(attention([rotate][norm](qkv([norm](x)))))))
//!             x = [norm](x + [norm](down(activation(up([norm](x))))))
//! vector = [heads](pool([norm](x)))
//! ```
//!
//! What stands in brackets is there or not: `architecture.rs` says where.
//! Everything but attention treats tokens one by one, so it goes tile by tile; attention goes text
//! by text. Nothing depends on which texts share a pass.

use std::ops::Range;

use super::architecture::Input;
use super::error::ModelError;
use super::hyper::Hyperparameters;
use super::pooling::pool;
use super::scratch::{Scratch, TILE_TOKENS};
use super::steps::Steps;
use super::weights::{Block, Linear, Weights};
use crate::kernels::{Attention, Kernels, Workspace};

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
        for (index, block) in self.weights.blocks.iter().enumerate() {
            self.project(block)?;
            self.attend(index, block);
            self.combine(block)?;
        }
        if let Some(norm) = &self.weights.output_norm {
            let elements = self.ids.len() * self.hyper.hidden;
            let (mut steps, scratch) = self.parts();
            steps.norm(norm, &mut scratch.states[..elements]);
        }
        self.pool_texts();
        self.apply_heads()
    }

    /// What computes, and where.
    fn parts(&mut self) -> (Steps<'_>, &mut Scratch) {
        (Steps { kernels: self.kernels, workspace: &mut *self.workspace }, &mut *self.scratch)
    }

    /// `states = [norm](token [+ type] [+ position])`
    fn embed_tokens(&mut self) -> Result<(), ModelError> {
        let Self { hyper, weights, kernels, workspace, scratch, ids, texts } = self;
        let hidden = hyper.hidden;
        for range in *texts {
            for (position, token) in range.clone().enumerate() {
                let id = ids[token] as usize;
                let state = &mut scratch.states[token * hidden..][..hidden];
                weights.token_embd.row(*kernels, id, state)?;
                if let Some(token_type) = &weights.token_type {
                    add(state, token_type);
                }
                if let Some(positions) = &weights.position_embd {
                    let delta = &mut scratch.delta[..hidden];
                    positions.row(*kernels, position, delta)?;
                    add(state, delta);
                }
                if hyper.architecture.input == Input::Scaled {
                    let scale = (hidden as f32).sqrt();
                    state.iter_mut().for_each(|value| *value *= scale);
                }
            }
        }
        if let Some(norm) = &weights.token_embd_norm {
            let states = &mut scratch.states[..ids.len() * hidden];
            Steps { kernels: *kernels, workspace }.norm(norm, states);
        }
        Ok(())
    }

    /// `qkv = [norm](states) · Wqkv + b`, tile by tile.
    fn project(&mut self, block: &Block) -> Result<(), ModelError> {
        let (hidden, width) = (self.hyper.hidden, self.hyper.heads.row_width());
        let linears: Vec<&Linear> = block.qkv.iter().collect();
        let tokens = self.ids.len();
        let (mut steps, scratch) = self.parts();
        for tile in tiles(tokens) {
            let states = &scratch.states[tile.start * hidden..tile.end * hidden];
            let rows = steps.input(&block.attention_norms, states, &mut scratch.normed);
            let qkv = &mut scratch.qkv[tile.start * width..tile.end * width];
            let broken = &mut scratch.broken[tile];
            steps.project(&linears, rows, &mut scratch.quantized, broken, qkv)?;
        }
        Ok(())
    }

    /// `attended = softmax(q · k^T / sqrt(width)) · v`, text by text, after norming and rotating q and
    /// k.
    fn attend(&mut self, index: usize, block: &Block) {
        let Self { hyper, kernels, workspace, scratch, texts, .. } = self;
        let heads = hyper.heads;
        let local = hyper.local(index);
        let (rope, table) = match local {
            Some(local) => (Some(local.rope), &scratch.local_rope),
            None => (hyper.rope, &scratch.rope),
        };
        let attention = Attention { heads, sight: hyper.sight(index), slopes: &hyper.slopes };
        for range in *texts {
            let row = heads.row_width();
            let qkv = &mut scratch.qkv[range.start * row..range.end * row];
            if let Some([queries, keys]) = &block.head_norms {
                kernels.norm_heads(workspace, qkv, heads, [&queries.kernel(), &keys.kernel()]);
            }
            if let Some(rope) = rope {
                let angles = range.len() * rope.dims / 2;
                let table = (&table.cos[..angles], &table.sin[..angles]);
                rope.turn(*kernels, workspace, qkv, heads, table);
            }
            let width = heads.query_width();
            let attended = &mut scratch.attended[range.start * width..range.end * width];
            kernels.attention(workspace, qkv, &attention, attended);
        }
    }

    /// `states = [norm](states + [norm](output(attended)))`, then
    /// `states = [norm](states + [norm](feed_forward([norm](states))))`, tile by tile.
    fn combine(&mut self, block: &Block) -> Result<(), ModelError> {
        let (hyper, tokens) = (self.hyper, self.ids.len());
        let (hidden, width) = (hyper.hidden, hyper.heads.query_width());
        let (mut steps, scratch) = self.parts();
        let Scratch { states, attended, delta, normed, quantized, broken, ffn, .. } = scratch;
        for tile in tiles(tokens) {
            let broken = &mut broken[tile.clone()];
            let states = &mut states[tile.start * hidden..tile.end * hidden];
            let delta = &mut delta[..states.len()];

            let attended = &attended[tile.start * width..tile.end * width];
            steps.project(&[&block.attn_output], attended, quantized, broken, delta)?;
            steps.add(&block.attention_norms, states, delta);

            let rows = steps.input(&block.ffn_norms, states, normed);
            steps.feed_forward(
                (block, hyper),
                rows,
                (&mut *quantized, &mut *ffn),
                broken,
                delta,
            )?;
            steps.add(&block.ffn_norms, states, delta);
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

    /// `rows = second(first(rows))`, if heads stand after pooling.
    fn apply_heads(&mut self) -> Result<(), ModelError> {
        let Some([first, second]) = &self.weights.dense_heads else { return Ok(()) };
        let texts = self.texts.len();
        let (mut steps, scratch) = self.parts();
        let Scratch { rows, quantized, ffn, .. } = scratch;
        let pooled = std::mem::take(rows);
        rows.resize(texts * second.rows, 0.0);
        for tile in tiles(texts) {
            let mut broken = vec![false; tile.len()];
            let pooled = &pooled[tile.start * first.cols..tile.end * first.cols];
            let rows = &mut rows[tile.start * second.rows..tile.end * second.rows];
            ffn.inner.grow(tile.len() * first.rows);
            let inner = &mut ffn.inner[..tile.len() * first.rows];
            steps.project(&[first], pooled, quantized, &mut broken, inner)?;
            steps.project(&[second], inner, quantized, &mut broken, rows)?;
            for (row, broken) in rows.chunks_exact_mut(second.rows).zip(broken) {
                if broken {
                    row.fill(f32::NAN);
                }
            }
        }
        Ok(())
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
