//! Pictures for people: what the network sees, makes of it, and has learned, as PNG or SVG.

mod canvas;
pub mod cards;
pub mod colors;
pub mod confusion;
mod fonts;
mod format;
pub mod sheet;

pub use canvas::{Anchor, Canvas, Letters, Pixels, Stroke};
pub use format::{Format, check_out};
