//! Normalisation across maps (β = ¾) in one pass with the ReLU before it and the max-pooling after it,
//! image by image: a few rows of the map stay in the cache between the three, and the map between
//! normalisation and pooling is never written.
//!
//! Each value is computed as the layers by themselves compute it (`vectors`, `pool::cpu`), and sums are
//! added in the same order, so the bits are theirs. The backward pass normalises again.

use super::Lrn;
use super::vectors::{powers, stride, sum};
use crate::layers::pool::{Kernel, Pool};
use crate::layers::{Map, Run};
use crate::vectors::scratch::{self, LINE};
use crate::vectors::{Simd, Work, dispatch, load_some, store_some};
use rayon::prelude::*;

/// ReLU (if `relu`), normalisation and max-pooling as one layer.
#[derive(Debug)]
pub struct Pooled {
    relu: bool,
    lrn: Lrn,
    pool: Pool,
}

impl Pooled {
    /// `None` where the pass does not exist: other β, sums within a map, averages.
    pub fn new(relu: bool, lrn: &Lrn, pool: &Pool) -> Option<Pooled> {
        let suits = lrn.by_vectors() && pool.kernel == Kernel::Max && pool.input == lrn.shape;
        suits.then(|| Pooled { relu, lrn: lrn.clone(), pool: pool.clone() })
    }

    /// Values of a position with room for whole vectors.
    fn position(&self) -> usize {
        self.lrn.shape.channels.next_multiple_of(LINE)
    }
    fn row(&self) -> usize {
        self.lrn.shape.width * self.position()
    }
    /// A row of positions with zeros around each one's maps.
    fn padded_row(&self) -> usize {
        self.lrn.shape.width * stride(&self.lrn)
    }
    /// Rows that are kept at a time.
    fn slots(&self) -> usize {
        self.pool.size.max(self.pool.stride).min(self.lrn.shape.height)
    }

    /// The input as normalisation sees it.
    #[inline(always)]
    fn activated<S: Simd>(&self, s: S, x: &[f32]) -> S::V {
        let x = load_some(s, x);
        let zero = s.splat(0.0);
        if self.relu { s.if_greater(zero, x, zero, x) } else { x }
    }

    /// The squares of one row into `near`, [width][half zeros, maps, zeros].
    #[inline(always)]
    fn squares<S: Simd>(&self, s: S, near: &mut [f32], x: &[f32]) {
        let (c, half) = (self.lrn.shape.channels, self.lrn.n / 2);
        for (x, q) in x.chunks_exact(c).zip(near.chunks_exact_mut(stride(&self.lrn))) {
            for first in (0..c).step_by(S::LANES) {
                let a = self.activated(s, &x[first..]);
                store_some(s, &mut q[half + first..], s.mul(a, a));
            }
        }
    }
}

impl Map for Pooled {
    fn forward(&self, run: &Run, y: &mut [f32], x: &[f32]) {
        let values = self.padded_row() + (self.slots() + 1) * self.row();
        y.par_chunks_exact_mut(self.pool.output.len())
            .zip(x.par_chunks_exact(self.lrn.shape.len()))
            .take(run.batch)
            .for_each(|(y, x)| {
                scratch::with(values, |scratch| dispatch(Forward { of: self, y, x, scratch }))
            });
    }

    fn backward(&self, run: &Run, dx: &mut [f32], dy: &[f32], x: &[f32]) {
        let values = 2 * self.padded_row() + 4 * self.slots() * self.row();
        dx.par_chunks_exact_mut(self.lrn.shape.len())
            .zip(dy.par_chunks_exact(self.pool.output.len()))
            .zip(x.par_chunks_exact(self.lrn.shape.len()))
            .take(run.batch)
            .for_each(|((dx, dy), x)| {
                scratch::with(values, |scratch| dispatch(Backward { of: self, dx, dy, x, scratch }))
            });
    }
}

/// One image.
struct Forward<'a> {
    of: &'a Pooled,
    y: &'a mut [f32],
    x: &'a [f32],
    scratch: &'a mut [f32],
}

/// `best` ← the larger of two vectors; NaN wins and stays.
#[inline(always)]
fn larger<S: Simd>(s: S, best: &mut [f32], x: &[f32]) {
    for (best, x) in best.chunks_exact_mut(S::LANES).zip(x.chunks_exact(S::LANES)) {
        // SAFETY: both have the length of a vector.
        unsafe {
            let (b, x) = (s.load(best.as_ptr()), s.load(x.as_ptr()));
            s.store(best.as_mut_ptr(), s.if_equal(x, x, s.if_greater(x, b, x, b), x));
        }
    }
}

impl Work for Forward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, y, x, scratch } = self;
        let (lrn, pool) = (&of.lrn, &of.pool);
        let (c, height, width) = (lrn.shape.channels, lrn.shape.height, lrn.shape.width);
        let (position, row, slots) = (of.position(), of.row(), of.slots());
        let (k, alpha) = (s.splat(lrn.k), s.splat(lrn.alpha));
        scratch.fill(0.0);
        let (near, rest) = scratch.split_at_mut(of.padded_row());
        // Normalised rows, row r in slot r modulo `slots`; and the largest of a window's rows.
        let (ring, tallest) = rest.split_at_mut(slots * row);
        let mut ready = 0;
        for (o, y) in y.chunks_exact_mut(pool.output.width * c).enumerate() {
            let rows = o * pool.stride..(o * pool.stride + pool.size).min(height);
            for r in ready.max(rows.start)..rows.end {
                let x = &x[r * width * c..][..width * c];
                of.squares(s, near, x);
                let to = ring[r % slots * row..][..row].chunks_exact_mut(position);
                let places = near.chunks_exact(stride(lrn)).zip(to);
                for (x, (near, to)) in x.chunks_exact(c).zip(places) {
                    for first in (0..c).step_by(S::LANES) {
                        let scale = s.fma(alpha, sum(s, &near[first..], lrn.n), k);
                        let a = of.activated(s, &x[first..]);
                        store_some(s, &mut to[first..], s.mul(a, powers(s, scale).0));
                    }
                }
            }
            ready = rows.end;
            tallest.copy_from_slice(&ring[rows.start % slots * row..][..row]);
            for r in rows.start + 1..rows.end {
                larger(s, tallest, &ring[r % slots * row..][..row]);
            }
            for (o, y) in y.chunks_exact_mut(c).enumerate() {
                let columns = o * pool.stride..(o * pool.stride + pool.size).min(width);
                let window = &tallest[columns.start * position..columns.end * position];
                for first in (0..c).step_by(S::LANES) {
                    let mut best = load_some(s, &window[first..]);
                    for x in window.chunks_exact(position).skip(1) {
                        let x = load_some(s, &x[first..]);
                        best = s.if_equal(x, x, s.if_greater(x, best, x, best), x);
                    }
                    store_some(s, &mut y[first..], best);
                }
            }
        }
    }
}

/// One image.
struct Backward<'a> {
    of: &'a Pooled,
    dx: &'a mut [f32],
    dy: &'a [f32],
    x: &'a [f32],
    scratch: &'a mut [f32],
}

/// What is kept of the rows between the first window over them and the last; row r lies in slot r modulo
/// `slots` of each.
struct Rows<'a> {
    /// The normalised values b.
    outputs: &'a mut [f32],
    /// s^−¾ and s^−7/4.
    power: &'a mut [f32],
    more: &'a mut [f32],
    /// The gradient at b.
    gradient: &'a mut [f32],
    /// One row of squares, and one of a · db · s^−7/4, with zeros around each position's maps.
    near: &'a mut [f32],
    inner: &'a mut [f32],
}

impl Rows<'_> {
    /// Row `x` of the input, normalised, to the slot that begins at `slot`.
    #[inline(always)]
    fn begin<S: Simd>(&mut self, s: S, of: &Pooled, x: &[f32], slot: usize) {
        let (lrn, c, position, row) = (&of.lrn, of.lrn.shape.channels, of.position(), of.row());
        let (k, alpha) = (s.splat(lrn.k), s.splat(lrn.alpha));
        of.squares(s, self.near, x);
        self.gradient[slot..][..row].fill(0.0);
        let places = self.outputs[slot..][..row].chunks_exact_mut(position);
        let places = places.zip(self.power[slot..][..row].chunks_exact_mut(position));
        let places = places.zip(self.more[slot..][..row].chunks_exact_mut(position));
        let near = self.near.chunks_exact(stride(lrn));
        for ((x, near), ((output, power), more)) in x.chunks_exact(c).zip(near).zip(places) {
            for first in (0..c).step_by(S::LANES) {
                let scale = s.fma(alpha, sum(s, &near[first..], lrn.n), k);
                let (p, m) = powers(s, scale);
                let a = of.activated(s, &x[first..]);
                store_some(s, &mut output[first..], s.mul(a, p));
                store_some(s, &mut power[first..], p);
                store_some(s, &mut more[first..], m);
            }
        }
    }

    /// One window's gradient `dy` to the largest of the places that begin at `spots`, in the window's
    /// order: the first of equal ones.
    #[inline(always)]
    fn share<S: Simd>(&mut self, s: S, dy: &[f32], spots: &[usize], position: usize) {
        let furthest = spots.iter().max().map_or(0, |&spot| spot + position);
        assert!(furthest <= self.outputs.len() && furthest <= self.gradient.len());
        assert!(dy.len() <= position);
        let (zero, one) = (s.splat(0.0), s.splat(1.0));
        for first in (0..dy.len()).step_by(S::LANES) {
            let dy = load_some(s, &dy[first..]);
            // SAFETY: a position has room for whole vectors, and all of them end before `furthest`.
            unsafe {
                let outputs = self.outputs.as_ptr().add(first);
                let gradient = self.gradient.as_mut_ptr().add(first);
                let (mut from, mut number) = (zero, zero);
                let mut best = s.load(outputs.add(spots[0]));
                for &spot in &spots[1..] {
                    number = s.add(number, one);
                    let x = s.load(outputs.add(spot));
                    from = s.if_greater(x, best, number, from);
                    best = s.if_greater(x, best, x, best);
                }
                let mut number = zero;
                for &spot in spots {
                    let share = s.if_equal(from, number, dy, zero);
                    s.store(gradient.add(spot), s.add(s.load(gradient.add(spot)), share));
                    number = s.add(number, one);
                }
            }
        }
    }

    /// `dx` ← the gradient at row `x` of the input, from the slot that begins at `slot`.
    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, of: &Pooled, (dx, x): (&mut [f32], &[f32]), slot: usize) {
        let (lrn, c, position, row) = (&of.lrn, of.lrn.shape.channels, of.position(), of.row());
        let (half, zero) = (lrn.n / 2, s.splat(0.0));
        let factor = s.splat(-2.0 * lrn.alpha * lrn.beta);
        let kept = |values: &[f32]| -> *const f32 { values[slot..][..row].as_ptr() };
        let (gradient, power, more) = (kept(self.gradient), kept(self.power), kept(self.more));
        let inner = self.inner.chunks_exact_mut(stride(lrn));
        for (i, (x, inner)) in x.chunks_exact(c).zip(inner).enumerate() {
            for first in (0..c).step_by(S::LANES) {
                // SAFETY: a position has room for whole vectors, and a row has `width` positions.
                let (db, more) = unsafe {
                    let at = i * position + first;
                    (s.load(gradient.add(at)), s.load(more.add(at)))
                };
                let product = s.mul(db, of.activated(s, &x[first..]));
                let to = &mut inner[half + first..half + c];
                store_some(s, to, s.mul(product, more));
            }
        }
        let inner = self.inner.chunks_exact(stride(lrn));
        let positions = dx.chunks_exact_mut(c).zip(x.chunks_exact(c));
        for (i, ((dx, x), inner)) in positions.zip(inner).enumerate() {
            for first in (0..c).step_by(S::LANES) {
                // SAFETY: as above.
                let direct = unsafe {
                    let at = i * position + first;
                    s.mul(s.load(gradient.add(at)), s.load(power.add(at)))
                };
                let sums = s.mul(factor, sum(s, &inner[first..], lrn.n));
                let a = of.activated(s, &x[first..]);
                let d = s.fma(a, sums, direct);
                let d = if of.relu { s.if_greater(a, zero, d, zero) } else { d };
                store_some(s, &mut dx[first..], d);
            }
        }
    }
}

impl Work for Backward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, dx, dy, x, scratch } = self;
        let (shape, pool) = (of.lrn.shape, &of.pool);
        let (position, row, slots) = (of.position(), of.row(), of.slots());
        let line = shape.width * shape.channels;
        scratch.fill(0.0);
        let (near, rest) = scratch.split_at_mut(of.padded_row());
        let (inner, rest) = rest.split_at_mut(of.padded_row());
        let (outputs, rest) = rest.split_at_mut(slots * row);
        let (power, rest) = rest.split_at_mut(slots * row);
        let (more, gradient) = rest.split_at_mut(slots * row);
        let mut rows = Rows { outputs, power, more, gradient, near, inner };
        let mut spots = Vec::with_capacity(pool.size * pool.size);
        let (mut ready, mut finished) = (0, 0);
        for o in 0..pool.output.height {
            let seen = o * pool.stride..(o * pool.stride + pool.size).min(shape.height);
            for r in ready..seen.end {
                rows.begin(s, of, &x[r * line..][..line], r % slots * row);
            }
            ready = ready.max(seen.end);
            let dy = &dy[o * pool.output.width * shape.channels..];
            let windows = dy.chunks_exact(shape.channels).take(pool.output.width);
            for (column, dy) in windows.enumerate() {
                let columns =
                    column * pool.stride..(column * pool.stride + pool.size).min(shape.width);
                spots.clear();
                for r in seen.clone() {
                    spots.extend(columns.clone().map(|c| r % slots * row + c * position));
                }
                rows.share(s, dy, &spots, position);
            }
            // Rows that no later window sees.
            let last = o + 1 == pool.output.height;
            let end = if last { shape.height } else { (o + 1) * pool.stride };
            for r in finished..end {
                let (x, slot) = (&x[r * line..][..line], r % slots * row);
                if r >= ready {
                    rows.begin(s, of, x, slot);
                    ready = r + 1;
                }
                rows.finish(s, of, (&mut dx[r * line..][..line], x), slot);
            }
            finished = end;
        }
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

        let pass = Pooled::new(relu, &lrn, &pool).unwrap();
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
        }
    }
}
