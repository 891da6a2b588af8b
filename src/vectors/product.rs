//! The matrix product behind conv, local and fc layers: a library's, single-threaded.
//!
//! Callers cut their work into tasks of a fixed size for rayon; inside a task the product runs on
//! one thread, so that the order of every sum depends on the shapes alone and not on the number of
//! threads.

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

/// As [`product`], the columns of `out` shared among rayon's threads in tasks of a fixed width.
pub fn product_by_columns(
    out: &mut [f32],
    stride: usize,
    (m, k, n): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    use rayon::prelude::*;
    struct Shared(*mut f32);
    // SAFETY: each task writes columns of its own.
    unsafe impl Sync for Shared {}
    assert!(m == 0 || n == 0 || (n <= stride && (m - 1) * stride + n <= out.len()));
    let out = &Shared(out.as_mut_ptr());
    (0..n.div_ceil(COLUMNS)).into_par_iter().for_each(|task| {
        tasks::begin("columns");
        let first = task * COLUMNS;
        let b = Matrix { data: &b.data[first * b.column_stride..], ..b };
        // SAFETY: columns first.. of each row, inside `out` by the assertion above, and of this
        // task alone.
        unsafe {
            let size = (m, k, COLUMNS.min(n - first));
            product_at({ out }.0.add(first), stride, size, a, b, false)
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
