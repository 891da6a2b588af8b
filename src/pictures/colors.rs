//! Colours that people tell apart whichever kind of colour-blindness they have: those of Okabe and
//! Ito, *Color Universal Design* (2008), the ones too light for lines on white left out. Where a
//! colour means something a second mark says it too: a dash, a frame, a sign.

/// Red, green, blue.
pub type Color = [u8; 3];

/// Paper.
pub const WHITE: Color = [255, 255, 255];
/// Text.
pub const INK: Color = [34, 34, 34];
/// Text of less weight, axes.
pub const GREY: Color = [110, 110, 110];
/// Lines that help the eye.
pub const PALE: Color = [225, 225, 225];
/// A bar that is not the right one.
pub const BLUE: Color = [0, 114, 178];
/// The right one, as the paper's figure 4 has it in red (Okabe and Ito's vermilion).
pub const RED: Color = [213, 94, 0];

/// One line after another of a chart.
pub const LINES: [Color; 6] =
    [BLUE, RED, [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233]];

/// `#rrggbb`.
pub fn hex([red, green, blue]: Color) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}
