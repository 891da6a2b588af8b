//! A picture as a description: images, and over them lines, areas and text. One description is
//! written as PNG, its images pixel by pixel as they were given, or as SVG.

use super::colors::{Color, hex};
use super::fonts;
use super::format::Format;
use crate::note;
use anyhow::{Context, Result};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::Tree;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// An image of bytes, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Pixels from left to right.
    pub width: usize,
    /// Pixels from top to bottom.
    pub height: usize,
    /// RGB [height, width, 3].
    pub rgb: Vec<u8>,
}

impl Pixels {
    /// From values [height, width, channels] of 1 (grey) or 3 channels.
    pub fn new(width: usize, height: usize, channels: usize, values: &[u8]) -> Pixels {
        let rgb = match channels {
            1 => values.iter().flat_map(|&value| [value; 3]).collect(),
            _ => values.to_vec(),
        };
        assert_eq!(rgb.len(), width * height * 3, "an image has all its pixels");
        Pixels { width, height, rgb }
    }
}

/// Where a text's place lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Half of it is on each side.
    Middle,
    /// It ends there.
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Letters {
    /// Height of a line, about, in pixels.
    pub size: f64,
    /// Of the letters.
    pub color: Color,
    /// Where its place lies in it.
    pub anchor: Anchor,
}

impl Letters {
    /// That begin at their place.
    pub fn new(size: f64, color: Color) -> Letters {
        Letters { size, color, anchor: Anchor::Start }
    }
    /// The same with the place at `anchor`.
    pub fn at(self, anchor: Anchor) -> Letters {
        Letters { anchor, ..self }
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stroke {
    /// Of the line.
    pub color: Color,
    /// Pixels across.
    pub width: f64,
    /// Lengths of dashes and gaps in pixels; empty: none.
    pub dashes: &'static [u32],
}

impl Stroke {
    /// An unbroken line.
    pub fn new(color: Color, width: f64) -> Stroke {
        Stroke { color, width, dashes: &[] }
    }
    fn attributes(&self) -> String {
        let mut text = format!("stroke=\"{}\" stroke-width=\"{}\"", hex(self.color), self.width);
        if !self.dashes.is_empty() {
            let dashes: Vec<String> = self.dashes.iter().map(u32::to_string).collect();
            text += &format!(" stroke-dasharray=\"{}\"", dashes.join(" "));
        }
        text
    }
}

/// A picture, white at first; x and y count pixels from the upper left corner.
pub struct Canvas {
    width: usize,
    height: usize,
    images: Vec<((usize, usize), Pixels, usize)>,
    /// What lies over the images, as SVG.
    marks: String,
}

impl Canvas {
    /// A white picture.
    pub fn new(width: usize, height: usize) -> Canvas {
        Canvas {
            width: width.max(1),
            height: height.max(1),
            images: Vec::new(),
            marks: String::new(),
        }
    }

    /// Puts an image at (x, y), every pixel `zoom` times as wide and high. What lies outside is cut
    /// off. Images lie beneath all else.
    pub fn image(&mut self, place: (usize, usize), pixels: Pixels, zoom: usize) {
        self.images.push((place, pixels, zoom));
    }

    /// A filled area of `size` (width, height) at (x, y).
    pub fn area(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), color: Color) {
        let color = hex(color);
        let _ = writeln!(
            self.marks,
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" \
             fill=\"{color}\"/>"
        );
    }

    /// A frame round the area of `size` (width, height) at (x, y); its line's middle is the edge.
    pub fn frame(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), stroke: Stroke) {
        let stroke = stroke.attributes();
        let _ = writeln!(
            self.marks,
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" \
             fill=\"none\" {stroke}/>"
        );
    }

    /// A line through `points`.
    pub fn line(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.2},{y:.2}")).collect();
        let _ = writeln!(
            self.marks,
            "<polyline points=\"{}\" fill=\"none\" stroke-linejoin=\"round\" \
             stroke-linecap=\"round\" {}/>",
            points.join(" "),
            stroke.attributes()
        );
    }

    /// A disc round (x, y).
    pub fn dot(&mut self, (x, y): (f64, f64), radius: f64, color: Color) {
        let color = hex(color);
        let _ = writeln!(
            self.marks,
            "<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{radius}\" fill=\"{color}\"/>"
        );
    }

    /// A line of text whose letters stand on y, cut to `most` pixels.
    pub fn text(&mut self, (x, y): (f64, f64), text: &str, letters: Letters, most: f64) {
        self.write_text(&format!("x=\"{x:.2}\" y=\"{y:.2}\""), text, letters, most);
    }

    /// The same upwards, turned by a quarter: its letters stand on x.
    pub fn text_upwards(&mut self, (x, y): (f64, f64), text: &str, letters: Letters, most: f64) {
        let place = format!("transform=\"translate({x:.2} {y:.2}) rotate(-90)\"");
        self.write_text(&place, text, letters, most);
    }

    fn write_text(&mut self, place: &str, text: &str, letters: Letters, most: f64) {
        let anchor = match letters.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(&fonts::cut(text, letters.size, most));
        let (size, color) = (letters.size, hex(letters.color));
        let _ = writeln!(
            self.marks,
            "<text {place} font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{color}\">{text}\
             </text>"
        );
    }

    /// The picture as SVG; `images`: with its images, which are embedded as PNG.
    fn describe(&self, images: bool) -> Result<String> {
        let (width, height) = (self.width, self.height);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"'{}', sans-serif\">\n",
            fonts::FAMILY
        );
        if images {
            svg += "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n";
            for ((x, y), pixels, zoom) in &self.images {
                let (width, height) = (pixels.width * zoom, pixels.height * zoom);
                let data = BASE64_STANDARD.encode(png(&pixels.rgb, pixels.width, pixels.height)?);
                let _ = writeln!(
                    svg,
                    "<image x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" \
                     image-rendering=\"optimizeSpeed\" style=\"image-rendering:pixelated\" \
                     href=\"data:image/png;base64,{data}\"/>"
                );
            }
        }
        Ok(svg + &self.marks + "</svg>\n")
    }

    /// The picture as SVG. Its text is text, in the viewer's fonts.
    ///
    /// # Errors
    /// If an image is too large to be compressed.
    pub fn svg(&self) -> Result<String> {
        self.describe(true)
    }

    /// RGB [height, width, 3] of the picture.
    ///
    /// # Errors
    /// If the picture is too large.
    pub fn pixels(&self) -> Result<Vec<u8>> {
        let size = || format!("a picture of {}×{} pixels is too large", self.width, self.height);
        let mut rgb = vec![255; self.width * self.height * 3];
        for ((x, y), pixels, zoom) in &self.images {
            self.put(&mut rgb, (*x, *y), pixels, *zoom);
        }
        let sides = (u32::try_from(self.width)?, u32::try_from(self.height)?);
        let mut pixmap = Pixmap::new(sides.0, sides.1).with_context(size)?;
        for (to, from) in pixmap.data_mut().chunks_exact_mut(4).zip(rgb.chunks_exact(3)) {
            to.copy_from_slice(&[from[0], from[1], from[2], 255]);
        }
        let tree = Tree::from_str(&self.describe(false)?, &fonts::options(&self.marks))?;
        resvg::render(&tree, Transform::identity(), &mut pixmap.as_mut());
        for (to, from) in rgb.chunks_exact_mut(3).zip(pixmap.data().chunks_exact(4)) {
            to.copy_from_slice(&from[..3]);
        }
        Ok(rgb)
    }

    fn put(&self, rgb: &mut [u8], (x, y): (usize, usize), pixels: &Pixels, zoom: usize) {
        let rows = (pixels.height * zoom).min(self.height.saturating_sub(y));
        let columns = (pixels.width * zoom).min(self.width.saturating_sub(x));
        for row in 0..rows {
            for column in 0..columns {
                let from = (row / zoom * pixels.width + column / zoom) * 3;
                let to = ((y + row) * self.width + x + column) * 3;
                rgb[to..to + 3].copy_from_slice(&pixels.rgb[from..from + 3]);
            }
        }
    }

    /// The picture as PNG.
    ///
    /// # Errors
    /// As [`Canvas::pixels`].
    pub fn png(&self) -> Result<Vec<u8>> {
        png(&self.pixels()?, self.width, self.height)
    }

    /// Writes the picture to `path`, whole or not at all, as PNG or SVG by the name's ending.
    ///
    /// # Errors
    /// If the ending is neither, or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.write_as(path, Format::of(path)?)
    }

    /// The same in a format of its own.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_as(&self, path: &Path, format: Format) -> Result<()> {
        let missing = fonts::missing(&self.marks);
        if !missing.is_empty() && format == Format::Png {
            note!(
                "{}: no font of this machine has {}; there are boxes instead (Noto's fonts have \
                 the letters of the world)",
                path.display(),
                missing.chars().take(8).collect::<String>()
            );
        }
        let bytes = match format {
            Format::Png => self.png()?,
            Format::Svg => self.svg()?.into_bytes(),
        };
        crate::files::write_whole(path, |out| Ok(out.write_all(&bytes)?))
    }
}

fn png(rgb: &[u8], width: usize, height: usize) -> Result<Vec<u8>> {
    let mut png = Vec::new();
    let size = (u32::try_from(width)?, u32::try_from(height)?);
    // Half of what the fast level takes; of drawings no filter makes them smaller.
    let encoder =
        PngEncoder::new_with_quality(&mut png, CompressionType::Level(6), FilterType::NoFilter);
    encoder.write_image(rgb, size.0, size.1, ExtendedColorType::Rgb8)?;
    Ok(png)
}

/// `text` as XML takes it. What XML cannot hold at all becomes the sign for that.
fn escaped(text: &str) -> String {
    let one = |letter: char| match letter {
        '&' => Cow::from("&amp;"),
        '<' => Cow::from("&lt;"),
        '>' => Cow::from("&gt;"),
        '\t' | '\n' | '\r' => Cow::from(" "),
        '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => Cow::from("\u{fffd}"),
        letter => Cow::from(letter.to_string()),
    };
    text.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pictures::colors::INK;
    use resvg::usvg::roxmltree;

    fn at(canvas: &Canvas, (x, y): (usize, usize)) -> [u8; 3] {
        let rgb = canvas.pixels().unwrap();
        rgb[(y * canvas.width + x) * 3..][..3].try_into().unwrap()
    }

    #[test]
    fn images_lie_pixel_by_pixel_where_they_are_put() {
        let mut canvas = Canvas::new(40, 20);
        canvas.image((2, 3), Pixels::new(2, 2, 1, &[10, 20, 30, 40]), 3);
        canvas.image((38, 18), Pixels::new(2, 2, 1, &[50; 4]), 3);
        canvas.area((10.0, 0.0), (2.0, 2.0), [1, 2, 3]);
        for (place, value) in [
            ((1, 3), [255; 3]),
            ((2, 3), [10; 3]),
            ((4, 5), [10; 3]),
            ((5, 3), [20; 3]),
            ((2, 6), [30; 3]),
            ((7, 8), [40; 3]),
            ((8, 8), [255; 3]),
            ((39, 19), [50; 3]),
            ((11, 1), [1, 2, 3]),
        ] {
            assert_eq!(at(&canvas, place), value, "{place:?}");
        }
    }

    /// Pixels that `text` leaves.
    fn drawn(text: &str) -> Vec<u8> {
        let mut canvas = Canvas::new(120, 24);
        canvas.text((2.0, 18.0), text, Letters::new(16.0, INK), 110.0);
        canvas.pixels().unwrap()
    }

    #[test]
    fn letters_of_the_embedded_font_are_drawn_as_they_are() {
        assert!(drawn("I").iter().any(|&value| value < 100));
        for text in ["Война", "Ελλάς", "żółć", "Straße"] {
            let asked = "?".repeat(text.chars().count());
            assert_ne!(drawn(text), drawn(&asked), "{text}");
            let other: String = text.chars().rev().collect();
            assert_ne!(drawn(text), drawn(&other), "{text}: each letter its own");
        }
    }

    #[test]
    fn any_text_makes_sound_xml() {
        let text = "a < b & \"c\" ]]> \u{0}\u{1b}\u{fffe} \u{7f} дом\n";
        let mut canvas = Canvas::new(300, 30);
        canvas.image((0, 0), Pixels::new(1, 1, 3, &[1, 2, 3]), 2);
        canvas.text((0.0, 20.0), text, Letters::new(12.0, INK), 290.0);
        let svg = canvas.svg().unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let written = document.descendants().find(|node| node.has_tag_name("text")).unwrap();
        let expected = "a < b & \"c\" ]]> \u{fffd}\u{fffd}\u{fffd} \u{7f} дом ";
        assert_eq!(written.text().unwrap(), expected);
        assert!(document.descendants().any(|node| node.has_tag_name("image")));
        canvas.pixels().unwrap();
    }
}
