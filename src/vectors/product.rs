//! The matrix product behind conv, local and fc layers: a library's, single-threaded.
//!
//! Callers cut their work into tasks of a fixed size for rayon; inside a task the product runs on
//! one thread, so that the order of every sum depends on the shapes alone and not on the number of
//! threads.

use super::shared::Shared;
use crate::machine::tasks;
use gemm::{Parallelism, gemm};

/// A matrix of f32 inside a slice: `rows × columns`, element (r, c) at `r·row_stride +
/// c·column_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// Element (0, 0) first.
    pub data: &'a [f32],
    /// Values from one row to the next.
    pub row_stride: usize,
    /// Values from one column to the next.
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row by row; rows `stride` values apart.
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Matrix { data, row_stride: stride, column_stride: 1 }
    }
    /// The transpose.
    pub fn transposed(self) -> Self {
        Matrix { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }
    fn reaches(&self, rows: usize, columns: usize) -> bool {
        rows == 0
            || columns == 0
            || (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.data.len()
    }
}

/// `out` [m, n], rows `stride` apart, ← `a` [m, k] · `b` [k, n], added to what is there if `add`.
pub fn product(
    out: &mut [f32],
    stride: usize,
    (m, k, n): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    add: bool,
) {
    assert!(m == 0 || n == 0 || (n <= stride && (m - 1) * stride + n <= out.len()));
    // SAFETY: the assertion keeps every element inside `out`, which is borrowed mutably.
    unsafe { product_at(out.as_mut_ptr(), stride, (m, k, n), a, b, add) }
}

/// Columns of one task of [`product_by_columns`].
const COLUMNS: usize = 128;

/// Rows of a task at least, where threads are many: more where each task packs the columns anew.
/// fc8's gradient to the input took 2.5 times as long with 8 on one thread of a Zen 5.
const FEWEST_ROWS: usize = 8;
const FEWEST_ROWS_PACKED: usize = 32;

/// Up to so many rows and columns the library adds up in steps of another length, whose bits are
/// others: `gemm-common`'s `gemm.rs`. Larger products of one depth have the same bits, and more
/// than one row or column does too.
const SMALL: usize = 64;

/// Whether a product with so many columns, or rows, may be cut along the other side without a
/// change of bits, into pieces of several rows.
pub fn divides(n: usize) -> bool {
    n > SMALL
}

/// As [`product`], the columns of `out` shared among rayon's threads in tasks of a fixed width, and
/// where threads are many its rows too.
pub fn product_by_columns(
    out: &mut [f32],
    stride: usize,
    (m, k, n): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    use rayon::prelude::*;
    assert!(m == 0 || n == 0 || (n <= stride && (m - 1) * stride + n <= out.len()));
    let out = &Shared::new(out);
    let count = n.div_ceil(COLUMNS);
    let fewest = if b.column_stride == 1 { FEWEST_ROWS } else { FEWEST_ROWS_PACKED };
    let pieces = tasks::pieces(count).min(m / fewest).max(1);
    (0..count * pieces).into_par_iter().for_each(|task| {
        let first = task / pieces * COLUMNS;
        let columns = COLUMNS.min(n - first);
        let rows = match (divides(columns), task % pieces) {
            (true, piece) => piece * m / pieces..(piece + 1) * m / pieces,
            (false, 0) => 0..m,
            (false, _) => 0..0,
        };
        if rows.is_empty() {
            return;
        }
        tasks::begin("columns");
        let a = Matrix { data: &a.data[rows.start * a.row_stride..], ..a };
        let b = Matrix { data: &b.data[first * b.column_stride..], ..b };
        // SAFETY: these columns of these rows lie inside `out` by the assertion above, and are this
        // task's alone.
        unsafe {
            let out = out.part().after(rows.start * stride + first).at();
            product_at(out, stride, (rows.len(), k, columns), a, b, false)
        }
    });
}

/// # Safety
/// Rows `stride` apart of `n` values each must be writable at `out`, and nobody else's.
unsafe fn product_at(
    out: *mut f32,
    stride: usize,
    (m, k, n): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    add: bool,
) {
    assert!(a.reaches(m, k) && b.reaches(k, n));
    // SAFETY: `a` and `b` reach by the assertion, `out` by the caller's word.
    unsafe {
        gemm(
            m,
            n,
            k,
            out,
            1,
            stride as isize,
            add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Adds up the rows of `partial` [parts, out.len()] into `out`, in order.
pub fn sum_parts(out: &mut [f32], partial: &[f32]) {
    use rayon::prelude::*;
    let n = out.len();
    const BLOCK: usize = 4096;
    out.par_chunks_mut(BLOCK).enumerate().for_each(|(i, out)| {
        let first = i * BLOCK;
        out.copy_from_slice(&partial[first..first + out.len()]);
        for part in partial[n..].chunks_exact(n) {
            for (o, p) in out.iter_mut().zip(&part[first..]) {
                *o += p;
            }
        }
    });
}

/// Parts that a batch is cut into at most.
pub const MOST_PARTS: usize = 16;

/// Into how many parts a batch is cut for sums over images: fixed, so that the sums are the same
/// for any number of threads. Returns the images of a part and the number of parts.
pub fn parts(batch: usize) -> (usize, usize) {
    let images = batch.div_ceil(MOST_PARTS).max(1);
    (images, batch.div_ceil(images))
}
