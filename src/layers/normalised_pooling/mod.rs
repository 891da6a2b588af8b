//! Normalisation across maps (β = ¾) in one pass with the ReLU before it and the max-pooling after
//! it, image by image: a few rows of the map stay in the cache between the three, and the map
//! between normalisation and pooling is never written. No layer kind of its own: the CPU puts it in
//! the place of three layers (`network::Fusion`), a GPU in that of the upper two (`cuda`).
//!
//! Each value is computed by the three layers' own pieces (`lrn::vectors`, `pool::cpu`,
//! `activation::cpu`), and sums are added in the same order, so the bits are theirs. The backward
//! pass normalises again.

mod backward;
mod cuda;
mod forward;
mod rows;

use super::beside::{Channels, Gradient};
use super::lrn::Lrn;
use super::pool::{Kernel, Pool};
use super::{Beside, Map, Run};
use crate::vectors::dispatch;
use crate::vectors::scratch;
use rayon::prelude::*;
use rows::Rows;

/// ReLU (if `relu`), normalisation and max-pooling as one layer.
#[derive(Debug)]
pub struct NormalisedPooling {
    relu: bool,
    lrn: Lrn,
    pool: Pool,
}

impl NormalisedPooling {
    /// `None` where the pass does not exist: other β, sums within a map, averages.
    pub fn new(relu: bool, lrn: &Lrn, pool: &Pool) -> Option<NormalisedPooling> {
        let suits = lrn.by_vectors() && pool.kernel == Kernel::Max && pool.input == lrn.shape;
        suits.then(|| NormalisedPooling { relu, lrn: lrn.clone(), pool: pool.clone() })
    }

    /// Values of one row of the input.
    fn line(&self) -> usize {
        self.lrn.shape.width * self.lrn.shape.channels
    }
    /// Rows that are kept at a time: row r lies in slot r modulo this.
    fn slots(&self) -> usize {
        self.pool.size.max(self.pool.stride).min(self.lrn.shape.height)
    }
    /// Where the slot of row `r` begins, in values.
    fn slot(&self, r: usize) -> usize {
        r % self.slots() * self.rows().row()
    }
    fn rows(&self) -> Rows {
        Rows::new(&self.lrn)
    }
}

impl Map for NormalisedPooling {
    fn forward(&self, run: &Run, y: &mut [f32], x: &[f32]) {
        self.forward_beside(run, y, &Channels::all(self.pool.output.channels), x);
    }

    fn backward(&self, run: &Run, dx: &mut [f32], dy: &[f32], x: &[f32]) {
        let channels = Channels::all(self.pool.output.channels);
        self.backward_beside(run, dx, Gradient::new(&[dy], &channels), x);
    }

    fn beside(&self) -> Option<&dyn Beside> {
        Some(self)
    }
}

impl Beside for NormalisedPooling {
    fn forward_beside(&self, run: &Run, y: &mut [f32], at: &Channels, x: &[f32]) {
        let values = forward::scratch(self);
        y.par_chunks_exact_mut(self.pool.output.pixels() * at.all)
            .zip(x.par_chunks_exact(self.lrn.shape.len()))
            .take(run.batch)
            .for_each(|(y, x)| {
                scratch::with(values, |scratch| {
                    dispatch(forward::Forward { of: self, y, at, x, scratch })
                })
            });
    }

    fn backward_beside(&self, run: &Run, dx: &mut [f32], dy: Gradient<'_>, x: &[f32]) {
        let values = backward::scratch(self);
        dx.par_chunks_exact_mut(self.lrn.shape.len())
            .zip(x.par_chunks_exact(self.lrn.shape.len()))
            .take(run.batch)
            .enumerate()
            .for_each(|(image, (dx, x))| {
                let dy = dy.from(image * self.pool.output.pixels());
                scratch::with(values, |scratch| {
                    dispatch(backward::Backward { of: self, dx, dy, x, scratch })
                })
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::lrn::Region;
    use crate::layers::{Pointwise, Shape, activation};

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut z = seed;
        let next = |_| {
            z = z.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (z >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..n).map(next).collect()
    }

    /// One pass against three, bit by bit, forward and backward.
    fn same_bits(shape: Shape, n: usize, (size, stride): (usize, usize), relu: bool) {
        let extent = |n: usize| (n.saturating_sub(size).div_ceil(stride)).min((n - 1) / stride) + 1;
        let output = Shape { height: extent(shape.height), width: extent(shape.width), ..shape };
        same_bits_for(shape, output, n, (size, stride), relu);
    }

    fn same_bits_for(
        shape: Shape,
        output: Shape,
        n: usize,
        (size, stride): (usize, usize),
        relu: bool,
    ) {
        let (region, k, alpha, beta) = (Region::AcrossMaps, 2.0, 0.5, 0.75);
        let lrn = Lrn { shape, region, n, k, alpha, beta };
        let pool = Pool { kernel: Kernel::Max, input: shape, output, size, stride };
        let run = Run { batch: 2, training: true, seed: 1, step: 1, first_image: 0 };
        let x = numbers(2 * shape.len(), 7);
        let dy = numbers(2 * output.len(), 8);
        let relu_layer = activation::Activation { function: activation::Function::Relu, shape };

        let mut a = x.clone();
        if relu {
            relu_layer.forward(&run, &mut a);
        }
        let (mut b, mut y) = (vec![0.0; x.len()], vec![0.0; dy.len()]);
        lrn.forward(&run, &mut b, &a);
        pool.forward(&run, &mut y, &b);
        let (mut db, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        pool.backward(&run, &mut db, &dy, &b);
        lrn.backward(&run, &mut dx, &db, &a);
        if relu {
            relu_layer.backward(&run, &mut dx, &a);
        }

        let pass = NormalisedPooling::new(relu, &lrn, &pool).unwrap();
        let (mut one_y, mut one_dx) = (vec![9.0; dy.len()], vec![9.0; x.len()]);
        pass.forward(&run, &mut one_y, &x);
        pass.backward(&run, &mut one_dx, &dy, &x);
        let what = format!("{shape}, n = {n}, {size}/{stride}, ReLU {relu}");
        assert!(y.iter().any(|&y| y != 0.0) && dx.iter().any(|&d| d != 0.0), "{what}");
        assert_eq!(y, one_y, "{what}");
        assert_eq!(dx, one_dx, "{what}");
    }

    #[test]
    fn one_pass_gives_the_bits_of_three() {
        let shape = |height, width, channels| Shape { height, width, channels };
        for relu in [true, false] {
            same_bits(shape(13, 11, 48), 5, (3, 2), relu);
            same_bits(shape(8, 9, 21), 3, (3, 2), relu);
            same_bits(shape(7, 7, 5), 7, (2, 2), relu);
            // Windows over the edge, rows and columns between windows, a window on every position.
            same_bits(shape(6, 6, 16), 5, (3, 2), relu);
            same_bits(shape(9, 8, 16), 5, (2, 3), relu);
            same_bits(shape(10, 10, 8), 5, (1, 4), relu);
            same_bits(shape(5, 6, 3), 1, (4, 1), relu);
            // Rounded down: rows and columns at the edge that no window sees.
            same_bits_for(shape(7, 9, 16), shape(3, 4, 16), 5, (2, 2), relu);
            same_bits_for(shape(8, 6, 5), shape(3, 2, 5), 3, (3, 2), relu);
        }
    }
}
