//! Attention within one text: `softmax(q · k^T * scale) · v`, every token with those that it sees.
//!
//! A task is one head and some queries. It lays out the head's keys by element and its values by
//! token, as far as its queries see, so that both products run over whole registers, and keeps no
//! more scores than its few queries have. Two registers of keys or values go over six queries at once:
//! the load units would else be as busy as the multipliers. Sums run over elements, then over tokens,
//! in their order.

use std::ops::Range;

use super::Kernels;
use super::math::exp;
use super::memory::{Cell, SharedOut};
use super::simd::{LANES, Op, Simd, dispatch};
use super::workspace::Workspace;

/// Queries that go over the keys and values together: twice as many sums fit AVX-512's registers.
const QUERIES: usize = 6;

/// Queries of one task: many enough that laying out keys and values is a small part of it.
const TASK_QUERIES: usize = 16 * QUERIES;

/// Elements that are turned from rows to columns at once.
const EIGHT: usize = 8;

/// Tokens whose keys go over the queries at once.
const PAIR: usize = 2 * LANES;

/// The heads of a layer, and how they lie in a row: queries, keys, values, head after head in each.
///
/// Where there are fewer keys than queries, neighbouring queries share them (grouped-query attention,
/// Ainslie et al. 2023, arXiv 2305.13245).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Heads of queries.
    pub queries: usize,
    /// Heads of keys, and of values; divides `queries`.
    pub keys: usize,
    /// Elements of a head.
    pub width: usize,
}

impl Heads {
    /// Elements of all queries of a token.
    pub const fn query_width(self) -> usize {
        self.queries * self.width
    }

    /// Elements of all keys, or of all values, of a token.
    pub const fn key_width(self) -> usize {
        self.keys * self.width
    }

    /// Elements of a token's row.
    pub const fn row_width(self) -> usize {
        self.query_width() + 2 * self.key_width()
    }
}

/// Which tokens of its text a token sees; itself it always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// All.
    All,
    /// Those before it.
    Back,
    /// Those that stand at most so many places before or after it.
    Near(usize),
}

impl Sight {
    /// The tokens of `tokens` that any of `queries` sees.
    fn of(self, queries: &Range<usize>, tokens: usize) -> Range<usize> {
        match self {
            Self::All => 0..tokens,
            Self::Back => 0..queries.end,
            Self::Near(reach) => {
                queries.start.saturating_sub(reach)..tokens.min(queries.end.saturating_add(reach))
            }
        }
    }
}

/// What attention does in a layer.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Its heads.
    pub heads: Heads,
    /// Who sees whom.
    pub sight: Sight,
    /// What each place of distance takes from a score, for each head of queries; none if empty
    /// (ALiBi, Press et al. 2021, arXiv 2108.12409).
    pub slopes: &'a [f32],
}

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(super) struct AttentionScratch {
    /// Keys by block of 16 tokens and element: `[tokens / 16, head_dim]`, an even number of blocks.
    keys: Vec<[f32; LANES]>,
    /// Values by block of 16 elements and token: `[head_dim / 16, tokens]`.
    values: Vec<[f32; LANES]>,
    /// Scores of some queries: `[tokens / 16, QUERIES]`, an even number of blocks.
    scores: Vec<[[f32; LANES]; QUERIES]>,
}

impl AttentionScratch {
    /// Bytes for a text of `tokens` tokens and heads `head_dim` wide.
    pub(super) fn bytes(tokens: usize, head_dim: usize) -> usize {
        let tokens = tokens.next_multiple_of(PAIR);
        let head_dim = head_dim.next_multiple_of(LANES);
        (2 * tokens * head_dim + tokens * QUERIES) * size_of::<f32>()
    }
}

impl Kernels {
    /// Attention of one text.
    ///
    /// # Shapes
    ///
    /// `qkv` is `[tokens, row_width]` of the heads, `out` is `[tokens, query_width]`. Scores are scaled
    /// by `1 / sqrt(width)`.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit together.
    pub fn attention(
        self,
        workspace: &mut Workspace,
        qkv: &[f32],
        attention: &Attention<'_>,
        out: &mut [f32],
    ) {
        let Attention { heads, slopes, .. } = *attention;
        assert!(heads.queries.is_multiple_of(heads.keys), "as many queries to each key");
        assert!(slopes.is_empty() || slopes.len() == heads.queries, "one slope a head");
        let hidden = heads.query_width();
        let tokens = out.len() / hidden;
        let text = Text { qkv, attention, tokens };
        let out = SharedOut::new(out, (tokens, hidden, hidden), (TASK_QUERIES, heads.width));
        let tasks = heads.queries * tokens.div_ceil(TASK_QUERIES);
        let failed: Vec<()> = workspace.run(tasks, |task, scratch| {
            let (chunk, head) = (task / heads.queries, task % heads.queries);
            if let Some(out) = out.take(chunk, head) {
                let scratch = &mut scratch.attention;
                dispatch(self.isa, Head { text: &text, chunk, head, scratch, out });
            }
            Ok(())
        });
        debug_assert!(failed.is_empty());
    }
}

/// Queries, keys and values of one text.
struct Text<'a> {
    qkv: &'a [f32],
    attention: &'a Attention<'a>,
    tokens: usize,
}

impl Text<'_> {
    /// One head's part of a token's row, `[width]`.
    #[inline(always)]
    fn part(&self, token: usize, first: usize, head: usize) -> &[f32] {
        let heads = self.attention.heads;
        &self.qkv[token * heads.row_width() + first + head * heads.width..][..heads.width]
    }

    #[inline(always)]
    fn query(&self, token: usize, head: usize) -> &[f32] {
        self.part(token, 0, head)
    }

    /// The key that the queries of head `head` meet.
    #[inline(always)]
    fn key(&self, token: usize, head: usize) -> &[f32] {
        self.part(token, self.attention.heads.query_width(), self.shared(head))
    }

    /// The value that the queries of head `head` gather.
    #[inline(always)]
    fn value(&self, token: usize, head: usize) -> &[f32] {
        let heads = self.attention.heads;
        self.part(token, heads.query_width() + heads.key_width(), self.shared(head))
    }

    /// The head of keys and values that belongs to head `head` of queries.
    #[inline(always)]
    fn shared(&self, head: usize) -> usize {
        let Heads { queries, keys, .. } = self.attention.heads;
        head / (queries / keys)
    }
}

/// One task: some queries of one head.
struct Head<'a, 'b> {
    text: &'a Text<'a>,
    chunk: usize,
    head: usize,
    scratch: &'a mut AttentionScratch,
    out: Cell<'b, f32>,
}

impl Op for Head<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let (text, sight) = (self.text, self.text.attention.sight);
        let first = self.chunk * TASK_QUERIES;
        let seen = sight.of(&(first..first + self.out.rows()), text.tokens);
        lay_out(simd, text, self.head, &seen, self.scratch);
        let AttentionScratch { keys, values, scores } = self.scratch;
        let width = text.attention.heads.width;
        let mut query = 0;
        while query < self.out.rows() {
            let count = QUERIES.min(self.out.rows() - query);
            // The last query is repeated where there are fewer than the registers take; what the
            // repetitions give is not written.
            let mut queries = [&[] as &[f32]; QUERIES];
            let mut places = [0; QUERIES];
            for index in 0..QUERIES {
                let token = first + query + index.min(count - 1);
                (queries[index], places[index]) = (text.query(token, self.head), token);
            }
            // What these queries see begins with a pair of blocks among what is laid out.
            let group = sight.of(&(places[0]..places[QUERIES - 1] + 1), text.tokens);
            let skipped = (group.start - seen.start) / PAIR * PAIR;
            let (start, len) = (seen.start + skipped, group.end - seen.start - skipped);
            let scores = &mut scores[..len.div_ceil(PAIR) * 2];
            score(simd, &queries, &keys[skipped / LANES * width..], scores);
            let scores = &mut scores[..len.div_ceil(LANES)];
            let inverses = softmax(simd, text, self.head, start, &places, scores);
            let laid_out = seen.len();
            for (pair, values) in values.chunks(2 * laid_out).enumerate() {
                let (first, second) = values.split_at(laid_out);
                // Where there is one register of elements left, it is weighed twice.
                let both = [first, if second.is_empty() { first } else { second }];
                let both = [&both[0][skipped..][..len], &both[1][skipped..][..len]];
                let sums = weigh(simd, both, scores);
                for index in 0..count {
                    let row = self.out.row_mut(query + index);
                    let inverse = simd.splat(inverses[index]);
                    simd.store_at(simd.mul(sums[0][index], inverse), row, 2 * pair);
                    if !second.is_empty() {
                        simd.store_at(simd.mul(sums[1][index], inverse), row, 2 * pair + 1);
                    }
                }
            }
            query += count;
        }
    }
}

/// Lays out the head's keys and values of the tokens `seen`; keys beyond the last are zero.
#[inline(always)]
fn lay_out<S: Simd>(
    simd: S,
    text: &Text<'_>,
    head: usize,
    seen: &Range<usize>,
    scratch: &mut AttentionScratch,
) {
    let (tokens, head_dim) = (seen.len(), text.attention.heads.width);
    let (token_blocks, element_blocks) = (tokens.div_ceil(LANES), head_dim.div_ceil(LANES));
    let pairs = token_blocks.next_multiple_of(2);
    scratch.keys.resize(pairs * head_dim, [0.0; LANES]);
    scratch.values.resize(element_blocks * tokens, [0.0; LANES]);
    scratch.scores.resize(pairs, [[0.0; LANES]; QUERIES]);
    for (block, keys) in scratch.keys.chunks_exact_mut(head_dim).enumerate() {
        let first = block * LANES;
        for (chunk, columns) in keys.chunks_mut(EIGHT).enumerate() {
            let mut rows = [[0.0; EIGHT]; LANES];
            for row in 0..LANES.min(tokens.saturating_sub(first)) {
                let key = &text.key(seen.start + first + row, head)[chunk * EIGHT..];
                match key.first_chunk() {
                    Some(key) => rows[row] = *key,
                    None => rows[row][..key.len()].copy_from_slice(key),
                }
            }
            match columns.first_chunk_mut() {
                Some(columns) => simd.interleave_floats(&rows, columns),
                None => {
                    let mut eight = [[0.0; LANES]; EIGHT];
                    simd.interleave_floats(&rows, &mut eight);
                    columns.copy_from_slice(&eight[..columns.len()]);
                }
            }
        }
    }
    for token in 0..tokens {
        let value = text.value(seen.start + token, head);
        for block in 0..element_blocks {
            let lanes = simd.load_at(value, block, 0.0);
            simd.store(lanes, &mut scratch.values[block * tokens + token]);
        }
    }
}

/// Products of the queries with every key.
#[inline(always)]
fn score<S: Simd>(
    simd: S,
    queries: &[&[f32]; QUERIES],
    keys: &[[f32; LANES]],
    scores: &mut [[[f32; LANES]; QUERIES]],
) {
    let head_dim = queries[0].len();
    let mut rows = *queries;
    for row in &mut rows {
        *row = &row[..head_dim];
    }
    let pairs = scores.as_chunks_mut::<2>().0.iter_mut().zip(keys.chunks_exact(2 * head_dim));
    for (scores, keys) in pairs {
        let (first, second) = keys.split_at(head_dim);
        let second = &second[..first.len()];
        let mut sums = [[simd.splat(0.0); QUERIES]; 2];
        for element in 0..first.len() {
            let keys = [simd.load(&first[element]), simd.load(&second[element])];
            for query in 0..QUERIES {
                let value = simd.splat(rows[query][element]);
                sums[0][query] = simd.fma(value, keys[0], sums[0][query]);
                sums[1][query] = simd.fma(value, keys[1], sums[1][query]);
            }
        }
        for query in 0..QUERIES {
            simd.store(sums[0][query], &mut scores[0][query]);
            simd.store(sums[1][query], &mut scores[1][query]);
        }
    }
}

/// Replaces scores by `exp(scale * (score - largest))`, where token `places[query]` sees the key, and
/// else by 0, and gives the inverse of each query's sum. The first score is of token `start`.
#[inline(always)]
fn softmax<S: Simd>(
    simd: S,
    text: &Text<'_>,
    head: usize,
    start: usize,
    places: &[usize; QUERIES],
    scores: &mut [[[f32; LANES]; QUERIES]],
) -> [f32; QUERIES] {
    let Attention { heads, sight, slopes } = *text.attention;
    let root = (heads.width as f32).sqrt();
    let scale = simd.splat(1.0 / root);
    let mut inverses = [0.0; QUERIES];
    for query in 0..QUERIES {
        let place = places[query];
        if let Some(slope) = slopes.get(head) {
            // Scores are scaled later, and this with them.
            lean(simd, slope * root, place - start, query, scores);
        }
        let seen = sight.of(&(place..place + 1), text.tokens);
        let seen = seen.start - start..seen.end - start;
        // What is not seen takes no part: it repeats a score, and then counts nothing.
        let repeated = scores[seen.start / LANES][query][seen.start % LANES];
        let mut largest = simd.splat(f32::NEG_INFINITY);
        for block in 0..scores.len() {
            let scores = &mut scores[block][query];
            fill_unseen(scores, block, &seen, repeated);
            largest = simd.max(simd.load(scores), largest);
        }
        let largest = simd.splat(simd.max_lane(largest));
        let mut sums = simd.splat(0.0);
        for block in 0..scores.len() {
            let scores = &mut scores[block][query];
            let e = exp(simd, simd.mul(simd.sub(simd.load(scores), largest), scale));
            simd.store(e, scores);
            fill_unseen(scores, block, &seen, 0.0);
            sums = simd.add(sums, simd.load(scores));
        }
        inverses[query] = 1.0 / simd.sum(sums);
    }
    inverses
}

/// Takes `slope` from a query's scores for each place between it and the key.
#[inline(always)]
fn lean<S: Simd>(
    simd: S,
    slope: f32,
    place: usize,
    query: usize,
    scores: &mut [[[f32; LANES]; QUERIES]],
) {
    let mut lanes = [0.0; LANES];
    for lane in 0..LANES {
        lanes[lane] = lane as f32;
    }
    let (lanes, slope) = (simd.load(&lanes), simd.splat(-slope));
    for block in 0..scores.len() {
        // Whole numbers below 2^24, exact in f32.
        let after = simd.add(lanes, simd.splat((block * LANES) as f32 - place as f32));
        let distance = simd.max(after, simd.sub(simd.splat(0.0), after));
        let leaning = simd.fma(distance, slope, simd.load(&scores[block][query]));
        simd.store(leaning, &mut scores[block][query]);
    }
}

/// Writes `value` to the scores of block `block` whose keys are not among `seen`.
#[inline(always)]
fn fill_unseen(scores: &mut [f32; LANES], block: usize, seen: &Range<usize>, value: f32) {
    let first = block * LANES;
    if first < seen.start || first + LANES > seen.end {
        let start = seen.start.clamp(first, first + LANES) - first;
        let end = seen.end.clamp(first, first + LANES) - first;
        scores[..start].fill(value);
        scores[end..].fill(value);
    }
}

/// Two times 16 elements of what the queries attend to: values weighed by scores.
#[inline(always)]
fn weigh<S: Simd>(
    simd: S,
    values: [&[[f32; LANES]]; 2],
    scores: &[[[f32; LANES]; QUERIES]],
) -> [[S::F32; QUERIES]; 2] {
    let mut sums = [[simd.splat(0.0); QUERIES]; 2];
    let tokens = values[0].len();
    let second = &values[1][..tokens];
    for (block, scores) in scores[..tokens.div_ceil(LANES)].iter().enumerate() {
        let first_token = block * LANES;
        for lane in 0..LANES.min(tokens - first_token) {
            let token = first_token + lane;
            let values = [simd.load(&values[0][token]), simd.load(&second[token])];
            for query in 0..QUERIES {
                let score = simd.splat(scores[query][lane]);
                sums[0][query] = simd.fma(score, values[0], sums[0][query]);
                sums[1][query] = simd.fma(score, values[1], sums[1][query]);
            }
        }
    }
    sums
}
