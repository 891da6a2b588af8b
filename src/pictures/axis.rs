//! An axis: which numbers it has marks at, and where a value lies on it.

/// A range of values on a scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// The least value.
    pub from: f64,
    /// The greatest.
    pub to: f64,
    /// Equal ratios take equal room, where all values are above zero.
    pub logarithmic: bool,
}

impl Axis {
    /// One that has room for `values` (those that are numbers), from zero on where none is below
    /// and the scale is even.
    pub fn of(values: impl Iterator<Item = f64>, logarithmic: bool) -> Axis {
        let finite = values.filter(|value| value.is_finite() && (!logarithmic || *value > 0.0));
        let (least, most) = finite
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
                (least.min(value), most.max(value))
            });
        let (least, most) = if least <= most { (least, most) } else { (1.0, 1.0) };
        if logarithmic {
            return Axis { from: least / 1.5, to: most * 1.5, logarithmic };
        }
        let from = least.min(0.0);
        let to = if most > from { from + (most - from) * 1.05 } else { from + 1.0 };
        Axis { from, to, logarithmic }
    }

    /// Where `value` lies, from 0 (the least) to 1.
    pub fn place(&self, value: f64) -> f64 {
        if self.logarithmic {
            return (value / self.from).ln() / (self.to / self.from).ln();
        }
        (value - self.from) / (self.to - self.from)
    }

    /// The numbers with a mark, at most about `most`: multiples of 1, 2 or 5 of a power of ten, or
    /// powers of ten. `whole`: no fractions between whole numbers.
    pub fn marks(&self, most: usize, whole: bool) -> Vec<f64> {
        if self.logarithmic {
            return self.powers(most);
        }
        let rough = (self.to - self.from) / most.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
        let step = steps.into_iter().find(|step| *step >= rough * (1.0 - 1e-9)).unwrap_or(rough);
        let step = if whole { step.max(1.0).round() } else { step };
        let (first, last) = ((self.from / step).ceil() as i64, (self.to / step).floor() as i64);
        (first..=last).map(|mark| mark as f64 * step).collect()
    }

    /// Powers of ten in the range, with their 2- and 5-fold where there are few.
    fn powers(&self, most: usize) -> Vec<f64> {
        let (first, last) = (self.from.log10().floor() as i32, self.to.log10().ceil() as i32);
        let decades = (last - first).max(1) as usize;
        let parts: &[f64] = if decades * 3 <= most + 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let every = decades.div_ceil(most.max(1)).max(1);
        let powers = (first..=last).step_by(every);
        let all = powers.flat_map(|power| parts.iter().map(move |part| part * 10f64.powi(power)));
        all.filter(|mark| (self.from..=self.to).contains(mark)).collect()
    }
}

/// `value` in few digits: `0.25`, `1e-5`.
pub fn short(value: f64) -> String {
    if value != 0.0 && (value.abs() < 1e-3 || value.abs() >= 1e6) {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_numbers_of_the_range() {
        let even = Axis::of([0.1, 0.72].into_iter(), false);
        assert_eq!(even.from, 0.0);
        let marks: Vec<String> = even.marks(8, false).into_iter().map(short).collect();
        assert_eq!(marks, ["0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"]);
        let epochs = Axis { from: 0.0, to: 3.0, logarithmic: false };
        assert_eq!(epochs.marks(10, true), [0.0, 1.0, 2.0, 3.0]);
        let rates = Axis::of([1e-2, 1e-5].into_iter(), true);
        let marks: Vec<String> = rates.marks(6, false).into_iter().map(short).collect();
        assert_eq!(marks, ["1e-5", "1e-4", "0.001", "0.01"]);
        assert!((rates.place(1e-2) + rates.place(1e-5) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn no_values_or_one_make_an_axis_all_the_same() {
        for values in [vec![], vec![0.0], vec![f64::NAN], vec![5.0]] {
            for logarithmic in [false, true] {
                let axis = Axis::of(values.iter().copied(), logarithmic);
                assert!(axis.from < axis.to, "{values:?} {logarithmic}");
                assert!(!axis.marks(6, false).is_empty(), "{values:?} {logarithmic}");
            }
        }
    }
}
