//! Products of activations with mapped weights: `out = epilogue(x · W^T + bias)`.
//!
//! A task is two panels of 16 output columns over some rows of activations. It goes slice by slice
//! over the columns: unpacks a slice of the panels into its thread's scratch, where the first-level
//! cache holds it, and adds what it gives with every token to that token's sums.

use std::marker::PhantomData;
use std::ops::Range;

use super::block::{Format, with_format};
use super::math::{gelu, gelu_tanh, silu};
use super::memory::{BlockRows, Cell, SharedOut};
use super::panel::{
    PANELS, PanelSlice, Panels, ROWS, panel_rows, slice_blocks, slices, unpack_slice,
};
use super::plain::{Plain, with_plain};
use super::simd::{Op, Simd, dispatch};
use super::tile::{self, Slice, Sums};
use super::unpack::Unpack;
use super::workspace::{ThreadScratch, Workspace, first_error};
use super::{Activations, DType, Kernels, Matrix, NonFiniteWeight};

/// What happens to a product on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// Nothing: `out = y`.
    Store,
    /// `out = activation(y)`
    Activate(Activation),
    /// `out = activation(y) * out`: the gate of what is there.
    Gate(Activation),
}

/// A function of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x` times the normal distribution's `Φ(x)`.
    Gelu,
    /// The same in the form with `tanh`.
    GeluTanh,
    /// `x` times the logistic function of `x`.
    Silu,
}

/// Where a product goes: `[tokens, rows]`, with `stride` elements from one token to the next.
#[derive(Debug)]
pub struct Output<'a> {
    /// The buffer, from the first element on.
    pub out: &'a mut [f32],
    /// Elements from one token's row to the next.
    pub stride: usize,
    /// What happens on the way.
    pub epilogue: Epilogue,
}

/// A matrix that rows of activations are multiplied with.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// `[rows, cols]`
    pub weights: Matrix<'a>,
    /// `[rows]`
    pub bias: Option<&'a [f32]>,
}

/// Rows of a task.
pub(super) const WIDTH: usize = PANELS * ROWS;

/// Fewest tokens of a task, if there are more tasks than panels: each unpacks its panels anew.
const TASK_TOKENS: usize = 48;

impl Kernels {
    /// Writes `epilogue(x · weights^T + bias)` of each product to `output`, side by side.
    ///
    /// # Shapes
    ///
    /// `x` is `[tokens, cols]`; the products' rows together are the columns of `output`.
    ///
    /// # Errors
    ///
    /// A weight or scale that is not finite, with the index of its product; `output` is then of no
    /// use.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit together.
    pub fn matmul(
        self,
        workspace: &mut Workspace,
        products: &[Product<'_>],
        x: &Activations<'_>,
        output: Output<'_>,
    ) -> Result<(), (usize, NonFiniteWeight)> {
        let Output { out, stride, epilogue } = output;
        let mut rest = out;
        let mut first = 0;
        // Tasks of several products can share a grid if only the last one ends within a cell.
        while first < products.len() {
            let whole = |product: &&Product<'_>| product.weights.rows.is_multiple_of(WIDTH);
            let grid = products[first..].iter().take_while(whole).count();
            let end = products.len().min(first + grid + 1);
            let some = &products[first..end];
            let taken = some.iter().map(|product| product.weights.rows).sum::<usize>();
            let output = Output { out: &mut *rest, stride, epilogue };
            self.matmul_grid(workspace, some, x, output)
                .map_err(|(index, error)| (first + index, error))?;
            first = end;
            let (_, next) = rest.split_at_mut(taken.min(rest.len()));
            rest = next;
        }
        Ok(())
    }

    /// The same, where the rows of all products but the last fill whole tasks.
    fn matmul_grid(
        self,
        workspace: &mut Workspace,
        products: &[Product<'_>],
        x: &Activations<'_>,
        Output { out, stride, epilogue }: Output<'_>,
    ) -> Result<(), (usize, NonFiniteWeight)> {
        let cols = products[0].weights.cols;
        let tokens = x.tokens;
        let (mut pairs, mut columns) = (0, 0);
        let mut firsts = Vec::new();
        for (index, product) in products.iter().enumerate() {
            product.check(x, cols);
            firsts.push((pairs, index));
            pairs += product.weights.rows.div_ceil(WIDTH);
            columns += product.weights.rows;
        }
        let threads = workspace.threads();
        let chunk = task_tokens(threads, pairs, tokens);
        let out = SharedOut::new(out, (tokens, columns, stride), (chunk, WIDTH));
        let errors = workspace.run(pairs * tokens.div_ceil(chunk), |task, scratch| {
            let (pair, chunk_index) = (task % pairs, task / pairs);
            let (first, index) = firsts[firsts.partition_point(|(first, _)| *first <= pair) - 1];
            let Some(out) = out.take(chunk_index, pair) else { return Ok(()) };
            let tokens = chunk_index * chunk..tokens.min((chunk_index + 1) * chunk);
            let Product { weights, bias } = &products[index];
            let row = (pair - first) * WIDTH;
            let task = Task { kernels: self, weights, bias: *bias, x, epilogue, tokens, row };
            let ThreadScratch { panels, sums, .. } = scratch;
            task.run(out, panels, sums).map_err(|error| (index, error))
        });
        first_error(errors)
    }
}

/// Tokens of a task: all of them, or fewer where there are few other things to share out.
pub(super) fn task_tokens(threads: usize, others: usize, tokens: usize) -> usize {
    let wanted = (2 * threads).div_ceil(others.max(1));
    let chunks = if threads > 1 { wanted.min(tokens / TASK_TOKENS).max(1) } else { 1 };
    tokens.div_ceil(chunks).max(1)
}

impl Product<'_> {
    /// # Panics
    ///
    /// If `x` is not of rows that these weights can meet, or the bias not of their rows.
    pub(super) fn check(&self, x: &Activations<'_>, cols: usize) {
        let Self { weights, bias } = self;
        assert!(weights.cols == cols, "all products take the same rows");
        assert!(bias.is_none_or(|bias| bias.len() == weights.rows), "one bias for each row");
        let fit = if weights.dtype.is_quantized() {
            x.quantized.fit(weights.dtype, x.tokens, cols)
        } else {
            x.rows.len() == x.tokens * cols
        };
        assert!(fit, "activations are of the same rows");
    }
}

/// Two panels of a product over some tokens.
pub(super) struct Task<'a> {
    pub(super) kernels: Kernels,
    pub(super) weights: &'a Matrix<'a>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) x: &'a Activations<'a>,
    pub(super) epilogue: Epilogue,
    pub(super) tokens: Range<usize>,
    /// The first panel's first row.
    pub(super) row: usize,
}

impl Task<'_> {
    pub(super) fn run(
        &self,
        out: Cell<'_, f32>,
        panels: &mut Panels,
        sums: &mut Vec<Sums>,
    ) -> Result<(), NonFiniteWeight> {
        sums.resize(self.tokens.len(), Sums::ZERO);
        with_format!(
            self.weights.dtype,
            F => self.quantized::<F>(panels, sums)?,
            plain => with_plain!(self.weights.dtype, P => self.plain::<P>(panels, sums)?)
        );
        let mut bias = [[0.0; ROWS]; PANELS];
        if let Some(of_rows) = self.bias {
            let of_rows = &of_rows[self.row..self.weights.rows.min(self.row + WIDTH)];
            bias.as_flattened_mut()[..of_rows.len()].copy_from_slice(of_rows);
        }
        dispatch(self.kernels.isa, Finish { out, sums, bias, epilogue: self.epilogue });
        Ok(())
    }

    /// The first row of panel `index`; an odd last panel is computed twice rather than in a way of
    /// its own.
    fn panel_row(&self, index: usize) -> usize {
        let row = self.row + index * ROWS;
        if row < self.weights.rows { row } else { self.row }
    }

    /// Panels of quantized weights, slice by slice over all tokens.
    fn quantized<F: Unpack>(
        &self,
        scratch: &mut Panels,
        sums: &mut [Sums],
    ) -> Result<(), NonFiniteWeight> {
        let (isa, weights) = (self.kernels.isa, self.weights);
        sums.fill(Sums::ZERO);
        let panel = |index| panel_rows::<F>(weights, self.panel_row(index));
        let rows = [panel(0), panel(1)];
        let (next, part) = self.next();
        for slice in 0..slices(weights.cols) {
            let blocks = slice_blocks(weights.cols, slice);
            for (index, (out, rows)) in scratch.slices.iter_mut().zip(&rows).enumerate() {
                let unpacking = Unpacking::<F> { out, rows, slice, blocks };
                dispatch(isa, unpacking).map_err(|NonFiniteWeight { row, element }| {
                    NonFiniteWeight { row: self.panel_row(index) + row, element }
                })?;
            }
            let (x, all, panels) = (self.x.quantized, self.tokens.clone(), &*scratch.slices);
            let next = &next[next.len().min(slice * part)..next.len().min((slice + 1) * part)];
            tile::walk::<F>(isa, Slice { panels, blocks }, x, slice, all, sums, next);
        }
        Ok(())
    }

    /// What the next task will read, and how much of it is due with each slice: a thread does its
    /// tasks in their order.
    fn next(&self) -> (&[u8], usize) {
        let Matrix { row_bytes, data, cols, .. } = *self.weights;
        let start = data.len().min((self.row + WIDTH) * row_bytes);
        let next = &data[start..data.len().min(start + WIDTH * row_bytes)];
        (next, next.len().div_ceil(slices(cols)))
    }

    /// Panels of weights that are not quantized over all tokens.
    fn plain<P: Plain>(
        &self,
        scratch: &mut Panels,
        sums: &mut [Sums],
    ) -> Result<(), NonFiniteWeight> {
        let weights = self.weights;
        let x = &self.x.rows[self.tokens.start * weights.cols..self.tokens.end * weights.cols];
        for index in 0..PANELS {
            let (row, plain) = (self.panel_row(index), PhantomData::<P>);
            let (scratch, sums) = (&mut *scratch, &mut *sums);
            dispatch(
                self.kernels.isa,
                PlainPanel { weights, row, x, scratch, sums, index, plain },
            )?;
        }
        Ok(())
    }
}

/// [`unpack_slice`] on any instruction set.
struct Unpacking<'a, F: Format> {
    out: &'a mut PanelSlice,
    rows: &'a BlockRows<'a, F::Block>,
    slice: usize,
    blocks: usize,
}

impl<F: Unpack> Op for Unpacking<'_, F> {
    type Output = Result<(), NonFiniteWeight>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        unpack_slice::<S, F>(simd, self.rows, self.slice, self.blocks, self.out)
    }
}

/// Writes what tokens gave with two panels: `epilogue(sum + bias)`.
struct Finish<'a, 'b> {
    out: Cell<'b, f32>,
    sums: &'a [Sums],
    bias: [[f32; ROWS]; PANELS],
    epilogue: Epilogue,
}

impl Op for Finish<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let bias = [simd.load(&self.bias[0]), simd.load(&self.bias[1])];
        // The loop is written out for each, so that what does not change stays in registers.
        macro_rules! each_token {
            ($y:ident, $old:ident => $value:expr) => {
                for (token, sums) in self.sums.iter().enumerate() {
                    let out = self.out.row_mut(token);
                    if let Some(out) = out.as_chunks_mut::<ROWS>().0.first_chunk_mut::<PANELS>() {
                        for p in 0..PANELS {
                            let $y = simd.add(simd.load(&sums.0[p]), bias[p]);
                            let $old = &out[p];
                            simd.store($value, &mut out[p]);
                        }
                        continue;
                    }
                    for (p, out) in out.chunks_mut(ROWS).enumerate() {
                        let $y = simd.add(simd.load(&sums.0[p]), bias[p]);
                        let mut lanes = [0.0; ROWS];
                        lanes[..out.len()].copy_from_slice(out);
                        let $old = &lanes;
                        simd.store_part($value, out);
                    }
                }
            };
        }
        match self.epilogue {
            Epilogue::Store => each_token!(y, _old => y),
            Epilogue::Activate(Activation::Gelu) => each_token!(y, _old => gelu(simd, y)),
            Epilogue::Activate(Activation::GeluTanh) => each_token!(y, _old => gelu_tanh(simd, y)),
            Epilogue::Activate(Activation::Silu) => each_token!(y, _old => silu(simd, y)),
            Epilogue::Gate(Activation::Gelu) => {
                each_token!(y, old => simd.mul(gelu(simd, y), simd.load(old)));
            }
            Epilogue::Gate(Activation::GeluTanh) => {
                each_token!(y, old => simd.mul(gelu_tanh(simd, y), simd.load(old)));
            }
            Epilogue::Gate(Activation::Silu) => {
                each_token!(y, old => simd.mul(silu(simd, y), simd.load(old)));
            }
        }
    }
}

/// Tokens that share a read of a panel that is not quantized: their accumulators fit AVX2.
const PLAIN_TOKENS: usize = 6;

/// One panel of weights that are not quantized over all tokens.
struct PlainPanel<'a, P> {
    weights: &'a Matrix<'a>,
    row: usize,
    x: &'a [f32],
    scratch: &'a mut Panels,
    sums: &'a mut [Sums],
    index: usize,
    plain: PhantomData<P>,
}

impl<P: Plain> Op for PlainPanel<'_, P> {
    type Output = Result<(), NonFiniteWeight>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let cols = self.weights.cols;
        let panel = self.scratch.unpack_plain::<S, P>(simd, self.weights, self.row)?;
        let mut token = 0;
        while let Some(x) = self.x.get(token * cols..(token + PLAIN_TOKENS) * cols) {
            for row in plain_tile::<S, PLAIN_TOKENS>(simd, panel, x) {
                simd.store(row, &mut self.sums[token].0[self.index]);
                token += 1;
            }
        }
        for x in self.x[token * cols..].chunks_exact(cols) {
            for row in plain_tile::<S, 1>(simd, panel, x) {
                simd.store(row, &mut self.sums[token].0[self.index]);
                token += 1;
            }
        }
        Ok(())
    }
}

/// 16 rows of weights by `T` rows of activations, column by column.
#[inline(always)]
fn plain_tile<S: Simd, const T: usize>(simd: S, panel: &[[f32; ROWS]], x: &[f32]) -> [S::F32; T] {
    let mut rows = [&[] as &[f32]; T];
    for (row, x) in rows.iter_mut().zip(x.chunks_exact(panel.len())) {
        *row = x;
    }
    let mut sums = [simd.splat(0.0); T];
    for (column, weights) in panel.iter().enumerate() {
        let weights = simd.load(weights);
        for t in 0..T {
            sums[t] = simd.fma(weights, simd.splat(rows[t][column]), sums[t]);
        }
    }
    sums
}
