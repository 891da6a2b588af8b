//! Small images of one size in rows, in blocks one below the other: the kernels of a layer or its
//! maps, a block a tower.

use super::canvas::{Canvas, Letters, Pixels};
use super::colors::{GREY, INK};

/// Pixels round everything.
const EDGE: usize = 12;
/// Heights of the heading, and of a block's name.
const HEADING: usize = 26;
const NAME: usize = 22;

/// Tiles of one tower.
#[derive(Clone, Debug)]
pub struct Block {
    /// Above them; empty: nothing.
    pub name: String,
    /// All of one size.
    pub tiles: Vec<Pixels>,
}

/// How tiles lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Tiles in a row.
    pub columns: usize,
    /// Every pixel of a tile becomes so many pixels wide and high.
    pub zoom: usize,
    /// Pixels between tiles.
    pub gap: usize,
}

impl Layout {
    /// For `blocks` of so many tiles, in columns as the 96 kernels of the paper's figure 3 lie (16
    /// of them, three rows a tower), each at least 44 pixels wide.
    pub fn of(tiles: usize, blocks: usize, side: usize) -> Layout {
        let all = (tiles * blocks) as f64;
        let wanted = (all * 16.0 / 6.0).sqrt().max(1.0);
        // Whole rows look best.
        let whole = (1..=tiles).filter(|columns| tiles.is_multiple_of(*columns));
        let away = |columns: &usize| (*columns as f64 / wanted).ln().abs();
        let nearest = whole.min_by(|a, b| away(a).total_cmp(&away(b))).unwrap_or(1);
        let columns = if away(&nearest) < 0.5 { nearest } else { wanted.round() as usize };
        Layout {
            columns: columns.clamp(1, tiles.max(1)),
            zoom: 44usize.div_ceil(side.max(1)),
            gap: 4,
        }
    }
}

/// Where a block's tiles lie in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    /// Pixels from the left edge to the first tile.
    pub x: usize,
    /// From the upper edge.
    pub y: usize,
    /// Tiles in the block.
    pub tiles: usize,
}

/// The blocks below `heading`; and where they lie.
pub fn draw(heading: &str, blocks: &[Block], layout: Layout) -> (Canvas, Vec<Place>) {
    let side = |of: fn(&Pixels) -> usize| {
        let first = blocks.iter().find_map(|block| block.tiles.first());
        first.map_or(1, of) * layout.zoom
    };
    let (wide, high) = (side(|tile| tile.width), side(|tile| tile.height));
    let rows = |block: &Block| block.tiles.len().div_ceil(layout.columns);
    let name = |block: &Block| if block.name.is_empty() { EDGE } else { NAME };
    let tiles_high = |block: &Block| rows(block) * (high + layout.gap);
    let width = (layout.columns * (wide + layout.gap)).saturating_sub(layout.gap);
    let top = if heading.is_empty() { 0 } else { HEADING };
    let height: usize = blocks.iter().map(|block| name(block) + tiles_high(block)).sum();
    // A heading is readable above few tiles too.
    let width = width.max(if heading.is_empty() { 1 } else { 420 });
    let mut canvas = Canvas::new(width + 2 * EDGE, top + height + EDGE);
    let letters = Letters::new(15.0, INK);
    canvas.text((EDGE as f64, 20.0), heading, letters, width as f64);
    let (mut y, mut places) = (top, Vec::new());
    for block in blocks {
        let letters = Letters::new(13.0, GREY);
        canvas.text((EDGE as f64, y as f64 + 15.0), &block.name, letters, width as f64);
        y += name(block);
        places.push(Place { x: EDGE, y, tiles: block.tiles.len() });
        if !block.tiles.is_empty() {
            canvas.image((EDGE, y), joined(block, layout, (wide, high)), 1);
        }
        y += tiles_high(block);
    }
    (canvas, places)
}

/// All tiles of a block, enlarged, as one image.
fn joined(block: &Block, layout: Layout, (wide, high): (usize, usize)) -> Pixels {
    let (across, down) = (wide + layout.gap, high + layout.gap);
    let (width, height) =
        (layout.columns * across, block.tiles.len().div_ceil(layout.columns) * down);
    let mut rgb = vec![255; width * height * 3];
    for (index, tile) in block.tiles.iter().enumerate() {
        let (x, y) = (index % layout.columns * across, index / layout.columns * down);
        for row in 0..high {
            for column in 0..wide {
                let from = (row / layout.zoom * tile.width + column / layout.zoom) * 3;
                let to = ((y + row) * width + x + column) * 3;
                rgb[to..to + 3].copy_from_slice(&tile.rgb[from..from + 3]);
            }
        }
    }
    Pixels { width, height, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_kernels_lie_as_in_its_figure() {
        assert_eq!(Layout::of(48, 2, 11), Layout { columns: 16, zoom: 4, gap: 4 });
        assert_eq!(Layout::of(96, 1, 11).columns, 16);
        assert_eq!(Layout::of(16, 2, 5).columns, 8);
        assert_eq!(Layout::of(1, 1, 3).columns, 1);
        // A prime number of them has no whole rows.
        assert_eq!(Layout::of(97, 1, 3).columns, 16);
    }
}
