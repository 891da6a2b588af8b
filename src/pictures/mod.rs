//! Pictures for people: what the network sees, makes of it, and has learned, as PNG or SVG.

mod axis;
mod canvas;
pub mod cards;
pub mod chart;
pub mod colors;
pub mod confusion;
pub mod curves;
mod fonts;
mod format;
pub mod kernels;
pub mod maps;
pub mod sheet;
pub mod tiles;

pub use canvas::{Anchor, Canvas, Letters, Pixels, Stroke};
pub use format::{Format, check_out};
