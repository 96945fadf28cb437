//! Attention within one text: `softmax(q · k^T * scale) · v`, every token with every other.
//!
//! A task is one head and some queries. It lays the head's keys out by element and its values by
//! token, so that both products run over whole registers, and keeps no more scores than its few
//! queries have. Sums run over elements, then over tokens, in their order.

use super::dispatch::with_features;
use super::elementwise::{exp, sum};
use super::memory::{Cell, SharedOut};
use super::workspace::Workspace;
use super::{Isa, Kernels};

/// Lanes of a block of keys, or of a value's elements.
const LANES: usize = 16;

/// Queries whose sums fit the registers of AVX2 beside the rest.
const QUERIES: usize = 6;

/// Queries of one task: many enough that laying out keys and values is a small part of it.
const TASK_QUERIES: usize = 16 * QUERIES;

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(super) struct AttentionScratch {
    /// Keys by block of 16 tokens and element: `[tokens / 16, head_dim]`.
    keys: Vec<[f32; LANES]>,
    /// Values by block of 16 elements and token: `[head_dim / 16, tokens]`.
    values: Vec<[f32; LANES]>,
    /// Scores of some queries: `[tokens / 16, QUERIES]`.
    scores: Vec<[[f32; LANES]; QUERIES]>,
}

impl Kernels {
    /// Attention of one text, bidirectional.
    ///
    /// # Shapes
    ///
    /// `qkv` is `[tokens, 3 * heads * head_dim]`: queries, keys and values side by side, heads one
    /// after the other in each. `out` is `[tokens, heads * head_dim]`. Scores are scaled by
    /// `1 / sqrt(head_dim)`.
    pub fn attention(
        self,
        workspace: &mut Workspace,
        qkv: &[f32],
        heads: usize,
        head_dim: usize,
        out: &mut [f32],
    ) {
        let hidden = heads * head_dim;
        let tokens = out.len() / hidden;
        let text = Text { qkv, hidden, head_dim, tokens };
        let out = SharedOut::new(out, (tokens, hidden, hidden), (TASK_QUERIES, head_dim));
        let tasks = heads * tokens.div_ceil(TASK_QUERIES);
        let failed: Vec<()> = workspace.run(tasks, |task, scratch| {
            if let Some(mut cell) = out.take(task / heads, task % heads) {
                run(self.isa, &text, task / heads, task % heads, &mut scratch.attention, &mut cell);
            }
            Ok(())
        });
        debug_assert!(failed.is_empty());
    }
}

/// Queries, keys and values of one text.
struct Text<'a> {
    qkv: &'a [f32],
    hidden: usize,
    head_dim: usize,
    tokens: usize,
}

impl Text<'_> {
    /// One head's query (`part` 0), key (1) or value (2) of a token, `[head_dim]`.
    #[inline(always)]
    fn row(&self, token: usize, part: usize, head: usize) -> &[f32] {
        &self.qkv[(3 * token + part) * self.hidden + head * self.head_dim..][..self.head_dim]
    }
}

fn run(
    isa: Isa,
    text: &Text<'_>,
    chunk: usize,
    head: usize,
    scratch: &mut AttentionScratch,
    out: &mut Cell<'_>,
) {
    with_features(isa, || {
        lay_out(text, head, scratch);
        let first = chunk * TASK_QUERIES;
        let mut query = 0;
        while query < out.rows() {
            let count = QUERIES.min(out.rows() - query);
            // The last queries are repeated where there are fewer than the registers take; what
            // they give is not written.
            let rows = std::array::from_fn(|i| text.row(first + query + i.min(count - 1), 0, head));
            attend(text, rows, scratch, |i, element, lanes| {
                if i < count {
                    let row = &mut out.row_mut(query + i)[element..];
                    let width = row.len().min(LANES);
                    row[..width].copy_from_slice(&lanes[..width]);
                }
            });
            query += count;
        }
    });
}

/// Lays out the head's keys and values; what pads the last block is zero.
#[inline(always)]
fn lay_out(text: &Text<'_>, head: usize, scratch: &mut AttentionScratch) {
    let (tokens, head_dim) = (text.tokens, text.head_dim);
    let (token_blocks, element_blocks) = (tokens.div_ceil(LANES), head_dim.div_ceil(LANES));
    scratch.keys.clear();
    scratch.keys.resize(token_blocks * head_dim, [0.0; LANES]);
    scratch.values.clear();
    scratch.values.resize(element_blocks * tokens, [0.0; LANES]);
    scratch.scores.resize(token_blocks, [[0.0; LANES]; QUERIES]);
    for token in 0..tokens {
        let block = &mut scratch.keys[token / LANES * head_dim..][..head_dim];
        for (lanes, key) in block.iter_mut().zip(text.row(token, 1, head)) {
            lanes[token % LANES] = *key;
        }
        let value = text.row(token, 2, head);
        for (block, value) in value.chunks(LANES).enumerate() {
            scratch.values[block * tokens + token][..value.len()].copy_from_slice(value);
        }
    }
}

/// What some queries attend to: `write(query, element, 16 elements from there)`.
#[inline(always)]
fn attend(
    text: &Text<'_>,
    queries: [&[f32]; QUERIES],
    scratch: &mut AttentionScratch,
    mut write: impl FnMut(usize, usize, &[f32; LANES]),
) {
    let (tokens, head_dim) = (text.tokens, text.head_dim);
    let queries = queries.map(|query| &query[..head_dim]);
    let AttentionScratch { keys, values, scores } = scratch;
    for (scores, keys) in scores.iter_mut().zip(keys.chunks_exact(head_dim)) {
        let mut sums = [[0.0_f32; LANES]; QUERIES];
        for (element, keys) in keys.iter().enumerate() {
            for (sums, query) in sums.iter_mut().zip(&queries) {
                let query = query[element];
                for (sum, key) in sums.iter_mut().zip(keys) {
                    *sum = query.mul_add(*key, *sum);
                }
            }
        }
        *scores = sums;
    }
    let inverses = softmax(scores, tokens, 1.0 / (head_dim as f32).sqrt());
    for (block, values) in values.chunks_exact(tokens).enumerate() {
        let mut sums = [[0.0_f32; LANES]; QUERIES];
        for (token, values) in values.iter().enumerate() {
            let scores = &scores[token / LANES];
            for (sums, scores) in sums.iter_mut().zip(scores) {
                let score = scores[token % LANES];
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = score.mul_add(*value, *sum);
                }
            }
        }
        for (query, (sums, inverse)) in sums.iter().zip(inverses).enumerate() {
            write(query, block * LANES, &sums.map(|sum| sum * inverse));
        }
    }
}

/// Replaces scores by `exp(scale * (score - largest))` and gives the inverse of each query's sum.
#[inline(always)]
fn softmax(scores: &mut [[[f32; LANES]; QUERIES]], tokens: usize, scale: f32) -> [f32; QUERIES] {
    // Lanes beyond the last token take no part: they are below every score, and then zero.
    if let Some(last) = scores.last_mut() {
        for lanes in last {
            for (lane, score) in lanes.iter_mut().enumerate() {
                if lane + LANES * ((tokens - 1) / LANES) >= tokens {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
    }
    std::array::from_fn(|query| {
        let mut largest = [f32::NEG_INFINITY; LANES];
        for scores in scores.iter() {
            for (largest, score) in largest.iter_mut().zip(&scores[query]) {
                *largest = if *score > *largest { *score } else { *largest };
            }
        }
        let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let mut sums = [0.0_f32; LANES];
        for scores in scores.iter_mut() {
            for (sum, score) in sums.iter_mut().zip(&mut scores[query]) {
                let padding = *score == f32::NEG_INFINITY;
                let e = exp((*score - largest) * scale);
                *score = if padding { 0.0 } else { e };
                *sum += *score;
            }
        }
        1.0 / sum(&sums, |value, sum| value + sum)
    })
}
