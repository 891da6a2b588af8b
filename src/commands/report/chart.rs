//! Curves as inline SVG, whose colours are the page's (classes `s0` … `s5` of its style sheet), so
//! that they follow its theme.

use super::html::escape;

/// Colours that there are.
const COLORS: usize = 6;
/// The drawing, and the axes' place in it, in units of SVG.
const WIDE: f64 = 460.0;
const HIGH: f64 = 280.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 448.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 240.0;
/// Fewer points are marked each.
const MARKED: usize = 25;

/// A curve.
pub struct Curve {
    /// For the legend.
    pub name: String,
    /// (epoch, value), epochs rising.
    pub points: Vec<(f64, f64)>,
    /// Which colour; they repeat.
    pub color: usize,
    /// Whether it is dashed.
    pub dashed: bool,
}

/// What the values are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Numbers from 0 up.
    Plain,
    /// Fractions, said in per cent.
    Percent,
    /// Numbers whose ratios count.
    Log,
}

/// A chart over epochs with its legend; nothing where there is no point to draw.
pub fn chart(title: &str, scale: Scale, curves: &[Curve]) -> String {
    let all = || curves.iter().flat_map(|curve| &curve.points).filter(|p| p.1.is_finite());
    let Some(last) = all().map(|p| p.0).reduce(f64::max) else { return String::new() };
    let first = all().map(|p| p.0).fold(f64::INFINITY, f64::min).min(last - 1.0);
    let least = all().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let most = all().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    // A run that has diverged would press all others flat.
    let highest = if scale == Scale::Plain { bound(all().map(|p| p.1).collect()) } else { most };
    let (cut, most) = (most > highest, most.min(highest));
    let scale = if scale == Scale::Log && least <= 0.0 { Scale::Plain } else { scale };
    let ticks = match scale {
        Scale::Log => powers(least, most),
        _ => steps(0.0, most, 6),
    };
    let axes = Axes { epochs: [first, last], scale, ticks };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDE} {HIGH}\" role=\"img\" aria-label=\"{}\">\n{}",
        escape(title),
        axes.drawn()
    );
    curves.iter().for_each(|curve| svg += &drawn(curve, &axes));
    let legend: String =
        curves.iter().filter(|curve| !curve.points.is_empty()).map(entry).collect();
    let cut =
        if cut { "<figcaption>Values above the drawing are cut off.</figcaption>" } else { "" };
    format!(
        "<figure class=\"chart\"><h3>{}</h3>{svg}</svg>\n<ul class=\"legend\">{legend}</ul>{cut}</figure>\n",
        escape(title)
    )
}

/// Where epochs and values lie in the drawing.
struct Axes {
    /// The first and the last epoch.
    epochs: [f64; 2],
    scale: Scale,
    /// Of the values, rising, two or more; the drawing ends with them.
    ticks: Vec<f64>,
}

impl Axes {
    fn x(&self, epoch: f64) -> f64 {
        let [first, last] = self.epochs;
        LEFT + (epoch - first) / (last - first) * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = (self.ticks[0], self.ticks[self.ticks.len() - 1]);
        let share = match self.scale {
            Scale::Log => (value / low).ln() / (high / low).ln(),
            _ => (value.min(high) - low) / (high - low),
        };
        BOTTOM - share * (BOTTOM - TOP)
    }

    fn drawn(&self) -> String {
        let mut svg = String::new();
        for &tick in &self.ticks {
            let label = match self.scale {
                Scale::Percent => format!("{} %", short(100.0 * tick)),
                _ => short(tick),
            };
            svg += &format!(
                "<line class=\"grid-line\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>\
                 <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{label}</text>\n",
                self.y(tick),
                LEFT - 6.0,
                self.y(tick) + 4.0
            );
        }
        let [first, last] = self.epochs;
        let inside = |epoch: &f64| (first..=last).contains(epoch) && epoch.fract() == 0.0;
        for epoch in steps(first, last, 8).into_iter().filter(inside) {
            svg += &format!(
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{epoch}</text>\n",
                self.x(epoch),
                BOTTOM + 18.0
            );
        }
        let (x, y) = ((LEFT + RIGHT) / 2.0, HIGH - 3.0);
        svg + &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">epoch</text>\n")
    }
}

/// Up to where values are drawn: all of them, unless some are far above the others.
fn bound(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (median, most) = (values[values.len() / 2], values[values.len() - 1]);
    if most > 50.0 * median && median > 0.0 { 4.0 * median } else { most }
}

/// The attributes of a curve's stroke.
fn stroke(curve: &Curve) -> String {
    let dashed = if curve.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
    format!("class=\"curve s{}\"{dashed}", curve.color % COLORS)
}

fn drawn(curve: &Curve, axes: &Axes) -> String {
    let (mut path, mut marks, mut pen_up) = (String::new(), String::new(), true);
    for &(epoch, value) in &curve.points {
        if !value.is_finite() {
            pen_up = true;
            continue;
        }
        let (x, y) = (axes.x(epoch), axes.y(value));
        path += &format!("{}{x:.1} {y:.1}", if pen_up { "M" } else { "L" });
        if curve.points.len() <= MARKED {
            let fill = curve.color % COLORS;
            marks += &format!("<circle class=\"f{fill}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>");
        }
        pen_up = false;
    }
    format!("<path {} d=\"{path}\"/>{marks}\n", stroke(curve))
}

fn entry(curve: &Curve) -> String {
    format!(
        "<li><svg viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path {} d=\"M0 5H26\"/></svg>{}</li>",
        stroke(curve),
        escape(&curve.name)
    )
}

/// Round numbers from at most `least` to at least `most`, about `wanted` of them.
fn steps(least: f64, most: f64, wanted: usize) -> Vec<f64> {
    let span = if most > least { most - least } else { least.abs().max(1.0) };
    let rough = span / wanted as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().find(|s| s * power >= rough).unwrap_or(10.0) * power;
    let (from, to) = ((least / step).floor() as i64, ((least + span) / step - 1e-9).ceil() as i64);
    // Products with a step below one have a tail of binary fractions.
    (from..=to).map(|n| (n as f64 * step * 1e9).round() / 1e9).collect()
}

/// Powers of ten from at most `least` to at least `most`, two or more.
fn powers(least: f64, most: f64) -> Vec<f64> {
    let from = least.log10().floor() as i32;
    let to = (most.log10().ceil() as i32).max(from + 1);
    // As they are read: what a system's library multiplies has a tail.
    (from..=to).filter_map(|power| format!("1e{power}").parse().ok()).collect()
}

/// A tick's number.
fn short(value: f64) -> String {
    match value.abs() {
        v if v > 0.0 && !(1e-4..1e6).contains(&v) => format!("{value:.0e}"),
        _ => format!("{}", (value * 1e6).round() / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        assert_eq!(steps(0.0, 0.93, 6), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(steps(0.0, 6.9, 6), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(steps(0.0, 0.0, 6).last(), Some(&1.0));
        assert_eq!(powers(0.00001, 0.01), [1e-5, 1e-4, 1e-3, 1e-2]);
        assert_eq!(powers(0.01, 0.01).len(), 2);
        assert_eq!([1e-5, 2e7, 0.25, 0.0].map(short), ["1e-5", "2e7", "0.25", "0"]);
    }

    #[test]
    fn what_is_far_above_the_others_is_cut_off() {
        assert_eq!(bound(vec![1.0, 2.0, 3.0]), 3.0);
        assert_eq!(bound(vec![1.0, 2.0, 1e30]), 8.0);
        assert_eq!(bound(vec![0.0, 0.0, 7.0]), 7.0);
        let curve = |points: &[(f64, f64)]| {
            [Curve { name: "<x>".into(), points: points.into(), color: 0, dashed: false }]
        };
        let svg = chart("t", Scale::Plain, &curve(&[(1.0, 2.0), (2.0, 1e30), (3.0, 1.0)]));
        assert!(svg.contains("cut off") && svg.contains("&lt;x&gt;") && !svg.contains("<x>"));
        assert!(chart("t", Scale::Plain, &curve(&[(1.0, f64::NAN)])).is_empty());
    }
}
