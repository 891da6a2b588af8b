//! A tensor's numbers where they lie in a file: their kind, and how its indices lead to them.

use super::Source;
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::ops::Range;

/// Dimensions of a tensor; a convolution's weights have four.
const MOST_DIMENSIONS: usize = 8;

/// How a number is written; all are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IEEE single.
    F32,
    /// IEEE double.
    F64,
    /// IEEE half.
    F16,
    /// The upper half of a single.
    BF16,
}

impl Kind {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Kind::F32 => 4,
            Kind::F64 => 8,
            Kind::F16 | Kind::BF16 => 2,
        }
    }

    /// Whether every number of this kind is an f32.
    pub fn is_exact(self) -> bool {
        self != Kind::F64
    }

    /// The number that `bytes` are; of a double the nearest f32.
    fn value(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Kind::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Kind::F16, &[a, b]) => half(u16::from_le_bytes([a, b])),
            (Kind::BF16, &[a, b]) => f32::from_le_bytes([0, 0, a, b]),
            (Kind::F64, bytes) => f64::from_le_bytes(bytes.try_into().expect("eight bytes")) as f32,
            _ => unreachable!("as many bytes as the kind has"),
        }
    }
}

/// The half-precision number `bits`, exactly.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}

/// A view on numbers in a file.
#[derive(Clone, Debug)]
pub struct Numbers {
    source: Source,
    kind: Kind,
    /// Bytes of the file that hold numbers of this tensor.
    place: Range<usize>,
    /// The sizes; the last index is the fastest to be read.
    shape: Vec<usize>,
    /// Numbers from the place's start to that at index 0.
    first: usize,
    /// Numbers from one index to the next, in each dimension.
    steps: Vec<isize>,
}

impl Numbers {
    /// Numbers of `shape` that lie side by side at `place`.
    ///
    /// # Errors
    /// If the place is not in the file or holds another number of them.
    pub fn whole(
        source: &Source,
        kind: Kind,
        place: Range<usize>,
        shape: Vec<usize>,
    ) -> Result<Numbers> {
        let count = count(&shape)?;
        let there = place.len() / kind.bytes();
        ensure!(
            count == there && place.len().is_multiple_of(kind.bytes()),
            "its shape {shape:?} asks for {count} numbers, and there are {} bytes, {there} of them",
            place.len()
        );
        Numbers::strided(source, kind, place, 0, steps(&shape), shape)
    }

    /// Numbers of `shape`; that at index i lies `first` + Σ i·`steps` numbers into `place`.
    ///
    /// # Errors
    /// If the place is not in the file or does not hold all of them, or one stands for several.
    pub fn strided(
        source: &Source,
        kind: Kind,
        place: Range<usize>,
        first: usize,
        steps: Vec<isize>,
        shape: Vec<usize>,
    ) -> Result<Numbers> {
        let whole = place.start <= place.end && place.end <= source.bytes().len();
        ensure!(whole, "its numbers would lie beyond the end of the file");
        let (count, there) = (count(&shape)?, place.len() / kind.bytes());
        ensure!(steps.len() == shape.len(), "it has {shape:?} for a shape and {steps:?} for steps");
        let far = || -> Option<usize> {
            let ways = shape.iter().zip(&steps);
            ways.filter(|(size, _)| **size > 1).try_fold(first, |far, (size, step)| {
                far.checked_add(usize::try_from(*step).ok()?.checked_mul(size - 1)?)
            })
        };
        let last = if count == 0 { Some(0) } else { far().and_then(|far| far.checked_add(1)) };
        ensure!(
            last.is_some_and(|last| last <= there) && count <= there,
            "its shape {shape:?} with steps of {steps:?} from {first} on reaches beyond the \
             {there} numbers that are there"
        );
        Ok(Numbers { source: source.clone(), kind, place, shape, first, steps })
    }

    /// Its sizes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How they are written.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same numbers under another shape of as many.
    ///
    /// # Errors
    /// If they do not lie side by side, or the shape asks for another number.
    pub fn reshaped(&self, shape: Vec<usize>) -> Result<Numbers> {
        let contiguous = self.first == 0 && self.steps == steps(&self.shape);
        ensure!(
            contiguous && count(&shape)? == self.len(),
            "a tensor of {:?} cannot be read as one of {shape:?}",
            self.shape
        );
        Ok(Numbers { steps: steps(&shape), shape, ..self.clone() })
    }

    /// The same with the indices of dimension `at` running backward.
    pub fn reversed(mut self, at: usize) -> Numbers {
        let last = self.shape[at].saturating_sub(1);
        let first = self.first as isize + self.steps[at] * last as isize;
        self.first = usize::try_from(first).expect("within its place");
        self.steps[at] = -self.steps[at];
        self
    }

    /// A matrix with rows and columns exchanged.
    ///
    /// # Errors
    /// If it is no matrix.
    pub fn transposed(mut self) -> Result<Numbers> {
        ensure!(self.shape.len() == 2, "a tensor of {:?} is no matrix", self.shape);
        self.shape.reverse();
        self.steps.reverse();
        Ok(self)
    }

    /// Calls `take` with one after the other, the last index the fastest.
    ///
    /// # Errors
    /// What `take` says.
    pub fn each(&self, mut take: impl FnMut(f32) -> Result<()>) -> Result<()> {
        let bytes = &self.source.bytes()[self.place.clone()];
        let size = self.kind.bytes();
        let (row, step) = match (self.shape.last(), self.steps.last()) {
            (Some(&row), Some(&step)) => (row, step),
            _ => (1, 1),
        };
        if self.is_empty() {
            return Ok(());
        }
        let outer = self.shape.len().saturating_sub(1);
        let mut index = vec![0; outer];
        loop {
            let lead: isize = index.iter().zip(&self.steps).map(|(&i, s)| i as isize * s).sum();
            let start = self.first as isize + lead;
            for i in 0..row {
                let at = (start + i as isize * step) as usize * size;
                take(self.kind.value(&bytes[at..at + size]))?;
            }
            let Some(turn) = (0..outer).rev().find(|&d| index[d] + 1 < self.shape[d]) else {
                return Ok(());
            };
            index[turn] += 1;
            index[turn + 1..].fill(0);
        }
    }

    /// Writes them as F32, in the order of [`Numbers::each`].
    ///
    /// # Errors
    /// If one of them is no finite number, or `out` cannot be written.
    pub fn write(&self, out: &mut impl Write) -> Result<()> {
        let mut piece = Vec::with_capacity(1 << 16);
        self.each(|value| {
            ensure!(
                value.is_finite(),
                "it holds a value that is {value}; a network with it cannot compute anything"
            );
            piece.extend(value.to_le_bytes());
            if piece.len() == 1 << 16 {
                out.write_all(&piece)?;
                piece.clear();
            }
            Ok(())
        })?;
        Ok(out.write_all(&piece)?)
    }

    /// All of them; for what is small.
    pub fn values(&self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.len());
        let taken = self.each(|value| {
            values.push(value);
            Ok(())
        });
        taken.expect("nothing can fail");
        values
    }
}

/// How many numbers a tensor of `shape` has.
fn count(shape: &[usize]) -> Result<usize> {
    ensure!(
        shape.len() <= MOST_DIMENSIONS,
        "it has {} dimensions; the tensors of these networks have at most {MOST_DIMENSIONS}",
        shape.len()
    );
    let count = shape.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
    count.with_context(|| format!("its shape {shape:?} is beyond counting"))
}

/// The steps of numbers that lie side by side.
fn steps(shape: &[usize]) -> Vec<isize> {
    let mut steps = vec![1isize; shape.len()];
    for at in (1..shape.len()).rev() {
        steps[at - 1] = steps[at].saturating_mul(shape[at].min(isize::MAX as usize) as isize);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32]) -> Source {
        Source::memory(values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    #[test]
    fn views_read_what_they_say() {
        let source = floats(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let whole = Numbers::whole(&source, Kind::F32, 0..24, vec![2, 3]).unwrap();
        assert_eq!(whole.values(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(whole.clone().transposed().unwrap().values(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(whole.clone().reversed(1).values(), [2.0, 1.0, 0.0, 5.0, 4.0, 3.0]);
        assert_eq!(whole.clone().reversed(0).values(), [3.0, 4.0, 5.0, 0.0, 1.0, 2.0]);
        assert_eq!(whole.reshaped(vec![3, 1, 2]).unwrap().reversed(0).values()[..2], [4.0, 5.0]);
        let scalar = Numbers::whole(&source, Kind::F32, 4..8, vec![]).unwrap();
        assert_eq!(scalar.values(), [1.0]);
        let part = Numbers::strided(&source, Kind::F32, 0..24, 1, vec![2], vec![3]).unwrap();
        assert_eq!(part.values(), [1.0, 3.0, 5.0]);
    }

    #[test]
    fn what_reaches_beyond_its_place_is_refused() {
        let source = floats(&[0.0; 6]);
        let strided = |place, first, steps: &[isize], shape: &[usize]| {
            Numbers::strided(&source, Kind::F32, place, first, steps.to_vec(), shape.to_vec())
        };
        for (first, steps, shape) in [
            (0, &[3isize, 1][..], &[2usize, 4][..]),
            (1, &[3, 1], &[2, 3]),
            (0, &[1], &[7]),
            (0, &[0], &[7]),
            (0, &[isize::MAX, 1], &[3, 1]),
            (usize::MAX, &[1], &[1]),
            (0, &[-1], &[2]),
            (0, &[1], &[1, 1]),
            (0, &[1, 1], &[usize::MAX, 2]),
        ] {
            assert!(strided(0..24, first, steps, shape).is_err(), "{first} {steps:?} {shape:?}");
        }
        assert!(strided(0..28, 0, &[1], &[7]).is_err());
        assert!(strided(0..24, 99, &[1], &[0]).is_ok_and(|none| none.values().is_empty()));
        assert!(Numbers::whole(&source, Kind::F64, 0..20, vec![2]).is_err());
    }

    #[test]
    fn halves_are_exact() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 2f32.powi(-24)),
            (0x0400, 2f32.powi(-14)),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(half(bits), value);
        }
        assert!(half(0xfc00) == f32::NEG_INFINITY && half(0x7e00).is_nan());
        assert_eq!(half(0x8000).to_bits(), (-0f32).to_bits());
    }
}
