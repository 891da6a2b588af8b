//! An RGB picture that images and text are put on.

use anyhow::Result;
use font8x8::UnicodeFonts;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use std::io::Write;
use std::path::Path;

/// Side of a character, pixels.
pub const LETTER: usize = 8;

/// A picture [height, width, 3], white at first.
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    /// A white picture.
    pub fn new(width: usize, height: usize) -> Canvas {
        Canvas { width, height, pixels: vec![255; width * height * 3] }
    }

    fn set(&mut self, x: usize, y: usize, color: [u8; 3]) {
        if x < self.width && y < self.height {
            let at = (y * self.width + x) * 3;
            self.pixels[at..at + 3].copy_from_slice(&color);
        }
    }

    /// Puts a square image of `side`×`side` pixels with `channels` (1 or 3) values each at (x, y),
    /// every pixel `zoom` times as wide and high. What lies outside is cut off.
    pub fn image(
        &mut self,
        (x, y): (usize, usize),
        pixels: &[u8],
        side: usize,
        channels: usize,
        zoom: usize,
    ) {
        for row in 0..side * zoom {
            for column in 0..side * zoom {
                let at = (row / zoom * side + column / zoom) * channels;
                let color = match channels {
                    1 => [pixels[at]; 3],
                    _ => [pixels[at], pixels[at + 1], pixels[at + 2]],
                };
                self.set(x + column, y + row, color);
            }
        }
    }

    /// Writes one line of black text with its top left corner at (x, y), cut to `width` pixels.
    /// Characters that the font lacks become question marks.
    pub fn text(&mut self, (x, y): (usize, usize), text: &str, width: usize) {
        let most = width / LETTER;
        let long = text.chars().count() > most;
        let kept = if long { most.saturating_sub(2) } else { most };
        let dots = if long { ".." } else { "" };
        for (i, letter) in text.chars().take(kept).chain(dots.chars()).enumerate() {
            let glyph = font8x8::BASIC_FONTS
                .get(letter)
                .or_else(|| font8x8::LATIN_FONTS.get(letter))
                .or_else(|| font8x8::BASIC_FONTS.get('?'))
                .unwrap_or_default();
            for (row, bits) in glyph.iter().enumerate() {
                for column in (0..LETTER).filter(|column| bits >> column & 1 == 1) {
                    self.set(x + i * LETTER + column, y + row, [0; 3]);
                }
            }
        }
    }

    /// Writes the picture as PNG to `path`, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut png = Vec::new();
        PngEncoder::new(&mut png).write_image(
            &self.pixels,
            self.width as u32,
            self.height as u32,
            ExtendedColorType::Rgb8,
        )?;
        crate::files::write_whole(path, |out| Ok(out.write_all(&png)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_text_land_where_they_are_put() {
        let mut canvas = Canvas::new(40, 20);
        canvas.image((2, 3), &[10, 20, 30, 40], 2, 1, 3);
        let at = |canvas: &Canvas, x: usize, y: usize| canvas.pixels[(y * 40 + x) * 3];
        assert_eq!(
            [(1, 3), (2, 3), (4, 5), (5, 3), (2, 6), (7, 8), (8, 8)]
                .map(|(x, y)| at(&canvas, x, y)),
            [255, 10, 10, 20, 30, 40, 255]
        );
        let ink = |canvas: &Canvas| canvas.pixels.iter().filter(|&&p| p == 0).count();
        canvas.text((0, 10), "I", 16);
        let one = ink(&canvas);
        assert!(one > 0);
        // Two letters fit, so of four nothing is left but the dots; nothing falls off the edge.
        canvas.text((36, 18), "IIII", 16);
        canvas.text((16, 10), "\u{4e2d}", 8);
        assert!(ink(&canvas) > one);
    }
}
