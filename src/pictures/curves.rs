//! How a run has gone, in four charts over its epochs: `curves.png` in its folder.

use super::canvas::Canvas;
use super::chart::{Chart, Line};

/// Width and height of one chart.
const SIZE: (usize, usize) = (500, 330);

/// One line of a chart: the key of `metrics.jsonl` it is of, and its name.
type Of = (&'static str, &'static str);

/// A chart: title, what goes up, lines, and whether it is in per cent or logarithmic.
struct Panel {
    title: &'static str,
    up: &'static str,
    lines: &'static [Of],
    percent: bool,
    logarithmic: bool,
}

const PANELS: [Panel; 4] = [
    Panel {
        title: "Loss",
        up: "nats",
        lines: &[("loss", "training"), ("val_loss", "validation")],
        percent: false,
        logarithmic: false,
    },
    Panel {
        title: "Error",
        up: "share of the images",
        lines: &[
            ("top1_error", "training, top-1"),
            ("val_top1_error", "validation, top-1"),
            ("val_top5_error", "validation, top-5"),
        ],
        percent: true,
        logarithmic: false,
    },
    Panel {
        title: "Learning rate",
        up: "of the weights",
        lines: &[("learning_rate", "")],
        percent: false,
        logarithmic: true,
    },
    Panel {
        title: "Speed of training",
        up: "images per second",
        lines: &[("images_per_second", "")],
        percent: false,
        logarithmic: false,
    },
];

/// The charts; `points` gives those (epoch, value) of a key, none where the run has no such number.
pub fn draw(points: impl Fn(&str) -> Vec<(f64, f64)>) -> Canvas {
    let mut canvas = Canvas::new(2 * SIZE.0, 2 * SIZE.1);
    for (place, panel) in PANELS.iter().enumerate() {
        let line = |(key, name): &Of| Line { name: name.to_string(), points: points(key) };
        let lines = panel.lines.iter().map(line).filter(|line| !line.points.is_empty());
        let chart = Chart {
            title: panel.title.into(),
            names: ["epochs".into(), panel.up.into()],
            lines: lines.collect(),
            target: None,
            percent: panel.percent,
            logarithmic: panel.logarithmic,
        };
        let size = (SIZE.0 as f64, SIZE.1 as f64);
        let corner = ((place % 2) as f64 * size.0, (place / 2) as f64 * size.1);
        chart.draw(&mut canvas, corner, size);
    }
    canvas
}
