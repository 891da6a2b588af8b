//! Rows of all neurons' values against blocks, one a process, of rows of that process's: what is
//! computed with, and what travels. And towers side by side, pixel by pixel.

use rayon::prelude::*;
use std::ops::Range;

/// `rows` [images, all] from `blocks`, `[processes][images, own]`; `shares` are the neurons of each.
pub(super) fn into_rows(rows: &mut [f32], blocks: &[f32], shares: &[Range<usize>], images: usize) {
    let all = shares.last().map_or(0, |last| last.end);
    rows.par_chunks_exact_mut(all).take(images).enumerate().for_each(|(image, row)| {
        for share in shares {
            let n = share.len();
            let block = &blocks[images * share.start..];
            row[share.clone()].copy_from_slice(&block[image * n..(image + 1) * n]);
        }
    });
}

/// The reverse.
pub(super) fn into_blocks(
    blocks: &mut [f32],
    rows: &[f32],
    shares: &[Range<usize>],
    images: usize,
) {
    let all = shares.last().map_or(0, |last| last.end);
    let mut rest = &mut blocks[..images * all];
    for share in shares {
        let (block, others) = rest.split_at_mut(images * share.len());
        rest = others;
        let (columns, rows) = (share.clone(), rows.par_chunks_exact(all));
        block
            .par_chunks_exact_mut(share.len())
            .zip(rows)
            .for_each(|(own, row)| own.copy_from_slice(&row[columns.clone()]));
    }
}

/// Puts one tower's values [images, pixels, own] to its `channels` of `joined` [images, pixels,
/// all].
pub(super) fn join(joined: &mut [f32], all: usize, tower: &[f32], channels: &Range<usize>) {
    let pixels = joined.par_chunks_exact_mut(all).zip(tower.par_chunks_exact(channels.len()));
    pixels.for_each(|(joined, own)| joined[channels.clone()].copy_from_slice(own));
}

/// The reverse.
pub(super) fn split(tower: &mut [f32], channels: &Range<usize>, joined: &[f32], all: usize) {
    let pixels = tower.par_chunks_exact_mut(channels.len()).zip(joined.par_chunks_exact(all));
    pixels.for_each(|(own, joined)| own.copy_from_slice(&joined[channels.clone()]));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two images of five neurons, which three processes have 1, 2 and 2 of.
    #[test]
    fn rows_and_blocks() {
        let shares = [0..1, 1..3, 3..5];
        let blocks = [0.0, 10.0, 1.0, 2.0, 11.0, 12.0, 3.0, 4.0, 13.0, 14.0];
        let mut rows = [0.0; 10];
        into_rows(&mut rows, &blocks, &shares, 2);
        assert_eq!(rows, [0.0, 1.0, 2.0, 3.0, 4.0, 10.0, 11.0, 12.0, 13.0, 14.0]);
        let mut again = [0.0; 10];
        into_blocks(&mut again, &rows, &shares, 2);
        assert_eq!(again, blocks);
    }

    /// Two pixels of one and of two channels.
    #[test]
    fn towers_side_by_side() {
        let mut joined = [0.0; 6];
        join(&mut joined, 3, &[1.0, 4.0], &(0..1));
        join(&mut joined, 3, &[2.0, 3.0, 5.0, 6.0], &(1..3));
        assert_eq!(joined, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let mut tower = [0.0; 4];
        split(&mut tower, &(1..3), &joined, 3);
        assert_eq!(tower, [2.0, 3.0, 5.0, 6.0]);
    }
}
