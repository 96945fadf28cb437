//! One layer, over some texts.
//!
//! Texts that fit a tile together go through it side by side. A longer text goes tile by tile: first
//! all of its keys and values are made and laid out, then each tile's queries meet them. So nothing is
//! whole but the states and one layer's keys and values, and no bit depends on the tiles.
//!
//! Of the last layer only what pooling takes is made, if that is one token: the keys and values of all,
//! and one row of everything else.

use std::ops::Range;

use super::error::ModelError;
use super::feed_forward::FeedForwardScratch;
use super::hyper::Hyperparameters;
use super::scratch::RopeTable;
use super::steps::Steps;
use super::weights::{Block, Linear};
use crate::kernels::{
    Attention, Heads, Kernels, KeyValues, QuantizedRows, Queries, Seen, Workspace,
};

/// A layer, and the buffers of one tile.
pub(super) struct Layer<'a> {
    pub(super) hyper: &'a Hyperparameters,
    pub(super) block: &'a Block,
    /// Which one it is.
    pub(super) index: usize,
    pub(super) kernels: Kernels,
    pub(super) workspace: &'a mut Workspace,
    /// What goes into a product: normed states, then what attention gives.
    pub(super) taken: &'a mut [f32],
    /// What comes out of one: queries, keys and values, then what is added to the states.
    pub(super) made: &'a mut [f32],
    pub(super) quantized: &'a mut QuantizedRows,
    pub(super) ffn: &'a mut FeedForwardScratch,
    /// Rotations: usual ones, and those of layers that see only what is near.
    pub(super) ropes: [&'a RopeTable; 2],
}

/// Which of a layer's first products are meant.
#[derive(Clone, Copy)]
enum Part {
    Queries,
    KeysAndValues,
    All,
}

impl Layer<'_> {
    /// Replaces the states of texts that fit a tile together. `texts` is where each lies in `states`,
    /// `[tokens, hidden]`; `broken`, `[tokens]`, is set where a state stops being finite.
    pub(super) fn short(
        &mut self,
        (states, broken): (&mut [f32], &mut [bool]),
        texts: &[Range<usize>],
    ) -> Result<(), ModelError> {
        let heads = self.hyper.heads;
        let (row, width) = (heads.row_width(), heads.query_width());
        self.project((states, broken), Part::All, 0)?;
        for text in texts {
            self.turn(heads, 0, rows_of(text, row));
            let rows = &self.made[rows_of(text, row)];
            let queries = Queries { rows, stride: row, first: 0 };
            let seen = Seen::Rows { rows, stride: row, before: width };
            let out = &mut self.taken[rows_of(text, width)];
            let attention = attention(self.hyper, self.index);
            self.kernels.attention(self.workspace, queries, (seen, text.len()), &attention, out);
        }
        self.combine((states, broken))
    }

    /// The same of the last layer: makes `rows`, `[texts, hidden]`, of the tokens that `pooled` names,
    /// one of each text, and leaves the states as they are.
    pub(super) fn short_pooled(
        &mut self,
        (states, broken): (&[f32], &mut [bool]),
        texts: &[Range<usize>],
        pooled: impl Fn(&Range<usize>) -> usize,
        rows: &mut [f32],
    ) -> Result<(), ModelError> {
        let Hyperparameters { hidden, heads, .. } = *self.hyper;
        let (alone, width) = (heads.keys_alone(), heads.query_width());
        let row = alone.row_width();
        self.project((states, broken), Part::KeysAndValues, 0)?;
        for (text, to) in texts.iter().zip(rows.chunks_exact_mut(hidden)) {
            self.turn(alone, 0, rows_of(text, row));
            to.copy_from_slice(&states[pooled(text) * hidden..][..hidden]);
        }
        let mut marks = vec![false; texts.len()];
        let keys = broken.len() * row;
        self.project((rows, &mut marks), Part::Queries, keys)?;
        for (index, text) in texts.iter().enumerate() {
            let first = pooled(text) - text.start;
            let own = keys + index * width..keys + (index + 1) * width;
            self.turn(heads.queries_alone(), first, own.clone());
            let queries = Queries { rows: &self.made[own], stride: width, first };
            let seen = Seen::Rows { rows: &self.made[rows_of(text, row)], stride: row, before: 0 };
            let out = &mut self.taken[index * width..][..width];
            let attention = attention(self.hyper, self.index);
            self.kernels.attention(self.workspace, queries, (seen, text.len()), &attention, out);
        }
        self.combine((rows, &mut marks))?;
        for (text, mark) in texts.iter().zip(marks) {
            broken[pooled(text)] |= mark;
        }
        Ok(())
    }

    /// Replaces the states of one text, tile by tile.
    pub(super) fn long(
        &mut self,
        (states, broken): (&mut [f32], &mut [bool]),
        tile: usize,
        key_values: &mut KeyValues,
    ) -> Result<(), ModelError> {
        self.lay_out((states, broken), tile, key_values)?;
        let states = states.chunks_mut(tile * self.hyper.hidden);
        for (index, (states, broken)) in states.zip(broken.chunks_mut(tile)).enumerate() {
            self.meet((states, broken), index * tile, key_values)?;
        }
        Ok(())
    }

    /// The same of the last layer: makes the row `row` of the token `pooled`, and leaves the states as
    /// they are.
    pub(super) fn long_pooled(
        &mut self,
        (states, broken): (&[f32], &mut [bool]),
        (pooled, row): (usize, &mut [f32]),
        tile: usize,
        key_values: &mut KeyValues,
    ) -> Result<(), ModelError> {
        self.lay_out((states, broken), tile, key_values)?;
        row.copy_from_slice(&states[rows_of(&(pooled..pooled + 1), row.len())]);
        self.meet((row, &mut broken[pooled..=pooled]), pooled, key_values)
    }

    /// Lays out the keys and values of a text.
    fn lay_out(
        &mut self,
        (states, broken): (&[f32], &mut [bool]),
        tile: usize,
        key_values: &mut KeyValues,
    ) -> Result<(), ModelError> {
        let heads = self.hyper.heads;
        key_values.reset(heads, broken.len(), tile);
        let states = states.chunks(tile * self.hyper.hidden);
        for (index, (states, broken)) in states.zip(broken.chunks_mut(tile)).enumerate() {
            self.project((states, broken), Part::KeysAndValues, 0)?;
            let made = 0..broken.len() * heads.keys_alone().row_width();
            self.turn(heads.keys_alone(), index * tile, made.clone());
            self.kernels.lay_out(self.workspace, &self.made[made], index, key_values);
        }
        Ok(())
    }

    /// Takes some tokens of a text, the first of which stands at `first`, through the layer, the keys
    /// and values of all having been laid out.
    fn meet(
        &mut self,
        (states, broken): (&mut [f32], &mut [bool]),
        first: usize,
        key_values: &KeyValues,
    ) -> Result<(), ModelError> {
        let (heads, stride) = (self.hyper.heads, self.hyper.heads.query_width());
        let made = 0..broken.len() * stride;
        self.project((states, broken), Part::Queries, 0)?;
        self.turn(heads.queries_alone(), first, made.clone());
        let queries = Queries { rows: &self.made[made.clone()], stride, first };
        let seen = (Seen::Laid(key_values), key_values.tokens());
        let attention = attention(self.hyper, self.index);
        self.kernels.attention(self.workspace, queries, seen, &attention, &mut self.taken[made]);
        self.combine((states, broken))
    }

    /// `made = [norm](states) · W + b`, from the element `at` on.
    fn project(
        &mut self,
        (states, broken): (&[f32], &mut [bool]),
        part: Part,
        at: usize,
    ) -> Result<(), ModelError> {
        let Self { block, kernels, workspace, taken, made, quantized, .. } = self;
        let mut steps = Steps { kernels: *kernels, workspace };
        let linears: Vec<&Linear> = match part {
            Part::Queries => vec![&block.queries],
            Part::KeysAndValues => block.keys_values.iter().collect(),
            Part::All => std::iter::once(&block.queries).chain(&block.keys_values).collect(),
        };
        let width: usize = linears.iter().map(|linear| linear.rows).sum();
        let made = &mut made[at..at + broken.len() * width];
        let rows = steps.input(&block.attention_norms, states, taken);
        steps.project(&linears, rows, quantized, broken, made)
    }

    /// Norms and rotates the queries and keys of the rows `rows` of what was made; the first of them stands at
    /// `first` in its text.
    fn turn(&mut self, heads: Heads, first: usize, rows: Range<usize>) {
        let tokens = rows.len() / heads.row_width();
        let rows = &mut self.made[rows];
        if let Some([queries, keys]) = &self.block.key_norms {
            let norms = [&queries.kernel(), &keys.kernel()];
            self.kernels.norm_keys(self.workspace, rows, heads, norms);
        }
        let (rope, table) = match self.hyper.local(self.index) {
            Some(local) => (Some(local.rope), self.ropes[1]),
            None => (self.hyper.rope, self.ropes[0]),
        };
        if let Some(rope) = rope {
            let angles = rows_of(&(first..first + tokens), rope.dims / 2);
            let table = (&table.cos[angles.clone()], &table.sin[angles]);
            rope.turn(self.kernels, self.workspace, rows, heads, table);
        }
    }

    /// `states = [norm](states + [norm](output(taken)))`, then
    /// `states = [norm](states + [norm](feed_forward([norm](states))))`.
    fn combine(&mut self, (states, broken): (&mut [f32], &mut [bool])) -> Result<(), ModelError> {
        let Self { hyper, block, kernels, workspace, taken, made, quantized, ffn, .. } = self;
        let mut steps = Steps { kernels: *kernels, workspace };
        let delta = &mut made[..states.len()];
        let attended = &taken[..broken.len() * hyper.heads.query_width()];
        steps.project(&[&block.attn_output], attended, quantized, broken, delta)?;
        steps.add(&block.attention_norms, states, delta);
        let rows = steps.input(&block.ffn_norms, states, taken);
        let scratch = (&mut **quantized, &mut **ffn);
        steps.feed_forward((block, hyper), rows, scratch, broken, delta)?;
        steps.add(&block.ffn_norms, states, delta);
        Ok(())
    }
}

/// Attention in layer `index`.
fn attention(hyper: &Hyperparameters, index: usize) -> Attention<'_> {
    Attention { heads: hyper.heads, sight: hyper.sight(index), slopes: &hyper.slopes }
}

/// The elements of some rows of `width`.
pub(super) fn rows_of(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}
