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
//! Everything but attention treats tokens one by one; attention goes text by text. Nothing depends on
//! which texts share a pass, nor on the tiles in which `layer.rs` takes them through a layer.

use std::ops::Range;

use super::architecture::{Input, Pooling};
use super::error::ModelError;
use super::footprint::{Extent, even_tile};
use super::hyper::Hyperparameters;
use super::layer::{Layer, rows_of};
use super::pooling::pool;
use super::scratch::Scratch;
use super::steps::Steps;
use super::weights::Weights;
use crate::gguf::ReadAhead;
use crate::kernels::{Kernels, Workspace};

/// Some texts on their way through the model.
pub(super) struct Pass<'a> {
    pub(super) hyper: &'a Hyperparameters,
    pub(super) weights: &'a Weights,
    pub(super) ahead: &'a ReadAhead,
    pub(super) kernels: Kernels,
    pub(super) workspace: &'a mut Workspace,
    pub(super) scratch: &'a mut Scratch,
    /// The texts' ids, one text after the other.
    pub(super) ids: &'a [u32],
    /// Where each text lies in `ids`.
    pub(super) texts: &'a [Range<usize>],
    /// Most tokens that go through a layer together.
    pub(super) tile: usize,
}

impl Pass<'_> {
    /// Runs the model: one pooled row a text in the scratch's `rows`, `[texts, dimensions]`, NaN for a
    /// text whose activations left the range of f32, or that has no tokens.
    ///
    /// # Errors
    ///
    /// A weight that is not finite.
    pub(super) fn run(&mut self) -> Result<(), ModelError> {
        let (all, hidden) = (self.texts, self.hyper.hidden);
        self.scratch.reserve(self.hyper, Extent::of(all), self.tile);
        let texts: Vec<Range<usize>> =
            all.iter().filter(|text| !text.is_empty()).cloned().collect();
        self.embed_tokens(&texts)?;
        for index in 0..self.weights.blocks.len() {
            self.ahead.before(index);
            let first_used = self.ahead.to_enter(index);
            self.workspace.each(first_used.len(), |piece| first_used[piece].enter());
            self.layer(index, &texts)?;
        }
        let pooled = self.pooled().is_some();
        if let Some(norm) = &self.weights.output_norm {
            let Scratch { states, rows, .. } = &mut *self.scratch;
            let rows = match pooled {
                true => &mut rows[..texts.len() * hidden],
                false => &mut states[..self.ids.len() * hidden],
            };
            Steps { kernels: self.kernels, workspace: self.workspace }.norm(norm, rows);
        }
        self.finish(&texts, pooled);
        self.apply_heads(texts.len())?;
        self.spread(&texts);
        Ok(())
    }

    /// Which token of a text is its vector, if it is one.
    fn pooled(&self) -> Option<fn(&Range<usize>) -> usize> {
        match self.hyper.pooling {
            Pooling::Mean => None,
            Pooling::Cls => Some(|text| text.start),
            Pooling::Last => Some(|text| text.end - 1),
        }
    }

    /// `states = [norm](token [+ type] [+ position])`
    fn embed_tokens(&mut self, texts: &[Range<usize>]) -> Result<(), ModelError> {
        let Self { hyper, weights, kernels, workspace, scratch, ids, .. } = self;
        let hidden = hyper.hidden;
        for range in texts {
            for (position, token) in range.clone().enumerate() {
                let id = ids[token] as usize;
                let state = &mut scratch.states[token * hidden..][..hidden];
                weights.token_embd.row(*kernels, id, state)?;
                if let Some(token_type) = &weights.token_type {
                    add(state, token_type);
                }
                if let Some(positions) = &weights.position_embd {
                    let learned = &mut scratch.made[..hidden];
                    positions.row(*kernels, position, learned)?;
                    add(state, learned);
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

    /// Takes all texts through layer `index`, in groups that fit a tile.
    fn layer(&mut self, index: usize, texts: &[Range<usize>]) -> Result<(), ModelError> {
        let is_last = index + 1 == self.weights.blocks.len();
        let pooled = self.pooled().filter(|_| is_last);
        let (hidden, tile) = (self.hyper.hidden, self.tile);
        let Scratch {
            states,
            taken,
            made,
            key_values,
            quantized,
            ffn,
            broken,
            rows,
            rope,
            local_rope,
        } = &mut *self.scratch;
        let (states, rows) = (&mut states[..], &mut rows[..]);
        let mut layer = Layer {
            hyper: self.hyper,
            block: &self.weights.blocks[index],
            index,
            kernels: self.kernels,
            workspace: &mut *self.workspace,
            taken,
            made,
            quantized,
            ffn,
            ropes: [rope, local_rope],
        };
        for group in groups(texts, tile) {
            let rows = &mut rows[rows_of(&group, hidden)];
            let texts = &texts[group];
            let all = texts[0].start..texts[texts.len() - 1].end;
            let states = (&mut states[rows_of(&all, hidden)], &mut broken[all.clone()]);
            let tile = even_tile(all.len(), tile);
            let own: Vec<_> =
                texts.iter().map(|text| text.start - all.start..text.end - all.start).collect();
            match (pooled, all.len() > self.tile) {
                (None, false) => layer.short(states, &own)?,
                (None, true) => layer.long(states, tile, key_values)?,
                (Some(pooled), false) => {
                    layer.short_pooled((states.0, states.1), &own, pooled, rows)?;
                }
                (Some(pooled), true) => {
                    let states = (&*states.0, states.1);
                    layer.long_pooled(states, (pooled(&own[0]), rows), tile, key_values)?;
                }
            }
        }
        Ok(())
    }

    /// Pools what is not pooled yet, and marks what left the range of f32.
    fn finish(&mut self, texts: &[Range<usize>], pooled: bool) {
        let Self { hyper, scratch, .. } = self;
        let Scratch { states, rows, broken, .. } = &mut **scratch;
        let hidden = hyper.hidden;
        for (text, row) in texts.iter().zip(rows.chunks_exact_mut(hidden)) {
            // Quantizing shows a broken activation as zeros to the next product, so the states after
            // it look sound; the mark is what counts.
            if broken[text.clone()].contains(&true) {
                row.fill(f32::NAN);
            } else if !pooled {
                pool(hyper.pooling, &states[rows_of(text, hidden)], row);
            }
        }
    }

    /// `rows = second(first(rows))`, if heads stand after pooling.
    fn apply_heads(&mut self, texts: usize) -> Result<(), ModelError> {
        let Some([first, second]) = &self.weights.dense_heads else { return Ok(()) };
        let mut steps = Steps { kernels: self.kernels, workspace: self.workspace };
        let Scratch { rows, quantized, ffn, .. } = &mut *self.scratch;
        let pooled = std::mem::take(rows);
        rows.grow(self.texts.len() * second.rows);
        for start in (0..texts).step_by(self.tile) {
            let tile = start..texts.min(start + self.tile);
            let mut broken = vec![false; tile.len()];
            let pooled = &pooled[rows_of(&tile, first.cols)];
            let rows = &mut rows[rows_of(&tile, second.rows)];
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

    /// Puts each row of `texts` where its text stands among all, those without tokens included.
    fn spread(&mut self, texts: &[Range<usize>]) {
        let (dimensions, mut left) = (self.hyper.dimensions, texts.len());
        if left == self.texts.len() {
            return;
        }
        for (index, text) in self.texts.iter().enumerate().rev() {
            let to = index * dimensions;
            if text.is_empty() {
                self.scratch.rows[to..to + dimensions].fill(f32::NAN);
            } else {
                left -= 1;
                let own = rows_of(&(left..left + 1), dimensions);
                self.scratch.rows.copy_within(own, to);
            }
        }
    }
}

fn add(sum: &mut [f32], delta: &[f32]) {
    for (sum, delta) in sum.iter_mut().zip(delta) {
        *sum += delta;
    }
}

/// Runs of texts that have at most `tile` tokens together, or of one text that has more.
fn groups(texts: &[Range<usize>], tile: usize) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if text.end - texts[group.start].start <= tile => group.end = index + 1,
            _ => groups.push(index..index + 1),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_together_as_far_as_they_fit_and_a_long_one_goes_alone() {
        let texts = [0..3, 3..8, 8..10, 10..40, 40..41];
        assert_eq!(groups(&texts, 8), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(groups(&texts, 10), [0..3, 3..4, 4..5]);
        assert_eq!(groups(&texts, 41), vec![0..5; 1]);
        assert!(groups(&[], 8).is_empty());
    }
}
