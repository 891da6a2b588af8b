//! The confusion matrix as a picture: a row for each true class, a column for each predicted one,
//! the darker the larger the share of the row's images.

use super::canvas::{Anchor, Canvas, Letters, Pixels};
use super::colors::{Color, GREY, INK, WHITE};

/// Up to so many classes are named beside rows and above columns.
const NAMED: usize = 100;
/// Up to so many have their images written into the cells.
const COUNTED: usize = 24;
/// Room for a name at most, pixels.
const NAME: usize = 150;
/// Between parts, pixels.
const GAP: usize = 16;
/// Sides of the matrix, about, in pixels.
const SIDE: usize = 960;
/// More classes than this are more than pixels that anybody looks at.
pub const MOST: usize = 4096;

/// A share's colour: white, and from there evenly darker to a dark blue, which the colour-blind see
/// as others do. The square root keeps small shares from being white.
fn color(share: f64) -> Color {
    let dark = [8.0, 48.0, 107.0];
    let t = share.clamp(0.0, 1.0).sqrt();
    dark.map(|dark: f64| (255.0 + (dark - 255.0) * t).round() as u8)
}

/// Draws the matrix of `names.len()` classes, where `count(true, predicted)` says how many images.
pub fn confusion(names: &[String], count: impl Fn(usize, usize) -> u64) -> Canvas {
    let classes = names.len();
    let named = classes <= NAMED;
    let most = if classes <= COUNTED { 44 } else { 24 };
    let cell = (SIDE / classes).clamp(if named { 14 } else { 1 }, most);
    // As much as the longest name takes, about.
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let room = if named { (8 * longest).min(NAME) } else { 0 };
    let (aside, side) = (room + 2 * GAP, cell * classes);
    let (left, top) = (aside, aside + GAP);
    let mut canvas = Canvas::new((left + side + GAP).max(620), top + side + 4 * GAP);
    let title = Letters::new(15.0, INK);
    let wide = (left + side).max(600) as f64;
    canvas.text(
        (GAP as f64, 1.5 * GAP as f64),
        "rows: true class; columns: predicted",
        title,
        wide,
    );
    let mut pixels = Vec::with_capacity(classes * classes * 3);
    for row in 0..classes {
        let images: u64 = (0..classes).map(|column| count(row, column)).sum();
        let share = |column| count(row, column) as f64 / images.max(1) as f64;
        (0..classes).for_each(|column| pixels.extend(color(share(column))));
        let middle = |at: usize| (at + row * cell) as f64 + cell as f64 / 2.0 + 4.0;
        if named {
            let letters = Letters::new(12.0, INK);
            let (beside, above) = ((left - GAP / 2) as f64, (top - GAP / 2) as f64);
            let most = room as f64;
            canvas.text((beside, middle(top)), &names[row], letters.at(Anchor::End), most);
            canvas.text_upwards((middle(left), above), &names[row], letters, most);
        }
        for column in (0..classes).filter(|&c| classes <= COUNTED && count(row, c) > 0) {
            let ink = if share(column) > 0.35 { WHITE } else { INK };
            let x = (left + column * cell) as f64 + cell as f64 / 2.0;
            let letters = Letters::new(12.0, ink).at(Anchor::Middle);
            canvas.text((x, middle(top)), &count(row, column).to_string(), letters, cell as f64);
        }
    }
    canvas.image((left, top), Pixels::new(classes, classes, 3, &pixels), cell);
    scale(&mut canvas, (GAP as f64, (top + side + GAP) as f64));
    canvas
}

/// What the colours mean.
fn scale(canvas: &mut Canvas, (x, y): (f64, f64)) {
    canvas.text((x, y + 14.0), "share of the row's images", Letters::new(12.0, GREY), 170.0);
    for (i, share) in [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0].into_iter().enumerate() {
        let x = x + 170.0 + 52.0 * i as f64;
        canvas.area((x, y), (52.0, 18.0), color(share));
        let letters = Letters::new(12.0, GREY).at(Anchor::Middle);
        canvas.text((x + 26.0, y + 34.0), &format!("{:.0} %", 100.0 * share), letters, 52.0);
    }
}
