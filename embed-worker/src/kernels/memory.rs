//! Memory that the compiler cannot follow: buffers that threads fill side by side, rows read at once.
#![expect(unsafe_code, reason = "disjoint parts of one buffer, rows of one length")]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use super::panel::ROWS;

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Bytes that are read soon: asked for little by little while something else is computed, since
/// memory takes only some requests at once and more of them hold up who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead<'a> {
    bytes: &'a [u8],
    /// How many of them are asked for at once.
    step: usize,
}

impl<'a> Ahead<'a> {
    /// Those of `bytes`, in so many steps.
    #[inline(always)]
    pub(super) fn new(bytes: &'a [u8], steps: usize) -> Self {
        Self { bytes, step: bytes.len().div_ceil(steps.max(1)).next_multiple_of(LINE) }
    }

    /// What is left after so many steps.
    #[inline(always)]
    pub(super) fn after(self, steps: usize) -> Self {
        Self { bytes: &self.bytes[self.bytes.len().min(steps * self.step)..], ..self }
    }

    /// Step `index`.
    #[inline(always)]
    pub(super) fn ask(self, index: usize) {
        let start = index * self.step;
        for line in (start..self.bytes.len().min(start + self.step)).step_by(LINE) {
            prefetch_line(self.bytes.as_ptr().wrapping_add(line));
        }
    }
}

/// Asks for the cache line at `at`.
#[inline(always)]
fn prefetch_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has SSE; a prefetch never faults, whatever its address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch never faults, whatever its address, and changes nothing that a program sees.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{at}]",
            at = in(reg) at,
            options(readonly, nostack, preserves_flags),
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// The same blocks of 16 rows: one bound for all of them.
#[derive(Debug)]
pub(super) struct BlockRows<'a, B> {
    rows: [*const B; ROWS],
    blocks: usize,
    data: PhantomData<&'a [B]>,
}

impl<'a, B> BlockRows<'a, B> {
    /// As many blocks of each row as the shortest has.
    #[inline(always)]
    pub(super) fn new(rows: &[&'a [B]; ROWS]) -> Self {
        let (mut starts, mut blocks) = ([std::ptr::null(); ROWS], usize::MAX);
        for row in 0..ROWS {
            starts[row] = rows[row].as_ptr();
            blocks = blocks.min(rows[row].len());
        }
        Self { rows: starts, blocks, data: PhantomData }
    }

    /// Block `index` of each row.
    ///
    /// # Panics
    ///
    /// If there is no such block.
    #[inline(always)]
    pub(super) fn get(&self, index: usize) -> [&'a B; ROWS] {
        assert!(index < self.blocks, "block {index} of {}", self.blocks);
        let mut blocks = [self.at(0, index); ROWS];
        for row in 1..ROWS {
            blocks[row] = self.at(row, index);
        }
        blocks
    }

    #[inline(always)]
    fn at(&self, row: usize, index: usize) -> &'a B {
        debug_assert!(index < self.blocks);
        // SAFETY: every row has `blocks` blocks at least, and `get` has checked that it is one of
        // them.
        let block = unsafe { self.rows[row].add(index) };
        // SAFETY: it lies in a slice that is borrowed for `'a`.
        unsafe { &*block }
    }
}

/// A row-major buffer that tasks fill side by side: each takes one rectangle, once.
///
/// Rectangles are cells of a grid over the buffer, so that two of them never share an element.
#[derive(Debug)]
pub(super) struct SharedOut<'a, T> {
    start: *mut T,
    rows: usize,
    cols: usize,
    stride: usize,
    cell_rows: usize,
    cell_cols: usize,
    taken: Vec<Flag>,
    buffer: PhantomData<&'a mut [T]>,
}

/// Whether a cell was taken, on a cache line of its own: threads take different ones at a time.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Flag(AtomicBool);

// SAFETY: a rectangle is handed out once (`taken`), and rectangles are disjoint, so that threads
// which share a `SharedOut` never write the same element.
unsafe impl<T: Send> Sync for SharedOut<'_, T> {}

impl<'a, T> SharedOut<'a, T> {
    /// A grid of cells of `cell_rows` by `cell_cols` over `rows` rows of `cols` columns, which lie
    /// `stride` elements apart in `buffer`.
    ///
    /// # Panics
    ///
    /// If the buffer is too small for that.
    pub(super) fn new(
        buffer: &'a mut [T],
        (rows, cols, stride): (usize, usize, usize),
        (cell_rows, cell_cols): (usize, usize),
    ) -> Self {
        assert!(cols <= stride && cell_rows > 0 && cell_cols > 0);
        assert!(rows == 0 || (rows - 1) * stride + cols <= buffer.len(), "the buffer is too small");
        let cells = rows.div_ceil(cell_rows) * cols.div_ceil(cell_cols);
        let taken = std::iter::repeat_with(Flag::default).take(cells).collect();
        let start = buffer.as_mut_ptr();
        Self { start, rows, cols, stride, cell_rows, cell_cols, taken, buffer: PhantomData }
    }

    /// Takes the cell in row `row` and column `col` of the grid; `None` if it was taken before or
    /// does not exist.
    pub(super) fn take(&self, row: usize, col: usize) -> Option<Cell<'_, T>> {
        let grid_cols = self.cols.div_ceil(self.cell_cols);
        let taken = (col < grid_cols).then(|| self.taken.get(row * grid_cols + col)).flatten()?;
        (!taken.0.swap(true, Ordering::Relaxed)).then(|| Cell {
            out: self,
            row: row * self.cell_rows,
            col: col * self.cell_cols,
        })
    }
}

/// One rectangle of a [`SharedOut`]: its owner is the only one who writes there.
#[derive(Debug)]
pub(super) struct Cell<'a, T> {
    out: &'a SharedOut<'a, T>,
    row: usize,
    col: usize,
}

impl<T> Cell<'_, T> {
    /// Columns of this rectangle; the last one in a row may be narrower than the others.
    pub(super) fn cols(&self) -> usize {
        self.out.cell_cols.min(self.out.cols - self.col)
    }

    /// Rows of this rectangle; the last one in a column may be lower than the others.
    pub(super) fn rows(&self) -> usize {
        self.out.cell_rows.min(self.out.rows - self.row)
    }

    /// Row `row` of this rectangle, `[cols]`.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    #[inline(always)]
    pub(super) fn row_mut(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows(), "row {row} of {}", self.rows());
        let offset = (self.row + row) * self.out.stride + self.col;
        // SAFETY: `new` checked that every row of the grid lies in the buffer, and the assertion
        // that this one is a row of the grid.
        let start = unsafe { self.out.start.add(offset) };
        // SAFETY: `cols` elements from there lie in the buffer for the same reason; they belong to
        // this cell alone, which `&mut self` lends once at a time, for at most the buffer's life.
        unsafe { std::slice::from_raw_parts_mut(start, self.cols()) }
    }

    /// All rows of this rectangle as one slice, `[rows * cols]`.
    ///
    /// # Panics
    ///
    /// If the rectangle does not span its buffer's rows.
    pub(super) fn all_mut(&mut self) -> &mut [T] {
        assert!(self.cols() == self.out.stride, "rows that lie side by side");
        let elements = self.rows() * self.out.stride;
        // SAFETY: `new` checked that every row of the grid lies in the buffer.
        let start = unsafe { self.out.start.add(self.row * self.out.stride) };
        // SAFETY: these rows lie in the buffer, one after the other; they belong to this cell alone,
        // which `&mut self` lends once at a time, for at most the buffer's life.
        unsafe { std::slice::from_raw_parts_mut(start, elements) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_cover_the_grid_once_and_nothing_else() {
        // 5 rows of 7 columns inside rows of 9; cells of 2 by 3.
        let mut buffer = vec![0.0; 5 * 9];
        let out = SharedOut::<f32>::new(&mut buffer, (5, 7, 9), (2, 3));
        for row in 0..3 {
            for col in 0..3 {
                let mut cell = out.take(row, col).expect("not taken yet");
                assert_eq!(cell.rows(), if row == 2 { 1 } else { 2 });
                assert_eq!(cell.cols(), if col == 2 { 1 } else { 3 });
                for row in 0..cell.rows() {
                    cell.row_mut(row).iter_mut().for_each(|value| *value += 1.0);
                }
                assert!(out.take(row, col).is_none(), "a cell is taken once");
            }
        }
        assert!(out.take(3, 0).is_none() && out.take(0, 3).is_none(), "outside the grid");
        drop(out);
        for (index, value) in buffer.iter().enumerate() {
            assert_eq!(*value, if index % 9 < 7 { 1.0 } else { 0.0 }, "element {index}");
        }
    }
}
