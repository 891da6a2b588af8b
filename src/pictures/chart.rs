//! Lines over epochs: what figure 1 of the paper is, and a run's `curves.png`. Lines differ in
//! colour and dashes, so that they can be told apart without colours too.

use super::axis::{Axis, short};
use super::canvas::{Anchor, Canvas, Letters, Stroke};
use super::colors::{GREY, INK, LINES, PALE};
use super::fonts;

/// Dashes of one line after another.
const DASHES: [&[u32]; 4] = [&[], &[8, 5], &[2, 4], &[12, 4, 2, 4]];
/// Up to so many points of a line are marked by dots.
const DOTTED: usize = 40;
/// Letters of the title, and of all else.
const TITLE: f64 = 17.0;
const LETTERS: f64 = 13.0;

/// One line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// In the key.
    pub name: String,
    /// (x, y), from left to right. What is no number leaves a gap.
    pub points: Vec<(f64, f64)>,
}

/// Lines with their axes.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// Above.
    pub title: String,
    /// What goes to the right, and up.
    pub names: [String; 2],
    /// The lines.
    pub lines: Vec<Line>,
    /// A value to be reached: a dashed line across.
    pub target: Option<f64>,
    /// Whether y is written in per cent.
    pub percent: bool,
    /// Whether equal ratios of y take equal room.
    pub logarithmic: bool,
}

/// Where the lines themselves lie, and how.
struct Field {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    x: Axis,
    y: Axis,
}

impl Field {
    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (x, y) = (self.x.place(x), self.y.place(y));
        (self.left + x * self.width, self.top + (1.0 - y) * self.height)
    }
    fn right(&self) -> f64 {
        self.left + self.width
    }
    fn bottom(&self) -> f64 {
        self.top + self.height
    }
}

impl Chart {
    /// Draws it into the area of `size` (width, height) at (x, y).
    pub fn draw(&self, canvas: &mut Canvas, (x, y): (f64, f64), (width, height): (f64, f64)) {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let values = all().map(|point| point.1).chain(self.target);
        let last = all().map(|point| point.0).fold(1.0, f64::max);
        let field = Field {
            left: x + 74.0,
            top: y + 36.0,
            width: width - 74.0 - 18.0,
            height: height - 36.0 - 50.0,
            x: Axis { from: 0.0, to: last, logarithmic: false },
            y: Axis::of(values, self.logarithmic),
        };
        canvas.text((field.left, y + 24.0), &self.title, Letters::new(TITLE, INK), field.width);
        self.axes(canvas, &field, (x, y + height));
        if let Some(target) = self.target {
            let [from, to] = [0.0, last].map(|x| field.place((x, target)));
            canvas.line(&[from, to], Stroke { color: INK, width: 1.2, dashes: &[6, 4] });
        }
        for (index, line) in self.lines.iter().enumerate() {
            draw_line(canvas, &field, index, line);
        }
        self.key(canvas, &field);
    }

    /// Frame, marks and their numbers, names; `corner` is the lower left one of the area.
    fn axes(&self, canvas: &mut Canvas, field: &Field, corner: (f64, f64)) {
        let letters = Letters::new(LETTERS, GREY);
        let number = |y: f64| match self.percent {
            true => short(100.0 * y) + " %",
            false => short(y),
        };
        for y in field.y.marks((field.height / 40.0) as usize, false) {
            let (x, level) = field.place((0.0, y));
            canvas.line(&[(x, level), (field.right(), level)], Stroke::new(PALE, 1.0));
            let place = (x - 8.0, level + 4.5);
            canvas.text(place, &number(y), letters.at(Anchor::End), 60.0);
        }
        for x in field.x.marks((field.width / 60.0) as usize, true) {
            let (at, bottom) = field.place((x, field.y.from));
            canvas.line(&[(at, bottom), (at, bottom + 5.0)], Stroke::new(GREY, 1.0));
            canvas.text((at, bottom + 19.0), &short(x), letters.at(Anchor::Middle), 60.0);
        }
        let (left, bottom, right) = (field.left, field.bottom(), field.right());
        let axes = [(left, field.top), (left, bottom), (right, bottom)];
        canvas.line(&axes, Stroke::new(GREY, 1.0));
        let [across, up] = &self.names;
        let name = Letters::new(LETTERS, INK).at(Anchor::Middle);
        canvas.text(((left + right) / 2.0, corner.1 - 12.0), across, name, field.width);
        let place = (corner.0 + 16.0, field.top + field.height / 2.0);
        canvas.text_upwards(place, up, name, field.height);
    }

    /// Which line is which, in the corner at the upper right, on white.
    fn key(&self, canvas: &mut Canvas, field: &Field) {
        let named: Vec<(usize, &Line)> =
            self.lines.iter().enumerate().filter(|(_, line)| !line.name.is_empty()).collect();
        let target = self.target.map(|target| match self.percent {
            true => format!("target {} %", short(100.0 * target)),
            false => format!("target {}", short(target)),
        });
        let names = named.iter().map(|(_, line)| line.name.as_str()).chain(target.as_deref());
        let most = field.width * 0.6;
        let longest = names.map(|name| fonts::width(name, LETTERS)).fold(0.0, f64::max).min(most);
        let rows = named.len() + usize::from(target.is_some());
        if rows < 2 && target.is_none() {
            return;
        }
        let (left, top) = (field.right() - longest - 58.0, field.top + 2.0);
        let size = (longest + 56.0, rows as f64 * 20.0 + 8.0);
        canvas.area((left, top), size, super::colors::WHITE);
        canvas.frame((left, top), size, Stroke::new(PALE, 1.0));
        let mut row = |row: usize, name: &str, stroke: Stroke| {
            let y = top + 18.0 + 20.0 * row as f64;
            canvas.line(&[(left + 8.0, y - 4.0), (left + 42.0, y - 4.0)], stroke);
            canvas.text((left + 50.0, y), name, Letters::new(LETTERS, INK), most);
        };
        for (at, (index, line)) in named.iter().enumerate() {
            row(at, &line.name, stroke(*index));
        }
        if let Some(target) = target {
            row(named.len(), &target, Stroke { color: INK, width: 1.2, dashes: &[6, 4] });
        }
    }
}

fn stroke(index: usize) -> Stroke {
    let color = LINES[index % LINES.len()];
    Stroke { color, width: 2.2, dashes: DASHES[index % DASHES.len()] }
}

fn draw_line(canvas: &mut Canvas, field: &Field, index: usize, line: &Line) {
    let there = |point: &(f64, f64)| {
        point.0.is_finite() && point.1.is_finite() && (!field.y.logarithmic || point.1 > 0.0)
    };
    for piece in line.points.split(|point| !there(point)).filter(|piece| !piece.is_empty()) {
        let piece: Vec<(f64, f64)> = piece.iter().map(|point| field.place(*point)).collect();
        canvas.line(&piece, stroke(index));
        if line.points.len() <= DOTTED {
            piece.iter().for_each(|place| canvas.dot(*place, 3.0, LINES[index % LINES.len()]));
        }
    }
}
