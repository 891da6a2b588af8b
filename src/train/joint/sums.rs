//! Sums of parts' gradients, joined two by two as a tree says, so that they are added up in the
//! same order however many ranks compute them.
//!
//! The sum of parts a to b is called after a. The engine's own memory holds the last one; the
//! others wait beside it, at most as many as the tree is deep.

use crate::engine::{EachGradient, Engine};
use crate::machine::memory::zeros;
use anyhow::Result;
use std::collections::BTreeMap;
use std::ops::Range;

/// The sum of the parts from `begin` to `end` out of those that part at `middle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Join {
    pub begin: usize,
    pub middle: usize,
    pub end: usize,
}

/// The joins of so many parts, each after those that it is made of.
pub(super) fn tree(parts: usize) -> impl Iterator<Item = Join> {
    fn below(begin: usize, end: usize, all: &mut Vec<Join>) {
        if end - begin > 1 {
            let middle = begin.midpoint(end);
            below(begin, middle, all);
            below(middle, end, all);
            all.push(Join { begin, middle, end });
        }
    }
    let mut all = Vec::new();
    below(0, parts, &mut all);
    all.into_iter()
}

/// Sums that wait beside the engine's memory at the same time, at most, while the parts `own` of all
/// `parts` are computed and joined as soon as they can be.
pub(super) fn most_waiting(parts: usize, own: Range<usize>) -> usize {
    let (mut there, mut most) = (0, 0usize);
    for part in own.clone() {
        most = most.max(there);
        there += 1;
        let joined = |join: &Join| join.end == part + 1 && join.begin >= own.start;
        there -= tree(parts).filter(joined).count();
    }
    // What is left waits until other ranks' sums have come.
    most.max(there - 1)
}

/// A gradient beside the engine's, piece by piece.
type Kept = Vec<Vec<f32>>;

/// The sums that one rank has at hand.
#[derive(Default)]
pub(super) struct Sums {
    /// What the engine's memory holds; None: nothing of use.
    in_engine: Option<usize>,
    kept: BTreeMap<usize, Kept>,
    /// Memory for the next ones.
    spare: Vec<Kept>,
}

impl Sums {
    /// The engine's memory holds the gradient of `part`.
    pub fn computed(&mut self, part: usize) {
        self.in_engine = Some(part);
    }

    /// Puts aside what the engine's memory holds, which is to be used for another part.
    pub fn free(&mut self, engine: &mut dyn Engine) -> Result<()> {
        let Some(part) = self.in_engine.take() else { return Ok(()) };
        let mut memory = self.spare.pop().unwrap_or_default();
        let mut pieces = 0;
        engine.each_gradient(&mut |gradient| {
            if memory.len() == pieces {
                memory.push(zeros(gradient.len())?);
            }
            memory[pieces].copy_from_slice(gradient);
            pieces += 1;
            Ok(())
        })?;
        self.kept.insert(part, memory);
        Ok(())
    }

    /// left ← left + right.
    pub fn join(&mut self, engine: &mut dyn Engine, left: usize, right: usize) -> Result<()> {
        let in_engine = self.in_engine.filter(|part| [left, right].contains(part));
        let Some(there) = in_engine else {
            let right = self.take(right);
            let left = self.kept.get_mut(&left).expect("a sum that is at hand");
            for (left, right) in left.iter_mut().zip(&right) {
                add(left, right);
            }
            self.spare.push(right);
            return Ok(());
        };
        // Whichever comes first: a sum of two has the same bits both ways.
        let other = self.take(if there == left { right } else { left });
        let mut pieces = other.iter();
        engine.each_gradient(&mut |gradient| {
            add(gradient, pieces.next().expect("as many pieces as the engine has"));
            Ok(())
        })?;
        self.spare.push(other);
        self.in_engine = Some(left);
        Ok(())
    }

    fn take(&mut self, part: usize) -> Kept {
        self.kept.remove(&part).expect("a sum that is at hand")
    }

    /// Calls `each` with the pieces of the sum `part`.
    pub fn each(
        &mut self,
        engine: &mut dyn Engine,
        part: usize,
        each: &mut EachGradient<'_>,
    ) -> Result<()> {
        if self.in_engine == Some(part) {
            return engine.each_gradient(each);
        }
        let kept = self.kept.get_mut(&part).expect("a sum that is at hand");
        kept.iter_mut().try_for_each(|piece| each(piece))
    }

    /// Puts the sum `part` into the engine's memory.
    pub fn give(&mut self, engine: &mut dyn Engine, part: usize) -> Result<()> {
        if self.in_engine == Some(part) {
            return Ok(());
        }
        let kept = self.take(part);
        let mut pieces = kept.iter();
        engine.each_gradient(&mut |gradient| {
            gradient.copy_from_slice(pieces.next().expect("as many pieces as the engine has"));
            Ok(())
        })?;
        self.spare.push(kept);
        Ok(())
    }

    /// All sums are used; their memory is kept.
    pub fn forget(&mut self) {
        self.in_engine = None;
        self.spare.extend(std::mem::take(&mut self.kept).into_values());
    }
}

fn add(sum: &mut [f32], more: &[f32]) {
    use rayon::prelude::*;
    const BLOCK: usize = 1 << 15;
    sum.par_chunks_mut(BLOCK).zip(more.par_chunks(BLOCK)).for_each(|(sum, more)| {
        sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_joins_each_sum_once_after_what_it_is_made_of() {
        for parts in 1..40 {
            // The parts whose sum each name stands for.
            let mut there: BTreeMap<usize, usize> = (0..parts).map(|p| (p, p + 1)).collect();
            for join in tree(parts) {
                assert_eq!(there[&join.begin], join.middle);
                assert_eq!(there.remove(&join.middle), Some(join.end));
                there.insert(join.begin, join.end);
            }
            assert_eq!(there, BTreeMap::from([(0, parts)]));
        }
        // One part alone, a pair, both halves of eight, a rank that cuts across branches.
        assert_eq!(most_waiting(4, 2..3), 0);
        assert_eq!(most_waiting(2, 0..2), 1);
        assert_eq!(most_waiting(8, 0..8), 3);
        assert_eq!(most_waiting(16, 8..16), 3);
        assert_eq!(most_waiting(6, 2..4), 1);
        let four: Vec<_> = tree(4).map(|join| (join.begin, join.middle, join.end)).collect();
        assert_eq!(four, [(0, 1, 2), (2, 3, 4), (0, 2, 4)]);
    }
}
