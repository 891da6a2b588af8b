//! Pictures for people: sheets of images with captions, as PNG.

mod canvas;
pub mod confusion;
pub mod sheet;

pub use canvas::Canvas;
