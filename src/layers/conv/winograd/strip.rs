//! Rows of a map with the zeros around them, so that a tile needs no thought for edges.

/// Maps as a strip takes them: an image NHWC in memory, of which one group's channels are wanted,
/// `fold` × `fold` pixels side by side as channels of one.
///
/// A kernel of size s and stride f is a kernel of size ⌈s/f⌉ and stride 1 over maps folded by f:
/// that makes the paper's conv1, 11×11 with stride 4 over 3 channels, a 3×3 kernel over 48.
#[derive(Clone, Copy, Debug)]
pub struct Padded {
    pub height: usize,
    pub width: usize,
    /// Channels of a pixel in memory.
    pub channels: usize,
    /// The first channel wanted, and how many.
    pub first: usize,
    pub used: usize,
    pub fold: usize,
    /// Zeros before the first row and column, in pixels of the image.
    pub top: usize,
    pub left: usize,
}

/// Values of a folded pixel's share of a row in the paper's conv1: 4 pixels of 3 channels.
const SHARE: usize = 12;

/// As `copy_from_slice`; but so few values are copied in place, where a call would take as long
/// again.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32]) {
    match (<&mut [f32; SHARE]>::try_from(&mut *to), <&[f32; SHARE]>::try_from(from)) {
        (Ok(to), Ok(from)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}

impl Padded {
    /// Channels of a folded pixel.
    pub fn depth(&self) -> usize {
        self.fold * self.fold * self.used
    }

    /// `strip` [rows, width, depth] ← folded rows `row`, `row` + 1, … of the padded image `x`, from
    /// folded column `column` on.
    pub fn fill(
        &self,
        strip: &mut [f32],
        x: &[f32],
        (row, column): (usize, usize),
        (rows, width): (usize, usize),
    ) {
        let depth = self.depth();
        for (r, line) in strip[..rows * width * depth].chunks_exact_mut(width * depth).enumerate() {
            for within in 0..self.fold {
                let y = ((row + r) * self.fold + within).checked_sub(self.top);
                let y = y.filter(|&y| y < self.height);
                let source =
                    y.map(|y| &x[y * self.width * self.channels..][..self.width * self.channels]);
                self.fill_line(line, source, column, within);
            }
        }
    }

    /// One row of the image, from folded column `first` on, into its places of a folded row.
    fn fill_line(&self, line: &mut [f32], source: Option<&[f32]>, first: usize, within: usize) {
        let (depth, span) = (self.depth(), self.fold * self.used);
        let Some(source) = source else {
            for pixel in line.chunks_exact_mut(depth) {
                pixel[within * span..][..span].fill(0.0);
            }
            return;
        };
        if self.used == self.channels && self.fold == 1 {
            // The whole row is one run of values.
            let before = (self.left.saturating_sub(first) * depth).min(line.len());
            let source = source.get(first.saturating_sub(self.left) * depth..).unwrap_or(&[]);
            let (zeros, rest) = line.split_at_mut(before);
            let (inside, after) = rest.split_at_mut(source.len().min(rest.len()));
            zeros.fill(0.0);
            inside.copy_from_slice(&source[..inside.len()]);
            after.fill(0.0);
        } else if self.used == self.channels {
            // A folded pixel's share of this row is one run of values. Of those that lie inside the
            // image, which are nearly all, nothing is asked.
            let (start, before) = (first * span, self.left * self.used);
            let pixels = line.len() / depth;
            let edge = before.saturating_sub(start).div_ceil(span).min(pixels);
            let end = (before + source.len()).saturating_sub(start) / span;
            let inside = edge..end.clamp(edge, pixels);
            let (beginning, rest) = line.split_at_mut(inside.start * depth);
            let (middle, ending) = rest.split_at_mut(inside.len() * depth);
            let over_edge = |pixels: &mut [f32], mut at: usize| {
                for pixel in pixels.chunks_exact_mut(depth) {
                    for (i, to) in pixel[within * span..][..span].iter_mut().enumerate() {
                        let from = (at + i).checked_sub(before);
                        *to = from.and_then(|i| source.get(i)).copied().unwrap_or(0.0);
                    }
                    at += span;
                }
            };
            over_edge(beginning, start);
            over_edge(ending, start + inside.end * span);
            if !inside.is_empty() {
                let from = &source[start + inside.start * span - before..];
                for (to, from) in middle.chunks_exact_mut(depth).zip(from.chunks_exact(span)) {
                    copy(&mut to[within * span..][..span], from);
                }
            }
        } else {
            for (column, to) in line.chunks_exact_mut(self.used).enumerate() {
                let column = (first + column).checked_sub(self.left).filter(|&c| c < self.width);
                match column {
                    Some(c) => {
                        to.copy_from_slice(&source[c * self.channels + self.first..][..self.used])
                    }
                    None => to.fill(0.0),
                }
            }
        }
    }
}
