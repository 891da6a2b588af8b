//! A sheet of cards: images, each with a title and what a network makes of it, as figure 4 of the
//! paper has them. The right label is red, framed and ticked.

use super::canvas::{Anchor, Canvas, Letters, Pixels, Stroke};
use super::colors::{BLUE, Color, GREY, INK, RED, WHITE};

/// Images are enlarged, pixel by pixel, until they are at least so many pixels wide.
const WIDE: usize = 160;
/// The sheet's width, about, in pixels, unless the number of columns is given.
const SHEET: usize = 1300;
/// Pixels between cards, and from the edge.
const GAP: usize = 16;
/// Height of a label's row, and of the letters in it.
const ROW: usize = 22;
const LETTERS: f64 = 13.0;
/// Height of the title's row.
const TITLE: usize = 24;
/// Height of the heading's row.
const HEADING: usize = 34;
/// Pixels for the percentage beside a bar.
const PERCENT: f64 = 54.0;

/// One image and what there is to say of it.
#[derive(Clone, Debug)]
pub struct Card {
    /// The image.
    pub image: Pixels,
    /// Below it, in one line.
    pub title: String,
    /// Below that, the most probable first; none: no bars.
    pub labels: Vec<Guess>,
}

/// A label that a network gives an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// Its name.
    pub label: String,
    /// How probable it is, from 0 to 1.
    pub probability: f64,
    /// Whether it is known to be the right one.
    pub is_right: bool,
}

/// `cards` side by side, row after row of `columns`, or of as many as fit; `heading`, where it says
/// something, above them.
pub fn sheet(heading: &str, cards: &[Card], columns: Option<usize>) -> Canvas {
    let most = |of: &dyn Fn(&Card) -> usize| cards.iter().map(of).max().unwrap_or(1);
    let zoom = |card: &Card| WIDE.div_ceil(card.image.width.max(1)).max(1);
    let image = most(&|card| card.image.width * zoom(card));
    let image_high = most(&|card| card.image.height * zoom(card));
    let labels = most(&|card| card.labels.len());
    let (wide, high) = (image + GAP, image_high + TITLE + labels * ROW + GAP);
    let columns = columns.unwrap_or((SHEET / wide).max(1)).clamp(1, cards.len().max(1));
    let rows = cards.len().div_ceil(columns);
    let top = if heading.is_empty() { GAP } else { GAP + HEADING };
    let mut canvas = Canvas::new(columns * wide + GAP, rows * high + top);
    let across = (columns * wide - GAP) as f64;
    let below = GAP as f64 + 0.6 * HEADING as f64;
    canvas.text((GAP as f64, below), heading, Letters::new(18.0, INK), across);
    for (place, card) in cards.iter().enumerate() {
        let (x, y) = (GAP + place % columns * wide, top + place / columns * high);
        let aside = (image - card.image.width * zoom(card)) / 2;
        canvas.image((x + aside, y), card.image.clone(), zoom(card));
        let (left, width) = (x as f64, image as f64);
        let below = (y + image_high) as f64;
        let letters = Letters::new(15.0, INK).at(Anchor::Middle);
        canvas.text((left + width / 2.0, below + 17.0), &card.title, letters, width);
        for (row, guess) in card.labels.iter().enumerate() {
            bar(&mut canvas, (left, below + (TITLE + row * ROW) as f64), width, guess);
        }
    }
    canvas
}

/// One label over its bar, which ends at full width where it is certain.
fn bar(canvas: &mut Canvas, (x, y): (f64, f64), width: f64, guess: &Guess) {
    let (room, high) = (width - PERCENT, ROW as f64 - 3.0);
    let color = if guess.is_right { RED } else { BLUE };
    let long = (guess.probability.clamp(0.0, 1.0) * room).max(1.0);
    canvas.area((x, y), (room, high), tint(color, 0.12));
    canvas.area((x, y), (long, high), tint(color, 0.45));
    let beside = if guess.is_right { 16.0 } else { 0.0 };
    let letters = Letters::new(LETTERS, INK);
    canvas.text((x + 4.0, y + 14.0), &guess.label, letters, room - 8.0 - beside);
    if guess.is_right {
        let inside = (room - 1.5, high - 1.5);
        canvas.frame((x + 0.75, y + 0.75), inside, Stroke::new(RED, 1.5));
        let tick = [(-15.0, 10.0), (-11.0, 14.0), (-5.0, 5.0)];
        let tick = tick.map(|(right, down)| (x + room + right, y + down));
        canvas.line(&tick, Stroke::new(RED, 2.0));
    }
    let letters = Letters::new(LETTERS, GREY).at(Anchor::End);
    let percent = format!("{:.1} %", 100.0 * guess.probability);
    canvas.text((x + width, y + 14.0), &percent, letters, PERCENT);
}

/// So much of `color` on white.
fn tint(color: Color, much: f64) -> Color {
    let mix = |i: usize| {
        let (color, white) = (f64::from(color[i]), f64::from(WHITE[i]));
        (white + (color - white) * much).round() as u8
    };
    [mix(0), mix(1), mix(2)]
}
