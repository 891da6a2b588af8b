//! The letters of pictures. One font lies in the program, with Latin, Greek and Cyrillic letters,
//! so that a picture with those alone is the same on every machine; what it lacks comes, glyph by
//! glyph, from the machine's own fonts, which are looked for only then.

use resvg::usvg::fontdb::{Database, ID, Stretch, Style, Weight};
use resvg::usvg::{FontResolver, Options};
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Noto Sans, a part of it (`src/pictures/font/NotoSans-OFL.txt` is its licence).
const EMBEDDED: &[u8] = include_bytes!("font/NotoSans-Regular.ttf");
/// Its name, as pictures ask for it.
pub const FAMILY: &str = "Noto Sans";

/// Fonts, the embedded one first, and which of the others has been chosen for a character.
struct Fonts {
    database: Arc<Database>,
    embedded: ID,
    /// Those beside the embedded one, the most like it first.
    others: Vec<ID>,
    chosen: Mutex<HashMap<char, Option<ID>>>,
}

static OWN: LazyLock<Fonts> = LazyLock::new(|| Fonts::new(false));
static WORLD: LazyLock<Fonts> = LazyLock::new(|| Fonts::new(true));

impl Fonts {
    fn new(of_the_machine: bool) -> Fonts {
        let mut database = Database::new();
        database.load_font_data(EMBEDDED.to_vec());
        let embedded = database.faces().next().expect("the embedded font is one").id;
        if of_the_machine {
            database.load_system_fonts();
        }
        let mut others: Vec<ID> = database.faces().map(|face| face.id).collect();
        others.retain(|&id| id != embedded);
        others.sort_by_cached_key(|&id| rank(&database, id));
        Fonts { database: Arc::new(database), embedded, others, chosen: Mutex::default() }
    }

    /// The font, other than the embedded one, that has `letter`: one chosen before if it serves,
    /// since letters of one script belong together.
    fn other_with(&self, letter: char) -> Option<ID> {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&known) = chosen.get(&letter) {
            return known;
        }
        let mut before: Vec<ID> = chosen.values().flatten().copied().collect();
        before.sort_by_key(|id| self.others.iter().position(|other| other == id));
        before.dedup();
        let mut all = before.iter().chain(&self.others);
        let found = all.find(|&&id| self.has(id, letter)).copied();
        chosen.insert(letter, found);
        found
    }

    fn has(&self, id: ID, letter: char) -> bool {
        self.with(id, |font| font.charmap().map(letter).is_some_and(|glyph| glyph.to_u32() > 0))
            .unwrap_or(false)
    }

    fn with<T>(&self, id: ID, read: impl FnOnce(FontRef<'_>) -> T) -> Option<T> {
        let read = |data: &[u8], face| FontRef::from_index(data, face).ok().map(read);
        self.database.with_face_data(id, read).flatten()
    }
}

/// Order of preference: upright before slanted, usual weight and width, without serifs, not of one
/// width, then by name, so that a machine always chooses alike.
fn rank(database: &Database, id: ID) -> impl Ord + use<> {
    let face = database.face(id);
    let name = face.and_then(|face| face.families.first()).map(|(name, _)| name.clone());
    let name = name.unwrap_or_default();
    let odd = face.is_none_or(|face| face.style != Style::Normal);
    let weight = face.map_or(0, |face| face.weight.0.abs_diff(Weight::NORMAL.0));
    let width = face.is_none_or(|face| face.stretch != Stretch::Normal);
    let last_resort = name.contains("LastResort") || name.contains("Last Resort");
    let of_one_width = face.is_some_and(|face| face.monospaced) || name.contains("Mono");
    (last_resort, odd, width, weight, name.contains("Serif"), of_one_width, name)
}

/// Whether the embedded font has all there is to `text`.
fn is_plain(text: &str) -> bool {
    text.chars().all(|letter| letter.is_control() || OWN.has(OWN.embedded, letter))
}

/// The letters of `text` that no font has, and that are drawn as boxes; each once.
pub fn missing(text: &str) -> String {
    if is_plain(text) {
        return String::new();
    }
    let mut missing = String::new();
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        let there = || OWN.has(OWN.embedded, letter) || WORLD.other_with(letter).is_some();
        if !missing.contains(letter) && !there() {
            missing.push(letter);
        }
    }
    missing
}

/// How text is laid out in a picture that holds `text`.
pub fn options(text: &str) -> Options<'static> {
    let fonts: &'static Fonts = if is_plain(text) { &OWN } else { &WORLD };
    let resolver = FontResolver {
        select_font: Box::new(|_, _| Some(fonts.embedded)),
        select_fallback: Box::new(|letter, tried, _| {
            fonts.other_with(letter).filter(|id| !tried.contains(id))
        }),
    };
    Options {
        font_family: FAMILY.to_string(),
        font_resolver: resolver,
        fontdb: fonts.database.clone(),
        ..Options::default()
    }
}

/// About how wide `text` is in pixels in letters of `size`: the sum of what its letters take by
/// themselves.
pub fn width(text: &str, size: f64) -> f64 {
    text.chars().map(|letter| advance(letter) * size).sum()
}

/// How far `letter` moves on, in parts of the size.
fn advance(letter: char) -> f64 {
    let of = |fonts: &Fonts, id| {
        fonts.with(id, |font| {
            let glyph = font.charmap().map(letter)?;
            let (size, place) = (Size::unscaled(), LocationRef::default());
            let units = f64::from(font.metrics(size, place).units_per_em);
            Some(f64::from(font.glyph_metrics(size, place).advance_width(glyph)?) / units)
        })
    };
    if let Some(advance) = of(&OWN, OWN.embedded).flatten() {
        return advance;
    }
    WORLD.other_with(letter).and_then(|id| of(&WORLD, id).flatten()).unwrap_or(MISSING)
}

/// How wide the box is that stands for a letter that no font has.
const MISSING: f64 = 0.6;

/// `text` cut to `most` pixels, with an ellipsis where something is missing.
pub fn cut(text: &str, size: f64, most: f64) -> String {
    if width(text, size) <= most {
        return text.to_string();
    }
    let mut room = most - width("…", size);
    let mut kept = String::new();
    for letter in text.chars() {
        room -= advance(letter) * size;
        if room < 0.0 {
            break;
        }
        kept.push(letter);
    }
    kept.truncate(kept.trim_end().len());
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_font_has_the_letters_of_europe() {
        assert!(is_plain("Straße, żółw, Ελλάδα, Україна, naïve, 10 %, “…” – №"));
        assert!(!is_plain("中") && !is_plain("ひ"));
    }

    /// Advances in Noto Sans: 618, 258 and 907 of 1000 units.
    #[test]
    fn widths_are_those_of_the_font() {
        for (letter, units) in [("n", 618.0), ("i", 258.0), ("M", 907.0)] {
            let measured = width(letter, 1000.0);
            assert!((measured - units).abs() < 0.01, "{letter}: {measured}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_to_fit() {
        assert_eq!(cut("tench", 12.0, 100.0), "tench");
        let cut = cut("great white shark, white shark, man-eater", 12.0, 100.0);
        assert!(cut.ends_with('…') && cut.starts_with("great white"), "{cut}");
        assert!(width(&cut, 12.0) <= 100.0);
    }
}
