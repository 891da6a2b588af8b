//! Exact nearest neighbours by Euclidean distance: every row is looked at, once, as it comes from
//! memory.
//!
//! Rows are read block by block on all threads. A block's distances are sums of squared differences
//! in f32, in the machine's vectors; what is nearest by them, and some more, is measured again in
//! f64, and that decides the order. So a neighbour could be missed only where more than [`SPARE`]
//! rows lie within f32's rounding of the last one's distance. The other way to write the distance,
//! |x|² − 2xq + |q|², would be a matrix product, faster for many queries at once, but it loses all
//! digits where a row is near the query.

use super::{Simd, Work, dispatch, store_some};
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

/// `to` `[rows]` ← the squared distances of `rows` [rows, values] to `query` `[values]`.
struct Distances<'a> {
    to: &'a mut [f32],
    rows: &'a [f32],
    query: &'a [f32],
}

/// Rows that are read side by side: the processor fetches several streams ahead at once, and what is
/// loaded of the query serves them all. Of 4,096 values on one core of an AMD EPYC (Zen 3, AVX2) four
/// take 44 ms for 819 MB, one 62, and a plain sum of the numbers 54.
const TOGETHER: usize = 4;
/// Vectors of sums a row, so that an addition need not wait for the one before it.
const SUMS: usize = 2;

impl Work for Distances<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Distances { to, rows, query } = self;
        let values = query.len();
        let mut rest = rows.chunks_exact(TOGETHER * values);
        let mut to_rest = to.chunks_exact_mut(TOGETHER);
        for (to, rows) in to_rest.by_ref().zip(rest.by_ref()) {
            to.copy_from_slice(&squared::<S, TOGETHER>(s, rows, query));
        }
        let rows = rest.remainder().chunks_exact(values);
        for (to, row) in to_rest.into_remainder().iter_mut().zip(rows) {
            [*to] = squared::<S, 1>(s, row, query);
        }
    }
}

/// Σ (row − query)² of each of `R` rows [R, values].
#[inline(always)]
fn squared<S: Simd, const R: usize>(s: S, rows: &[f32], query: &[f32]) -> [f32; R] {
    let values = query.len();
    assert_eq!(rows.len(), R * values);
    let mut sums = [[s.splat(0.0); SUMS]; R];
    let step = SUMS * S::LANES;
    let whole = values / step * step;
    for start in (0..whole).step_by(step) {
        for i in 0..SUMS {
            let at = start + i * S::LANES;
            // SAFETY: `at` and LANES values behind it lie below `whole`, which `query` has.
            let y = unsafe { s.load(query.as_ptr().add(at)) };
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: and so has each of the R rows, of which there are R · values values.
                let x = unsafe { s.load(rows.as_ptr().add(r * values + at)) };
                let difference = s.sub(x, y);
                sums[i] = s.fma(difference, difference, sums[i]);
            }
        }
    }
    std::array::from_fn(|r| {
        let mut lanes = [0.0f32; 16];
        store_some(s, &mut lanes[..S::LANES], s.add(sums[r][0], sums[r][1]));
        let row = &rows[r * values..][..values];
        let rest = row[whole..].iter().zip(&query[whole..]);
        lanes.iter().sum::<f32>() + rest.map(|(x, y)| (x - y) * (x - y)).sum::<f32>()
    })
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
        for (rows, values, count) in [(301, 100, 5), (1, 3, 4), (50, 1, 7), (2000, 67, 3)] {
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
            let exact = |row: usize| -> f64 {
                let pairs = all[row * values..][..values].iter().zip(&queries);
                pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
            };
            at_each_level(|level| {
                let mut to = vec![f32::NAN; rows];
                dispatch(Distances { to: &mut to, rows: &all, query: &queries[..values] });
                for (row, to) in to.iter().enumerate() {
                    let exact = exact(row);
                    assert!((f64::from(*to) - exact).abs() <= 1e-6 * exact, "{level:?}, {row}");
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
