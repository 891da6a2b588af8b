//! How a map is covered by tiles: each direction by tiles of four and five outputs, which leave the
//! fewest points to multiply.
//!
//! 13 outputs are 4 + 4 + 5: 6 + 6 + 7 = 19 points a direction and 361 a map, where tiles of four
//! alone, 16 outputs wide, have 24 and 576.
//!
//! Computed and not built (numpy, f32 against f64, normal values, relative errors as root mean
//! squares): tiles of six, F(6, 3) with eight points, give nothing for 13 outputs, of which three
//! tiles of any of these sizes make 19 points, and 75 for 77 points a direction of conv1's 55, 5 %
//! fewer products in two shapes of tile. The best points found have errors of 2.7·10⁻⁶ over 48
//! channels (0, ±0.465, ±1, ±1.85, ∞) and of 4.7·10⁻⁶ over 192 (0, ±0.466, ±1.03, ±2.06, ∞). Tiles
//! of five for kernels of five, F(5, 5) beside F(4, 5), would leave 51 for 56 points a direction of
//! conv2's 27, 17 % fewer products and about 2 % of a step; their best points (0, ±0.44, ±0.89,
//! ±1.45, −3.4, ∞) have errors of 7.9·10⁻⁶, nearly three times those of F(4, 5).

use super::matrices::points_of;

/// Tiles of one shape that lie side by side.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// The first output row and column.
    pub top: usize,
    pub left: usize,
    /// Tiles down and across.
    pub rows: usize,
    pub columns: usize,
}

/// Tiles of one size along a direction: outputs of one, the first one's first output, how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub tile: usize,
    pub first: usize,
    pub count: usize,
}

/// The sizes of tiles for kernels of `size`.
fn sizes(size: usize) -> (usize, Option<usize>) {
    (4, (size == 3).then_some(5))
}

/// The fewest points that cover `extent` outputs of a kernel of `size`: all tiles of four first,
/// those of five behind them; only the last may reach beyond the end. Of equal ways the one with
/// most tiles of four, whose errors are smaller.
pub fn split(extent: usize, size: usize) -> Vec<Run> {
    let (small, large) = sizes(size);
    let ways = (0..=large.map_or(0, |large| extent.div_ceil(large))).map(|larges| {
        let smalls = extent.saturating_sub(larges * large.unwrap_or(0)).div_ceil(small);
        (smalls, larges)
    });
    let cost = |&(smalls, larges): &(usize, usize)| {
        smalls * points_of(small, size) + large.map_or(0, |large| larges * points_of(large, size))
    };
    let (smalls, larges) = ways.min_by_key(cost).unwrap_or_default();
    let runs = [
        Run { tile: small, first: 0, count: smalls },
        Run { tile: large.unwrap_or(small), first: smalls * small, count: larges },
    ];
    runs.into_iter().filter(|run| run.count > 0).collect()
}

/// As [`split`] with tiles of four alone: one shape of tile, whose weights have the fewest points.
pub fn of_four(extent: usize) -> Vec<Run> {
    vec![Run { tile: 4, first: 0, count: extent.div_ceil(4) }]
}

/// Points of a direction.
pub fn points(runs: &[Run], size: usize) -> usize {
    runs.iter().map(|run| run.count * points_of(run.tile, size)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_maps() {
        let run = |tile, first, count| Run { tile, first, count };
        assert_eq!(split(13, 3), [run(4, 0, 2), run(5, 8, 1)]);
        assert_eq!(split(55, 3), [run(5, 0, 11)]);
        assert_eq!(split(27, 5), [run(4, 0, 7)]);
        assert_eq!([points(&split(13, 3), 3), points(&split(27, 5), 5)], [19, 56]);
    }

    /// Against every sequence of tiles that reaches the end, by their points.
    #[test]
    fn no_other_tiles_have_fewer_points() {
        fn fewest(extent: usize) -> usize {
            if extent == 0 {
                return 0;
            }
            let with = |tile: usize| tile + 2 + fewest(extent.saturating_sub(tile));
            with(4).min(with(5))
        }
        for extent in 1..40 {
            let runs = split(extent, 3);
            assert_eq!(points(&runs, 3), fewest(extent), "{extent}");
            let mut end = 0;
            for run in &runs {
                assert_eq!(run.first, end, "{extent}");
                end += run.count * run.tile;
            }
            let last = runs.last().unwrap().tile;
            assert!(end >= extent && end - last < extent, "{extent}");
        }
    }
}
