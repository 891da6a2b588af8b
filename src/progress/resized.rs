//! A terminal that may become narrower while a bar is on it: what was one line is then several, all of
//! which have to go before the bar is drawn anew.

use console::Term;
use indicatif::TermLike;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Standard error, and how wide it was when the bar was drawn last.
#[derive(Debug)]
pub struct Resized {
    term: Term,
    /// In characters; a bar is one line, filled up with spaces to this width. 0: none is drawn.
    drawn: AtomicUsize,
}

impl Resized {
    /// Nothing is drawn yet.
    pub fn new() -> Resized {
        Resized { term: Term::buffered_stderr(), drawn: AtomicUsize::new(0) }
    }

    /// Goes back to where the bar began, and takes away what has become of it.
    fn take_away(&self) -> io::Result<()> {
        let (drawn, width) = (self.drawn.swap(0, Ordering::Relaxed), usize::from(self.width()));
        let more = rows(drawn, width).saturating_sub(1);
        if more > 0 {
            self.term.move_cursor_up(more)?;
            self.term.write_str("\r")?;
            self.term.clear_to_end_of_screen()?;
        }
        Ok(())
    }
}

/// Rows that `drawn` characters take where a row has `width`.
fn rows(drawn: usize, width: usize) -> usize {
    drawn.div_ceil(width.max(1))
}

impl TermLike for Resized {
    fn width(&self) -> u16 {
        self.term.size().1
    }

    fn height(&self) -> u16 {
        self.term.size().0
    }

    /// The first thing of each drawing; a bar is one line, so there is none to go up.
    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.take_away()?;
        self.term.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_left(n)
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.term.write_line(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        if text != "\r" {
            self.drawn.store(self.width().into(), Ordering::Relaxed);
        }
        self.term.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.term.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.term.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_takes_more_rows_where_they_are_short() {
        assert_eq!(
            [(0, 80), (80, 80), (80, 60), (80, 20), (81, 40)].map(|(d, w)| rows(d, w)),
            [0, 1, 2, 4, 3]
        );
        assert_eq!(rows(3, 0), 3);
    }
}
