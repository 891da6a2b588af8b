//! The product's innermost loops: one block of rows and one panel of columns, in registers.

#![expect(clippy::needless_range_loop, reason = "loops of constant length over registers")]

use super::Rule;
use crate::vectors::scratch::LINE;
use crate::vectors::{Cache, Simd, prefetch};

/// What becomes of the sums, as [`super::Finish`].
#[derive(Clone, Copy)]
pub(super) enum Then {
    Store,
    Add,
    /// `v` lies as the results, which are weights.
    Update {
        v: *mut f32,
        rule: Rule,
    },
}

/// One block of rows and one panel.
pub(super) struct Tile {
    /// The whole left operand, and the block's first row in it.
    pub left: *const f32,
    pub row: usize,
    /// Values from one group of depth to the next.
    pub jump: usize,
    /// Each vector of columns in the right operand, and values from one row of it to the next.
    pub right: [*const f32; 4],
    pub step: usize,
    /// Each vector's place in the results, and values from one row to the next.
    pub out: [usize; 4],
    pub stride: usize,
    pub results: *mut f32,
    pub then: Then,
    pub depth: usize,
    /// What is asked for meanwhile, a cache line for each row of the right operand.
    pub ahead: Ahead,
}

/// Cache lines to ask for: from one group of depth to the next, and from one of its sixteen to the
/// next, so many values.
pub(super) struct Ahead {
    pub at: *const f32,
    pub jump: usize,
    pub step: usize,
}

impl Tile {
    /// # Safety
    /// All that the fields name is readable and writable, for `rows` rows and `vectors` vectors of
    /// columns.
    #[inline(always)]
    pub unsafe fn of_width<S: Simd, const ALONG_ROWS: bool>(
        &self,
        s: S,
        rows: usize,
        vectors: usize,
    ) {
        // SAFETY: the caller's word covers `rows` rows and as many vectors as each arm names, or
        // fewer.
        unsafe {
            match vectors {
                4 if S::PANEL >= 4 => self.of_height::<S, ALONG_ROWS, 4>(s, rows),
                3 if S::PANEL >= 3 => self.of_height::<S, ALONG_ROWS, 3>(s, rows),
                2 => self.of_height::<S, ALONG_ROWS, 2>(s, rows),
                _ => self.of_height::<S, ALONG_ROWS, 1>(s, rows),
            }
        }
    }

    /// # Safety
    /// As [`of_width`](Tile::of_width), for N vectors.
    #[inline(always)]
    unsafe fn of_height<S: Simd, const A: bool, const N: usize>(&self, s: S, rows: usize) {
        // SAFETY: the caller's word covers N vectors and as many rows as each arm names, or fewer.
        unsafe {
            match rows {
                8 if S::ROWS >= 8 => self.compute::<S, A, N, 8>(s),
                7 if S::ROWS >= 8 => self.compute::<S, A, N, 7>(s),
                6 if S::ROWS >= 6 => self.compute::<S, A, N, 6>(s),
                5 if S::ROWS >= 6 => self.compute::<S, A, N, 5>(s),
                4 => self.compute::<S, A, N, 4>(s),
                3 => self.compute::<S, A, N, 3>(s),
                2 => self.compute::<S, A, N, 2>(s),
                _ => self.compute::<S, A, N, 1>(s),
            }
        }
    }

    /// # Safety
    /// As [`of_width`](Tile::of_width), for R rows and N vectors.
    #[inline(always)]
    unsafe fn compute<S: Simd, const ALONG_ROWS: bool, const N: usize, const R: usize>(
        &self,
        s: S,
    ) {
        let start = |row: usize| match ALONG_ROWS {
            false => row * LINE,
            true => row / LINE * self.depth * LINE + row % LINE,
        };
        // Groups of depth; in each, values `inner` apart.
        let (groups, steps, inner) =
            if ALONG_ROWS { (1, self.depth, LINE) } else { (self.depth / LINE, LINE, 1) };
        if let Then::Update { v, .. } = self.then {
            // From main memory, while the sums are made.
            for r in 0..R {
                for n in 0..N {
                    let at = self.out[n] + r * self.stride;
                    prefetch(self.results.wrapping_add(at), Cache::First);
                    prefetch(v.wrapping_add(at), Cache::First);
                }
            }
        }
        let mut sums = [[s.splat(0.0); N]; R];
        // SAFETY: R rows of the left operand, N vectors of the right one over the whole depth, and
        // their results are readable and writable by the caller's word; nothing else is touched.
        unsafe {
            let mut rows = [self.left; R];
            for r in 0..R {
                rows[r] = self.left.add(start(self.row + r));
            }
            let mut off = 0;
            for group in 0..groups {
                let mut at = group * self.jump;
                let mut ahead = self.ahead.at.wrapping_add(group * self.ahead.jump);
                for _ in 0..steps {
                    prefetch(ahead, Cache::Second);
                    ahead = ahead.wrapping_add(self.ahead.step);
                    let mut b = [s.splat(0.0); N];
                    for n in 0..N {
                        b[n] = s.load(self.right[n].add(off));
                    }
                    for r in 0..R {
                        // Rows along the depth lie side by side: one address serves them all.
                        let value =
                            if ALONG_ROWS { rows[r].add(at) } else { rows[0].add(at + r * LINE) };
                        let a = s.splat(*value);
                        for n in 0..N {
                            sums[r][n] = s.fma(a, b[n], sums[r][n]);
                        }
                    }
                    at += inner;
                    off += self.step;
                }
            }
            self.finish(s, &sums);
        }
    }

    /// # Safety
    /// R × N vectors of the results are readable and writable, and of `v` where weights are
    /// updated.
    #[inline(always)]
    unsafe fn finish<S: Simd, const N: usize, const R: usize>(&self, s: S, sums: &[[S::V; N]; R]) {
        let place = |r: usize, n: usize| self.out[n] + r * self.stride;
        // SAFETY: R × N vectors of the results, and of `v` with them, by the caller's word.
        unsafe {
            match self.then {
                Then::Update { v, rule } => {
                    let [m, decay, rate] =
                        [rule.momentum, rule.decay, rule.rate].map(|x| s.splat(x));
                    for r in 0..R {
                        for n in 0..N {
                            let (w, v) = (self.results.add(place(r, n)), v.add(place(r, n)));
                            let kept = s.sub(s.mul(m, s.load(v)), s.mul(decay, s.load(w)));
                            let new = s.sub(kept, s.mul(rate, sums[r][n]));
                            s.store(v, new);
                            s.store(w, s.add(s.load(w), new));
                        }
                    }
                }
                Then::Add => {
                    for r in 0..R {
                        for n in 0..N {
                            let to = self.results.add(place(r, n));
                            s.store(to, s.add(s.load(to), sums[r][n]));
                        }
                    }
                }
                Then::Store => {
                    for r in 0..R {
                        for n in 0..N {
                            s.store(self.results.add(place(r, n)), sums[r][n]);
                        }
                    }
                }
            }
        }
    }
}
