//! Pieces of HTML. Whatever comes from a file, a name among them, goes through [`escape`].

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Text as it may stand between tags and within quotation marks of attributes. What HTML allows
/// nowhere becomes the character for it.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() && !matches!(c, '\n' | '\t') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// A fraction in per cent, the sign on the number's line; a dash for none.
pub fn percent(fraction: Option<f64>) -> String {
    fraction.map_or("–".into(), |fraction| format!("{:.2}\u{a0}%", 100.0 * fraction))
}

/// A file's bytes as an address, of the MIME type `kind`.
pub fn data_uri(kind: &str, bytes: &[u8]) -> String {
    format!("data:{kind};base64,{}", BASE64_STANDARD.encode(bytes))
}

/// A table with a caption, in a frame that can be scrolled. Cells are HTML; the first `left`
/// columns are text, the others numbers. Rows that are `own` stand out.
pub fn table(caption: &str, head: &[&str], left: usize, rows: &[(bool, Vec<String>)]) -> String {
    let class = |column: usize| if column < left { "" } else { " class=\"n\"" };
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = String>| -> String {
        let cell =
            |(column, cell): (usize, String)| format!("<{tag}{}>{cell}</{tag}>", class(column));
        cells.enumerate().map(cell).collect()
    };
    let head = cells("th", &mut head.iter().map(|text| escape(text)));
    let rows: String = rows
        .iter()
        .map(|(own, row)| {
            let own = if *own { " class=\"own\"" } else { "" };
            format!("<tr{own}>{}</tr>\n", cells("td", &mut row.iter().cloned()))
        })
        .collect();
    format!(
        "<div class=\"wide\"><table><caption>{}</caption><thead><tr>{head}</tr></thead>\n<tbody>\n\
         {rows}</tbody></table></div>\n",
        escape(caption)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_a_tag_or_ends_an_attribute() {
        assert_eq!(
            escape("<a href=\"x\" b='&'>\u{1b}\u{0}é\n"),
            "&lt;a href=&quot;x&quot; b=&#39;&amp;&#39;&gt;\u{fffd}\u{fffd}é\n"
        );
    }
}
