//! Products of activations with mapped weights: `out = epilogue(x · W^T + bias)`.
//!
//! A task is two panels of 16 output columns over all rows of activations: it unpacks the panels
//! into its thread's scratch and runs them over the tokens, some at a time.

use std::marker::PhantomData;

use super::block::{Format, with_format};
use super::math::{gelu, silu};
use super::memory::{Cell, LINE, SharedOut, prefetch};
use super::panel::{PANELS, Panel, PanelBlock, ROWS};
use super::plain::{Plain, with_plain};
use super::simd::{Op, Simd, dispatch};
use super::workspace::{Workspace, first_error};
use super::{Activations, DType, Kernels, Matrix, NonFiniteWeight, tile};

/// What happens to a product on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// Nothing: `out = y`.
    Store,
    /// `out = gelu(y)`, in the form with `tanh`.
    Gelu,
    /// `out = silu(y) * out`: the gate of what is there.
    SiluGate,
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

impl Kernels {
    /// Writes `epilogue(x · weights^T + bias)` to `output`.
    ///
    /// # Shapes
    ///
    /// `x` is `[tokens, cols]`, `weights` `[rows, cols]`, `bias` `[rows]`.
    ///
    /// # Errors
    ///
    /// A weight or scale that is not finite; `output` is then of no use.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit together.
    pub fn matmul(
        self,
        workspace: &mut Workspace,
        weights: &Matrix<'_>,
        x: &Activations<'_>,
        bias: Option<&[f32]>,
        output: Output<'_>,
    ) -> Result<(), NonFiniteWeight> {
        let tokens = x.rows.len() / weights.cols;
        assert!(tokens * weights.cols == x.rows.len(), "activations are whole rows");
        assert!(bias.is_none_or(|bias| bias.len() == weights.rows), "one bias for each row");
        if weights.dtype.is_quantized() {
            let quantized = (x.quantized.rows(), x.quantized.cols());
            assert!(quantized == (tokens, weights.cols), "both forms are of the same rows");
        }
        let Output { out, stride, epilogue } = output;
        let out = SharedOut::new(out, (tokens, weights.rows, stride), (tokens.max(1), ROWS));
        let panels = weights.rows.div_ceil(ROWS);
        let threads = workspace.threads();
        first_error(workspace.run(panels.div_ceil(PANELS), |task, scratch| {
            let product = Product { kernels: self, weights, x, bias, epilogue, threads, out: &out };
            let (first, end) = (task * PANELS, panels.min((task + 1) * PANELS));
            with_format!(
                weights.dtype,
                F => product.quantized::<F>(first, end, &mut scratch.panels),
                plain => with_plain!(weights.dtype, P => {
                    (first..end).try_for_each(|panel| {
                        product.plain::<P>(panel, &mut scratch.panels[0])
                    })
                })
            )
        }))
    }
}

/// What all tasks of a product share.
struct Product<'a> {
    kernels: Kernels,
    weights: &'a Matrix<'a>,
    x: &'a Activations<'a>,
    bias: Option<&'a [f32]>,
    epilogue: Epilogue,
    threads: usize,
    out: &'a SharedOut<'a, f32>,
}

impl<'a> Product<'a> {
    /// Panels `first..end` of quantized weights over all tokens.
    fn quantized<F: Format>(
        &self,
        first: usize,
        end: usize,
        scratch: &mut [Panel; PANELS],
    ) -> Result<(), NonFiniteWeight> {
        let mut unpacked = [&[] as &[PanelBlock]; PANELS];
        let mut outs = [const { None }; PANELS];
        let panels = scratch.iter_mut().zip(first..end).zip(unpacked.iter_mut().zip(&mut outs));
        for ((scratch, panel), (blocks, out)) in panels {
            let format = PhantomData::<F>;
            let unpack = Unpack { scratch, weights: self.weights, first: panel * ROWS, format };
            *blocks = dispatch(self.kernels.isa, unpack)?;
            *out = self.out_of(panel);
        }
        let (isa, x) = (self.kernels.isa, self.x.quantized);
        let write = |panel: usize, token: usize, rows: &[[f32; ROWS]]| {
            if let Some(out) = &mut outs[panel] {
                out.prefetch(rows.len(), x.rows());
                dispatch(isa, Finish { out, token, rows });
            }
        };
        if first + 1 == end {
            tile::walk::<F, 1>(isa, [unpacked[0]], x, write);
        } else {
            tile::walk::<F, PANELS>(isa, unpacked, x, write);
        }
        Ok(())
    }

    /// A panel of weights that are not quantized over all tokens.
    fn plain<P: Plain>(&self, panel: usize, scratch: &mut Panel) -> Result<(), NonFiniteWeight> {
        let Some(out) = self.out_of(panel) else { return Ok(()) };
        let (weights, first, x) = (self.weights, panel * ROWS, self.x.rows);
        let plain = PhantomData::<P>;
        dispatch(self.kernels.isa, PlainPanel { weights, first, x, scratch, out, plain })
    }

    /// Where panel `panel` goes.
    fn out_of(&self, panel: usize) -> Option<PanelOut<'a>> {
        let cell = self.out.take(0, panel)?;
        let (rows, first) = (self.weights.rows, panel * ROWS);
        let mut lanes = [0.0; ROWS];
        if let Some(bias) = self.bias {
            let bias = &bias[first..rows.min(first + ROWS)];
            lanes[..bias.len()].copy_from_slice(bias);
        }
        // What this thread will most likely come to next, if all are equally fast.
        let next = self.weights.rows_from(first + self.threads * PANELS * ROWS, ROWS);
        Some(PanelOut { cell, bias: lanes, epilogue: self.epilogue, next })
    }
}

/// [`Panel::unpack`] on any instruction set.
struct Unpack<'a, 'b, F> {
    scratch: &'a mut Panel,
    weights: &'a Matrix<'b>,
    first: usize,
    format: PhantomData<F>,
}

impl<'a, F: Format> Op for Unpack<'a, '_, F> {
    type Output = Result<&'a [PanelBlock], NonFiniteWeight>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        self.scratch.unpack::<S, F>(simd, self.weights, self.first)
    }
}

/// The output columns of one panel.
struct PanelOut<'a> {
    cell: Cell<'a, f32>,
    bias: [f32; ROWS],
    epilogue: Epilogue,
    /// What of the next panel's bytes was not asked for yet.
    next: &'a [u8],
}

impl PanelOut<'_> {
    /// Asks for a share of the next panel, so that its bytes have come when the walk is over: more
    /// at once than a core keeps track of would hold up the walk.
    #[inline(always)]
    fn prefetch(&mut self, tokens: usize, of: usize) {
        let bytes = (self.next.len() * tokens).div_ceil(of).next_multiple_of(LINE);
        let (now, later) = self.next.split_at(bytes.min(self.next.len()));
        prefetch(now);
        self.next = later;
    }

    /// Finishes and writes `rows`, which belong to the tokens from `token` on.
    #[inline(always)]
    fn write<S: Simd>(&mut self, simd: S, token: usize, rows: &[[f32; ROWS]]) {
        let bias = simd.load(&self.bias);
        for (index, row) in rows.iter().enumerate() {
            let out = self.cell.row_mut(token + index);
            let y = simd.add(simd.load(row), bias);
            let y = match self.epilogue {
                Epilogue::Store => y,
                Epilogue::Gelu => gelu(simd, y),
                Epilogue::SiluGate => simd.mul(silu(simd, y), simd.load_at(out, 0, 0.0)),
            };
            simd.store_at(y, out, 0);
        }
    }
}

/// [`PanelOut::write`] on any instruction set.
struct Finish<'a, 'b> {
    out: &'a mut PanelOut<'b>,
    token: usize,
    rows: &'a [[f32; ROWS]],
}

impl Op for Finish<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.out.write(simd, self.token, self.rows);
    }
}

/// Tokens that share a read of a panel that is not quantized: their accumulators fit AVX2.
const PLAIN_TOKENS: usize = 6;

/// One panel of weights that are not quantized over all tokens.
struct PlainPanel<'a, 'b, P> {
    weights: &'a Matrix<'a>,
    first: usize,
    x: &'a [f32],
    scratch: &'a mut Panel,
    out: PanelOut<'b>,
    plain: PhantomData<P>,
}

impl<P: Plain> Op for PlainPanel<'_, '_, P> {
    type Output = Result<(), NonFiniteWeight>;

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) -> Self::Output {
        let cols = self.weights.cols;
        let panel = self.scratch.unpack_plain::<S, P>(simd, self.weights, self.first)?;
        let mut token = 0;
        while let Some(x) = self.x.get(token * cols..(token + PLAIN_TOKENS) * cols) {
            self.out.write(simd, token, &plain_tile::<S, PLAIN_TOKENS>(simd, panel, x));
            token += PLAIN_TOKENS;
        }
        for x in self.x[token * cols..].chunks_exact(cols) {
            self.out.write(simd, token, &plain_tile::<S, 1>(simd, panel, x));
            token += 1;
        }
        Ok(())
    }
}

/// 16 rows of weights by `T` rows of activations, column by column.
#[inline(always)]
fn plain_tile<S: Simd, const T: usize>(
    simd: S,
    panel: &[[f32; ROWS]],
    x: &[f32],
) -> [[f32; ROWS]; T] {
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
    let mut out = [[0.0; ROWS]; T];
    for t in 0..T {
        simd.store(sums[t], &mut out[t]);
    }
    out
}
