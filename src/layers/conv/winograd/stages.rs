//! Some stages of a part of the batch on the way to the weights' gradient (`gradients`): their
//! tiles to the points, and the products of each point.

use super::division::Division;
use super::geometry::Correlation;
use super::shared::{Among, Shared};
use super::tiles::{SumGradients, Transform};
use crate::machine::tasks;
use crate::vectors::dispatch;
use crate::vectors::kernel::{Finish, Left, Out, Product, Right};
use crate::vectors::panel;
use crate::vectors::scratch::{self, LINE};
use rayon::prelude::*;
use std::ops::Range;

/// Stages that are worked on at the same time, for the towers whose turn it is.
pub(super) struct Stages<'a, const H: usize, const W: usize, const R: usize> {
    pub of: &'a Correlation<H, W, R>,
    pub work: &'a Division,
    pub x: &'a [f32],
    /// Of these towers, and the first one's number.
    pub dys: &'a [&'a [f32]],
    pub tower: usize,
    /// The part's first row of tiles, counted over the images, and those of these stages.
    pub part: usize,
    pub rows: Range<usize>,
}

/// Rows of a block, and each tower's sums of its gradients.
type Block<'a> = (Range<usize>, Vec<&'a mut [f32]>);

/// A side of the products: the input, or the output gradients of one of the towers.
#[derive(Clone, Copy)]
enum Side {
    Input,
    Gradients(usize),
}

impl<const H: usize, const W: usize, const R: usize> Stages<'_, H, W, R> {
    /// Values of one stage's input and one tower's gradients at their points.
    fn sizes(of: &Correlation<H, W, R>, work: &Division) -> [usize; 2] {
        let tiles = work.stage * of.grid().1;
        let points = Correlation::<H, W, R>::POINTS;
        [points * of.inputs_apart(tiles), points * of.outputs_apart(tiles)]
    }

    /// Values of memory for what lies between the steps.
    pub fn memory(of: &Correlation<H, W, R>, work: &Division) -> usize {
        let [input, gradients] = Self::sizes(of, work);
        work.stages * (input + work.turn * gradients)
    }

    /// Where a side of stage `number` of these begins in it.
    fn place(&self, number: usize, side: Side) -> usize {
        let [input, gradients] = Self::sizes(self.of, self.work);
        let start = number * (input + self.work.turn * gradients);
        match side {
            Side::Input => start,
            Side::Gradients(tower) => start + input + tower * gradients,
        }
    }

    /// The rows of each stage.
    fn each(&self) -> impl Iterator<Item = Range<usize>> {
        let (stage, end) = (self.work.stage, self.rows.end);
        self.rows.clone().step_by(stage).map(move |first| first..(first + stage).min(end))
    }

    /// Waits for all tasks of a kind; parts do so at the same time, which counts once.
    fn round(&self, what: &'static str) {
        if self.part == 0 {
            tasks::round(what);
        }
    }

    /// The tiles to their points in `memory`, and the sums of their gradients added to `biases`,
    /// for each block of the part and each tower its own.
    pub fn transform(&self, memory: &mut [f32], biases: &mut [f32]) {
        let work = self.work;
        let memory = &Shared::new(memory);
        if work.pieces.is_some() {
            self.round("rows to points");
        }
        let blocks = self.blocks(biases);
        match work.rows {
            None => blocks.for_each(|block| self.transform_block(memory, block)),
            Some(rows) => {
                let sums = || blocks.for_each(|block| self.sum_gradients(block));
                rayon::join(|| self.transform_rows(memory, rows), sums);
            }
        }
    }

    /// Each block's rows in these stages and the sums of the towers whose turn it is.
    fn blocks<'a>(&self, biases: &'a mut [f32]) -> impl ParallelIterator<Item = Block<'a>> {
        let (work, used) = (self.work, self.of.output.used);
        let own = work.towers * used;
        let first = (self.rows.start - self.part) / work.block;
        let end = (self.rows.end - self.part).div_ceil(work.block);
        let biases = biases[first * own..end * own].par_chunks_exact_mut(own).enumerate();
        biases.map(move |(n, biases)| {
            let start = self.part + (first + n) * work.block;
            let rows = start.max(self.rows.start)..(start + work.block).min(self.rows.end);
            let turn = biases.chunks_exact_mut(used).skip(self.tower).take(self.dys.len());
            (rows, turn.collect())
        })
    }

    /// A block's tiles of all sides to their points, and the sums.
    fn transform_block(&self, memory: &Shared<'_>, (rows, biases): Block<'_>) {
        if self.work.pieces.is_some() {
            tasks::begin("rows to points");
        }
        // SAFETY: blocks have rows of their own, and sides places.
        unsafe {
            if self.tower == 0 {
                self.to_points(memory, Side::Input, rows.clone(), None);
            }
            for (tower, bias) in biases.into_iter().enumerate() {
                self.to_points(memory, Side::Gradients(tower), rows.clone(), Some(bias));
            }
        }
    }

    /// All tiles to their points, a task at most `most` rows of one stage and one side.
    fn transform_rows(&self, memory: &Shared<'_>, most: usize) {
        let pieces = |stage: Range<usize>| {
            let end = stage.end;
            stage.step_by(most).map(move |first| first..(first + most).min(end))
        };
        let pieces: Vec<Range<usize>> = self.each().flat_map(pieces).collect();
        let sides = 1 + self.dys.len();
        (0..sides * pieces.len()).into_par_iter().for_each(|task| {
            tasks::begin("rows to points");
            let rows = pieces[task % pieces.len()].clone();
            let side = match task / pieces.len() {
                0 => Side::Input,
                tower => Side::Gradients(tower - 1),
            };
            // SAFETY: pieces have rows of their own, and sides places.
            unsafe { self.to_points(memory, side, rows, None) }
        });
    }

    /// The sums of a block's gradients alone.
    fn sum_gradients(&self, (rows, biases): Block<'_>) {
        let of = self.of;
        for (dy, bias) in self.dys.iter().zip(biases) {
            let range = rows.clone();
            scratch::with(of.gradient_strip(), |strip| {
                dispatch(SumGradients { of, bias, dy, range, strip });
            });
        }
    }

    /// Rows of tiles of one stage and one side to their points.
    ///
    /// # Safety
    /// Nobody else uses their places meanwhile.
    unsafe fn to_points(
        &self,
        memory: &Shared<'_>,
        side: Side,
        range: Range<usize>,
        bias: Option<&mut [f32]>,
    ) {
        let Self { of, work, .. } = *self;
        let number = (range.start - self.rows.start) / work.stage;
        let first = self.rows.start + number * work.stage;
        let columns = of.grid().1;
        let among = Among {
            first: (range.start - first) * columns,
            all: work.stage.min(self.rows.end - first) * columns,
        };
        // SAFETY: by the caller's word.
        let to = unsafe { memory.part() }.after(self.place(number, side));
        scratch::with(of.gradient_strip(), |strip| {
            let gradients = match side {
                Side::Input => None,
                Side::Gradients(tower) => Some((self.dys[tower], bias)),
            };
            dispatch(Transform { of, to, among, x: self.x, gradients, range, strip });
        });
    }

    /// `sums` of these towers ← for every point the products over the stages, one after the other;
    /// added to what is there but at first.
    pub fn multiply(&self, sums: &mut [f32], memory: &[f32], is_first: bool) {
        let Self { of, work, .. } = *self;
        let (points, columns) = (Correlation::<H, W, R>::POINTS, of.grid().1);
        let (apart, len) = (of.sums_apart(), of.depth() * of.output.used);
        // One point's sums of the inputs from `input` on.
        let product = |point: usize, input: usize, sums: &mut [f32]| {
            let (tower, point) = (point / points, point % points);
            for (number, rows) in self.each().enumerate() {
                let tiles = rows.len() * columns;
                let left = self.place(number, Side::Input) + point * of.inputs_apart(tiles);
                let right =
                    self.place(number, Side::Gradients(tower)) + point * of.outputs_apart(tiles);
                let (left, right) = (&memory[left + input * tiles..], &memory[right..]);
                multiply(sums, (left, right), (tiles, of.output.used), is_first && number == 0);
            }
        };
        let Some(pieces) = work.pieces else {
            let sums = sums.chunks_exact_mut(apart).enumerate();
            return sums.for_each(|(point, sums)| product(point, 0, &mut sums[..len]));
        };
        self.round("products of a point");
        let inputs = (of.depth() / pieces / LINE * LINE).max(LINE);
        sums.par_chunks_exact_mut(apart).enumerate().for_each(|(point, sums)| {
            let sums = sums[..len].par_chunks_mut(inputs * of.output.used).enumerate();
            sums.for_each(|(piece, sums)| {
                tasks::begin("products of a point");
                product(point, piece * inputs, sums);
            });
        });
    }
}

/// `sums` [inputs, used] ← one point's inputs times output gradients over `tiles` tiles, of as many
/// inputs as there is room for; added to what is there but at first.
fn multiply(
    sums: &mut [f32],
    (left, right): (&[f32], &[f32]),
    (tiles, used): (usize, usize),
    is_first: bool,
) {
    Product {
        left,
        order: Left::AlongRows,
        right,
        panels: Right::Panels { apart: tiles * panel() },
        next: &[],
        rows: sums.len() / used,
        out: sums,
        to: Out::Rows { stride: used },
        depth: tiles,
        columns: used,
        finish: if is_first { Finish::Store } else { Finish::Add },
    }
    .compute();
}
