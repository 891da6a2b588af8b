//! When a run reaches a target.

/// Keys whose values get better as they rise; those of all others (errors, losses, waiting) as they
/// fall.
const RISING: [&str; 1] = ["images_per_second"];

/// Where a target is reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reached {
    /// The first epoch whose value is at the target or past it.
    pub epoch: f64,
    /// Where the straight line from the epoch before meets the target; the epoch itself where there
    /// is none before.
    pub between: f64,
}

/// Whether `value` of `key` is at `target` or past it.
pub fn is_at(value: f64, key: &str, target: f64) -> bool {
    if RISING.contains(&key) { value >= target } else { value <= target }
}

/// When the points (epoch, value) of `key` first reach `target`. None: never.
pub fn reached(points: &[(f64, f64)], key: &str, target: f64) -> Option<Reached> {
    let at = points.iter().position(|point| is_at(point.1, key, target))?;
    let (epoch, value) = points[at];
    let between = match at.checked_sub(1).map(|before| points[before]) {
        Some((before, from)) => before + (epoch - before) * (target - from) / (value - from),
        None => epoch,
    };
    Some(Reached { epoch, between })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_between_two_epochs_meets_the_target() {
        let points = [(1.0, 0.5), (2.0, 0.3), (3.0, 0.2), (4.0, 0.4)];
        let at = |target| reached(&points, "top1_error", target);
        assert_eq!(at(0.6), Some(Reached { epoch: 1.0, between: 1.0 }));
        assert_eq!(at(0.3), Some(Reached { epoch: 2.0, between: 2.0 }));
        let Some(Reached { epoch, between }) = at(0.25) else { panic!("never") };
        assert!(epoch == 3.0 && (between - 2.5).abs() < 1e-12, "{between}");
        assert_eq!(at(0.1), None);
        let speeds = [(1.0, 50.0), (2.0, 70.0)];
        assert_eq!(reached(&speeds, "images_per_second", 60.0).unwrap().between, 1.5);
    }
}
