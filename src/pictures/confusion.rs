//! The confusion matrix as a picture: a row for each true class, a column for each predicted one, the
//! darker the larger the share of the row's images.

use super::canvas::{Canvas, LETTER};

/// Up to so many classes are named beside their rows.
const NAMED: usize = 100;
/// Room for a class's number and name, pixels.
const NAME: usize = 26 * LETTER;
/// Between parts, pixels.
const GAP: usize = 8;
/// Sides of the matrix, about, in pixels.
const SIDE: usize = 900;
/// More classes than this are more than pixels that anybody looks at.
pub const MOST: usize = 4096;

/// A share's colour: white, and from there evenly darker to a dark blue, which the colour-blind see as
/// others do.
fn color(share: f64) -> [u8; 3] {
    let dark = [8.0, 29.0, 88.0];
    // The square root keeps small shares from being white.
    let t = share.clamp(0.0, 1.0).sqrt();
    dark.map(|dark| (255.0 + (dark - 255.0) * t).round() as u8)
}

/// Draws the matrix of `names.len()` classes, where `count(true, predicted)` says how many images.
pub fn confusion(names: &[String], count: impl Fn(usize, usize) -> u64) -> Canvas {
    let classes = names.len();
    let named = classes <= NAMED;
    let cell = (SIDE / classes).clamp(1, 32).max(if named { LETTER + 1 } else { 1 });
    let left = if named { NAME + GAP } else { GAP };
    let top = 4 * GAP + 2 * LETTER;
    let side = cell * classes;
    let width = (left + side + GAP).max(left + 62 * LETTER);
    let mut canvas = Canvas::new(width, top + side + 2 * GAP + 3 * LETTER);
    let title = "rows: true class; columns: predicted, by number from 0";
    canvas.text((left, GAP), title, width - left);
    for row in 0..classes {
        let y = top + row * cell;
        if named {
            let number = format!("{row} {}", names[row]);
            canvas.text((GAP, y + (cell - LETTER) / 2), &number, NAME);
            // Numbers above the columns, as far apart as they need.
            if row % (3 * LETTER).div_ceil(cell) == 0 {
                let number = row.to_string();
                canvas.text((left + row * cell, top - GAP - LETTER), &number, 4 * LETTER);
            }
        }
        let images: u64 = (0..classes).map(|column| count(row, column)).sum();
        for column in 0..classes {
            let share = count(row, column) as f64 / images.max(1) as f64;
            // A line between cells, where there is room.
            let inner = if cell > 4 { cell - 1 } else { cell };
            canvas.image((left + column * cell, y), &color(share), 1, 3, inner);
        }
    }
    scale(&mut canvas, (left, top + side + GAP));
    canvas
}

/// What the colours mean.
fn scale(canvas: &mut Canvas, (x, y): (usize, usize)) {
    canvas.text((x, y), "share of the row:", 18 * LETTER);
    for (i, share) in [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0].into_iter().enumerate() {
        let x = x + (18 + 5 * i) * LETTER;
        canvas.image((x, y), &color(share), 1, 3, LETTER + LETTER / 2);
        canvas.text((x, y + 2 * LETTER), &format!("{:.0}%", 100.0 * share), 4 * LETTER);
    }
}
