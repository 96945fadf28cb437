//! Attention within one text: `softmax(q · k^T * scale) · v`, every token with those that it sees.
//!
//! A task is one head and some queries. Keys lie by element and values by token, so that both products
//! run over whole registers, and no more scores are kept than a few queries have. For a short text a
//! task lays them out by itself, as far as its queries see; those of a long one are laid out once, as
//! they are made, for all tasks ([`KeyValues`]). Two registers of keys or values go over six queries at once:
//! the load units would else be as busy as the multipliers. Sums run over elements, then over tokens,
//! in their order.

use std::ops::Range;

use super::Kernels;
use super::buffer::Buffer;
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

    /// The queries alone, as the heads of rows that have nothing else.
    pub const fn queries_alone(self) -> Self {
        Self { keys: 0, ..self }
    }

    /// The keys and values alone, as the heads of rows that have nothing else.
    pub const fn keys_alone(self) -> Self {
        Self { queries: 0, ..self }
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

/// Rows of queries of one text.
#[derive(Clone, Copy, Debug)]
pub struct Queries<'a> {
    /// The rows, each beginning with its queries, head after head.
    pub rows: &'a [f32],
    /// Elements from one row to the next.
    pub stride: usize,
    /// Where the first of them stands in its text.
    pub first: usize,
}

/// The keys and values of all tokens of one text.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// Row by row.
    Rows {
        /// The rows; in each stand keys, then values, head after head.
        rows: &'a [f32],
        /// Elements from one row to the next.
        stride: usize,
        /// Elements of a row before its keys.
        before: usize,
    },
    /// As tasks want them.
    Laid(&'a KeyValues),
}

/// The keys and values of a text, laid out tile by tile.
#[derive(Debug, Default)]
pub struct KeyValues {
    /// By head, block of 16 tokens and element; an even number of blocks.
    keys: Buffer<[f32; LANES]>,
    /// By head, block of 16 elements and token.
    values: Buffer<[f32; LANES]>,
    heads: Heads,
    tokens: usize,
    tile: usize,
}

impl KeyValues {
    /// Bytes for a text of `tokens` tokens.
    pub fn bytes(heads: Heads, tokens: usize) -> usize {
        let (keys, values) = laid_out_blocks(heads.width, tokens);
        heads.keys * (keys + values) * size_of::<[f32; LANES]>()
    }

    /// Bytes that are held.
    pub fn held_bytes(&self) -> usize {
        self.keys.bytes() + self.values.bytes()
    }

    /// Makes room for a text of `tokens` tokens that come in tiles of `tile`, the last one maybe of
    /// fewer.
    ///
    /// # Panics
    ///
    /// If `tile` is no multiple of 16.
    pub fn reset(&mut self, heads: Heads, tokens: usize, tile: usize) {
        assert!(tile.is_multiple_of(LANES), "a tile is of whole blocks");
        (self.heads, self.tokens, self.tile) = (heads, tokens, tile);
        let (keys, values) = laid_out_blocks(heads.width, tokens);
        self.keys.grow(heads.keys * keys);
        self.values.grow(heads.keys * values);
    }

    /// Gives all memory back.
    pub fn release(&mut self) {
        *self = Self::default();
    }

    /// Tokens of the text.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Those of head `head`.
    fn laid(&self, head: usize) -> Laid<'_> {
        let (keys, values) = laid_out_blocks(self.heads.width, self.tokens);
        Laid {
            keys: &self.keys[head * keys..][..keys],
            values: &self.values[head * values..][..values],
            start: 0,
            tokens: self.tokens,
        }
    }
}

/// Blocks of 16 floats in which the keys, and the values, of one head are laid out.
fn laid_out_blocks(width: usize, tokens: usize) -> (usize, usize) {
    (tokens.next_multiple_of(PAIR) / LANES * width, width.div_ceil(LANES) * tokens)
}

/// The keys and values of one head, laid out.
struct Laid<'a> {
    /// By block of 16 tokens and element.
    keys: &'a [[f32; LANES]],
    /// By block of 16 elements and token.
    values: &'a [[f32; LANES]],
    /// The first token that is laid out: the first of a pair of blocks.
    start: usize,
    /// How many are.
    tokens: usize,
}

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(super) struct AttentionScratch {
    keys: Buffer<[f32; LANES]>,
    values: Buffer<[f32; LANES]>,
    /// Scores of some queries: `[tokens / 16, QUERIES]`, an even number of blocks.
    scores: Buffer<[[f32; LANES]; QUERIES]>,
}

impl AttentionScratch {
    /// Bytes for texts of up to `own` tokens whose keys and values a task lays out by itself, and of
    /// up to `tokens` in all, heads being `width` wide.
    pub(super) fn bytes(own: usize, tokens: usize, width: usize) -> usize {
        // What is laid out begins with a pair of blocks.
        let (keys, values) = if own == 0 { (0, 0) } else { laid_out_blocks(width, own + PAIR) };
        let scores = tokens.next_multiple_of(PAIR) * QUERIES * size_of::<f32>();
        (keys + values) * size_of::<[f32; LANES]>() + scores
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.keys.bytes() + self.values.bytes() + self.scores.bytes()
    }
}

impl Kernels {
    /// Attention of some tokens of one text of `tokens` tokens.
    ///
    /// # Shapes
    ///
    /// `out` is `[rows of queries, query_width]`. Scores are scaled by `1 / sqrt(width)`.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit together.
    pub fn attention(
        self,
        workspace: &mut Workspace,
        queries: Queries<'_>,
        (seen, tokens): (Seen<'_>, usize),
        attention: &Attention<'_>,
        out: &mut [f32],
    ) {
        let Attention { heads, slopes, .. } = *attention;
        assert!(heads.queries.is_multiple_of(heads.keys), "as many queries to each key");
        assert!(slopes.is_empty() || slopes.len() == heads.queries, "one slope a head");
        let width = heads.query_width();
        let rows = out.len() / width;
        assert!(queries.first + rows <= tokens, "the queries are of this text");
        let laid = matches!(seen, Seen::Laid(laid) if laid.heads == heads && laid.tokens == tokens);
        assert!(laid || matches!(seen, Seen::Rows { .. }), "what is laid out is this text");
        let text = Text { queries, seen, tokens, attention };
        let out = SharedOut::new(out, (rows, width, width), (TASK_QUERIES, heads.width));
        let tasks = heads.queries * rows.div_ceil(TASK_QUERIES);
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

    /// Lays out the keys and values of tile `tile` of a text, of which a row of `rows` has first all
    /// keys, then all values.
    ///
    /// # Panics
    ///
    /// If the text has no such tile, or not of so many rows.
    pub fn lay_out(self, workspace: &mut Workspace, rows: &[f32], tile: usize, to: &mut KeyValues) {
        let Heads { keys: heads, width, .. } = to.heads;
        let (stride, tokens) = (2 * heads * width, to.tokens);
        let count = rows.len() / stride;
        assert!(count == to.tile.min(tokens - tile * to.tile), "the rows are that tile");
        let (keys, values) = laid_out_blocks(width, tokens);
        let blocks = to.tile / LANES * width;
        let keys = SharedOut::new(&mut to.keys, (heads, keys, keys), (1, blocks));
        let (lines, shape) = (width.div_ceil(LANES), heads * values / tokens);
        let values = SharedOut::new(&mut to.values, (shape, tokens, tokens), (lines, to.tile));
        workspace.each(heads, |head| {
            let (Some(mut keys), Some(values)) = (keys.take(head, tile), values.take(head, tile))
            else {
                return;
            };
            let [key, value] = [head * width, (heads + head) * width];
            let rows = |first| Rows { rows, stride, first, count, width };
            dispatch(self.isa, LayKeys { rows: rows(key), to: keys.row_mut(0) });
            dispatch(self.isa, LayValues { rows: rows(value), to: values });
        });
    }
}

/// One text.
struct Text<'a> {
    queries: Queries<'a>,
    seen: Seen<'a>,
    tokens: usize,
    attention: &'a Attention<'a>,
}

impl Text<'_> {
    /// Head `head` of row `row` of the queries, `[width]`.
    #[inline(always)]
    fn query(&self, row: usize, head: usize) -> &[f32] {
        let width = self.attention.heads.width;
        &self.queries.rows[row * self.queries.stride + head * width..][..width]
    }

    /// The head of keys and values that belongs to head `head` of queries.
    #[inline(always)]
    fn shared(&self, head: usize) -> usize {
        let Heads { queries, keys, .. } = self.attention.heads;
        head / (queries / keys)
    }
}

/// One head's part of some rows: of keys, or of values.
#[derive(Clone, Copy)]
struct Rows<'a> {
    rows: &'a [f32],
    stride: usize,
    /// The first element of the first part.
    first: usize,
    count: usize,
    width: usize,
}

impl Rows<'_> {
    #[inline(always)]
    fn part(&self, row: usize) -> &[f32] {
        &self.rows[row * self.stride + self.first..][..self.width]
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
        let place = text.queries.first + first;
        let seen = sight.of(&(place..place + self.out.rows()), text.tokens);
        let AttentionScratch { keys, values, scores } = self.scratch;
        let shared = text.shared(self.head);
        let laid = match text.seen {
            Seen::Laid(laid) => laid.laid(shared),
            Seen::Rows { rows, stride, before } => {
                let Heads { keys: heads, width, .. } = text.attention.heads;
                // From the first of a pair of blocks on, so that it does not matter which queries are
                // in a task.
                let start = seen.start / PAIR * PAIR;
                let count = seen.end - start;
                let of = |head: usize| Rows {
                    rows,
                    stride,
                    first: start * stride + before + head * width,
                    count,
                    width,
                };
                let (n_keys, n_values) = laid_out_blocks(width, count);
                keys.grow(n_keys);
                values.grow(n_values);
                lay_keys(simd, &of(shared), &mut keys[..n_keys]);
                for (block, values) in values[..n_values].chunks_exact_mut(count).enumerate() {
                    lay_values(simd, &of(heads + shared), block, values);
                }
                let (keys, values) = (&keys[..n_keys], &values[..n_values]);
                Laid { keys, values, start, tokens: count }
            }
        };
        scores.grow((seen.end - laid.start).next_multiple_of(PAIR) / LANES);
        let width = text.attention.heads.width;
        let mut query = 0;
        while query < self.out.rows() {
            let count = QUERIES.min(self.out.rows() - query);
            // The last query is repeated where there are fewer than the registers take; what the
            // repetitions give is not written.
            let mut queries = [&[] as &[f32]; QUERIES];
            let mut places = [0; QUERIES];
            for index in 0..QUERIES {
                let row = first + query + index.min(count - 1);
                (queries[index], places[index]) =
                    (text.query(row, self.head), text.queries.first + row);
            }
            // What these queries see begins with a pair of blocks among what is laid out.
            let group = sight.of(&(places[0]..places[QUERIES - 1] + 1), text.tokens);
            let skipped = (group.start - laid.start) / PAIR * PAIR;
            let (start, len) = (laid.start + skipped, group.end - laid.start - skipped);
            let scores = &mut scores[..len.div_ceil(PAIR) * 2];
            score(simd, &queries, &laid.keys[skipped / LANES * width..], scores);
            let scores = &mut scores[..len.div_ceil(LANES)];
            let inverses = softmax(simd, text, self.head, start, &places, scores);
            for (pair, values) in laid.values.chunks(2 * laid.tokens).enumerate() {
                let (first, second) = values.split_at(laid.tokens);
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

/// [`lay_keys`] on any instruction set.
struct LayKeys<'a> {
    rows: Rows<'a>,
    to: &'a mut [[f32; LANES]],
}

impl Op for LayKeys<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        lay_keys(simd, &self.rows, self.to);
    }
}

/// [`lay_values`] of all blocks on any instruction set.
struct LayValues<'a, 'b> {
    rows: Rows<'a>,
    to: Cell<'b, [f32; LANES]>,
}

impl Op for LayValues<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        for block in 0..self.to.rows() {
            lay_values(simd, &self.rows, block, self.to.row_mut(block));
        }
    }
}

/// Lays out keys by block of 16 and element; those beyond the last are zero.
#[inline(always)]
fn lay_keys<S: Simd>(simd: S, rows: &Rows<'_>, to: &mut [[f32; LANES]]) {
    for (block, keys) in to.chunks_exact_mut(rows.width).enumerate() {
        let first = block * LANES;
        for (chunk, columns) in keys.chunks_mut(EIGHT).enumerate() {
            let mut eight = [[0.0; EIGHT]; LANES];
            for row in 0..LANES.min(rows.count.saturating_sub(first)) {
                let key = &rows.part(first + row)[chunk * EIGHT..];
                match key.first_chunk() {
                    Some(key) => eight[row] = *key,
                    None => eight[row][..key.len()].copy_from_slice(key),
                }
            }
            match columns.first_chunk_mut() {
                Some(columns) => simd.interleave_floats(&eight, columns),
                None => {
                    let mut interleaved = [[0.0; LANES]; EIGHT];
                    simd.interleave_floats(&eight, &mut interleaved);
                    columns.copy_from_slice(&interleaved[..columns.len()]);
                }
            }
        }
    }
}

/// Lays out block `block` of 16 elements of the values, token by token.
#[inline(always)]
fn lay_values<S: Simd>(simd: S, rows: &Rows<'_>, block: usize, to: &mut [[f32; LANES]]) {
    for (row, to) in to.iter_mut().enumerate() {
        simd.store(simd.load_at(rows.part(row), block, 0.0), to);
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
    let mut seen = [const { 0..0 }; QUERIES];
    // What is not seen takes no part: it repeats a score, and then counts nothing.
    let mut repeated = [0.0; QUERIES];
    for query in 0..QUERIES {
        let place = places[query];
        if let Some(slope) = slopes.get(head) {
            // Scores are scaled later, and this with them.
            lean(simd, slope * root, place - start, query, scores);
        }
        let of_text = sight.of(&(place..place + 1), text.tokens);
        seen[query] = of_text.start - start..of_text.end - start;
        repeated[query] = scores[seen[query].start / LANES][query][seen[query].start % LANES];
    }
    // All queries side by side, so that none of them waits for a sum of its own.
    let mut largest = [simd.splat(f32::NEG_INFINITY); QUERIES];
    for (block, scores) in scores.iter_mut().enumerate() {
        for query in 0..QUERIES {
            fill_unseen(&mut scores[query], block, &seen[query], repeated[query]);
            largest[query] = simd.max(simd.load(&scores[query]), largest[query]);
        }
    }
    let mut sums = [simd.splat(0.0); QUERIES];
    for query in 0..QUERIES {
        largest[query] = simd.splat(simd.max_lane(largest[query]));
    }
    for (block, scores) in scores.iter_mut().enumerate() {
        for query in 0..QUERIES {
            let distance = simd.sub(simd.load(&scores[query]), largest[query]);
            simd.store(exp(simd, simd.mul(distance, scale)), &mut scores[query]);
        }
        for query in 0..QUERIES {
            fill_unseen(&mut scores[query], block, &seen[query], 0.0);
            sums[query] = simd.add(sums[query], simd.load(&scores[query]));
        }
    }
    sums.map(|sum| 1.0 / simd.sum(sum))
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
