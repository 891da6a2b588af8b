//! Tables for people, in columns of text.

/// Rows as aligned columns; the first `left` to the left, the others to the right.
pub(super) fn columns(rows: &[Vec<String>], left: usize) -> String {
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(c, (cell, &w))| {
            if c < left { format!("{cell:<w$}") } else { format!("{cell:>w$}") }
        });
        format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_string()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
