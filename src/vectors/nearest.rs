//! Exact nearest neighbours by Euclidean distance: every row is looked at, once, as it comes from
//! memory.
//!
//! Rows are read block by block on all threads. A block's distances are sums of squared differences
//! in f32, in the machine's vectors; what is nearest by them, and some more, is measured again in
//! f64, and that decides the order. So a neighbour could be missed only where more than [`SPARE`]
//! rows lie within f32's rounding of the last one's distance. The other way to write the distance,
//! |x|² − 2xq + |q|², would be a matrix product, faster for many queries at once, but it loses all
//! digits where a row is near the query.

use super::{Simd, Work, dispatch};
use rayon::prelude::*;
use std::collections::BinaryHeap;

/// A row and how far it is from a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Index of the row.
    pub row: usize,
    /// Euclidean, from f64 sums.
    pub distance: f64,
}

/// Rows that are measured again beyond those that are wanted.
pub const SPARE: usize = 16;
/// Bytes of a block, which stays in a core's cache while each query looks at it.
const BLOCK: usize = 256 << 10;

/// A row by its f32 distance; the farthest is the greatest, of equal ones the later.
#[derive(Clone, Copy, PartialEq)]
struct Candidate {
    distance: f32,
    row: usize,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The `count` nearest of `rows` [rows, values] to each of `queries` [queries, values], the nearest
/// first, of equal ones the earlier row. The result does not depend on threads.
///
/// # Panics
/// If `values` is 0 or the lengths are no multiples of it.
pub fn nearest(rows: &[f32], queries: &[f32], values: usize, count: usize) -> Vec<Vec<Neighbour>> {
    assert!(values > 0 && rows.len().is_multiple_of(values), "whole rows");
    assert!(queries.len().is_multiple_of(values), "whole queries");
    let each = (BLOCK / (4 * values)).max(1);
    let most = count + SPARE;
    let empty = || vec![BinaryHeap::new(); queries.len() / values];
    let blocks = rows.par_chunks(each * values).enumerate();
    let looked = blocks.fold(
        || (empty(), Vec::new()),
        |(mut found, mut distances), (block, rows)| {
            look(rows, block * each, queries, values, most, (&mut found, &mut distances));
            (found, distances)
        },
    );
    let found = looked.map(|(found, _)| found).reduce(empty, |mut a, b| {
        for (a, b) in a.iter_mut().zip(b) {
            b.into_iter().for_each(|candidate| keep(a, candidate, most));
        }
        a
    });
    let measured = found.into_iter().zip(queries.chunks_exact(values));
    measured.map(|(found, query)| measure(found, rows, query, count)).collect()
}

/// Adds a candidate if it is among the `most` nearest so far.
fn keep(heap: &mut BinaryHeap<Candidate>, candidate: Candidate, most: usize) {
    if heap.len() < most {
        heap.push(candidate);
    } else if let Some(mut farthest) = heap.peek_mut()
        && candidate < *farthest
    {
        *farthest = candidate;
    }
}

/// One block, whose first row is row number `first`.
fn look(
    rows: &[f32],
    first: usize,
    queries: &[f32],
    values: usize,
    most: usize,
    (found, distances): (&mut [BinaryHeap<Candidate>], &mut Vec<f32>),
) {
    distances.resize(rows.len() / values, 0.0);
    for (heap, query) in found.iter_mut().zip(queries.chunks_exact(values)) {
        dispatch(Distances { to: distances, rows, query });
        for (row, &distance) in distances.iter().enumerate() {
            keep(heap, Candidate { distance, row: first + row }, most);
        }
    }
}

/// Exact distances of the candidates, and the nearest of them.
fn measure(
    found: BinaryHeap<Candidate>,
    rows: &[f32],
    query: &[f32],
    count: usize,
) -> Vec<Neighbour> {
    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    let distance = |row: usize| {
        let values = &rows[row * query.len()..][..query.len()];
        values.iter().zip(query).map(square).sum::<f64>().sqrt()
    };
    let of = |Candidate { row, .. }| Neighbour { row, distance: distance(row) };
    let mut all: Vec<Neighbour> = found.into_iter().map(of).collect();
    all.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.row.cmp(&b.row)));
    all.truncate(count);
    all
}

/// `to` [rows] ← the squared distances of `rows` [rows, values] to `query` `[values]`.
struct Distances<'a> {
    to: &'a mut [f32],
    rows: &'a [f32],
    query: &'a [f32],
}

impl Work for Distances<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let values = self.query.len();
        for (to, row) in self.to.iter_mut().zip(self.rows.chunks_exact(values)) {
            *to = squared(s, row, self.query);
        }
    }
}

/// Vectors of sums, so that an addition need not wait for the one before it.
const SUMS: usize = 4;

/// Σ (a − b)², both of the same length.
#[inline(always)]
fn squared<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [s.splat(0.0); SUMS];
    let step = SUMS * S::LANES;
    let whole = a.len().min(b.len()) / step * step;
    for start in (0..whole).step_by(step) {
        for (i, sum) in sums.iter_mut().enumerate() {
            let at = start + i * S::LANES;
            // SAFETY: `at` and LANES values behind it lie below `whole`, which both slices have.
            let (x, y) = unsafe { (s.load(a.as_ptr().add(at)), s.load(b.as_ptr().add(at))) };
            let difference = s.sub(x, y);
            *sum = s.fma(difference, difference, *sum);
        }
    }
    let sum = s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3]));
    let mut lanes = [0.0f32; 16];
    super::store_some(s, &mut lanes[..S::LANES], sum);
    let rest = a[whole..].iter().zip(&b[whole..]).map(|(x, y)| (x - y) * (x - y)).sum::<f32>();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::at_each_level;

    fn numbers(seed: u32, count: usize) -> Vec<f32> {
        let number = |i: u32| (i.wrapping_mul(seed | 1) >> 9) as f32 / 4e6 - 1.0;
        (0..count as u32).map(|i| number(i.wrapping_mul(2_654_435_761) ^ seed)).collect()
    }

    /// Sizes that fill vectors and that do not, more neighbours than rows, several queries.
    #[test]
    fn against_sorting_all_distances() {
        for (rows, values, count) in [(300, 100, 5), (1, 3, 4), (50, 1, 7), (2000, 67, 3)] {
            let (all, queries) = (numbers(7, rows * values), numbers(11, 3 * values));
            let wanted: Vec<Vec<usize>> = queries
                .chunks_exact(values)
                .map(|q| {
                    let distance = |row: usize| {
                        let row = &all[row * values..][..values];
                        row.iter()
                            .zip(q)
                            .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                            .sum()
                    };
                    let mut order: Vec<(f64, usize)> =
                        (0..rows).map(|r| (distance(r), r)).collect();
                    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                    order.iter().take(count).map(|(_, row)| *row).collect()
                })
                .collect();
            let found = nearest(&all, &queries, values, count);
            let rows_of = |n: &Vec<Neighbour>| n.iter().map(|n| n.row).collect::<Vec<_>>();
            assert_eq!(found.iter().map(rows_of).collect::<Vec<_>>(), wanted);
            at_each_level(|level| {
                for (row, query) in all.chunks_exact(values).zip(queries.chunks_exact(values)) {
                    let mut to = [0.0];
                    dispatch(Distances { to: &mut to, rows: row, query });
                    let exact: f64 = row
                        .iter()
                        .zip(query)
                        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                        .sum();
                    assert!((f64::from(to[0]) - exact).abs() <= 1e-6 * exact, "{level:?}");
                }
            });
        }
    }

    #[test]
    fn of_equal_distances_the_earlier_row_comes_first() {
        let rows = [1.0, 0.0, -1.0, 0.0, 1.0];
        let found = nearest(&rows, &[0.0], 1, 4);
        assert_eq!(found[0].iter().map(|n| n.row).collect::<Vec<_>>(), [1, 3, 0, 2]);
        assert_eq!(found[0][2].distance, 1.0);
    }
}
