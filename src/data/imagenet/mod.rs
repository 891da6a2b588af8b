//! ImageNet's 1,000 classes, those of the contests from 2012 on, in the order of everybody's
//! weights: sorted by synset id.
//!
//! Weights that come without a class table take it from here, and class folders that are called
//! after synsets are shown with their names. The names are WordNet's; `LICENSE` beside this file is
//! theirs.

use super::dataset::Class;

/// Lines `n01440764 tench, Tinca tinca`.
const LINES: &str = include_str!("classes.txt");

/// How many there are.
pub const COUNT: usize = 1000;

/// Synset id and names of each class, in order.
fn each() -> impl Iterator<Item = (&'static str, &'static str)> {
    LINES.lines().filter_map(|line| line.split_once(' '))
}

/// The class table of a network with these [`COUNT`] outputs.
pub fn classes() -> Vec<Class> {
    each().map(|(id, name)| Class { id: id.into(), name: name.into(), number: None }).collect()
}

/// What a person calls the synset `id`, if it is one of the classes: `tench, Tinca tinca`.
pub fn name(id: &str) -> Option<&'static str> {
    each().find(|(known, _)| *known == id).map(|(_, name)| name)
}

/// The classes as a person reads them: those that have a synset's id for a name, as class folders
/// give it, with its name.
pub fn readable(mut classes: Vec<Class>) -> Vec<Class> {
    for class in classes.iter_mut().filter(|class| class.id == class.name) {
        if let Some(name) = name(&class.id) {
            class.name = name.into();
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sorted_and_known_classes_are_at_their_index() {
        let classes = classes();
        assert_eq!(classes.len(), COUNT);
        assert_eq!(LINES.lines().count(), COUNT);
        assert!(classes.windows(2).all(|pair| pair[0].id < pair[1].id));
        let synset = |id: &str| id.len() == 9 && id[1..].bytes().all(|b| b.is_ascii_digit());
        assert!(classes.iter().all(|c| c.id.starts_with('n') && synset(&c.id)));
        for (index, id, name) in [
            (0, "n01440764", "tench, Tinca tinca"),
            (134, "n02012849", "crane"),
            (281, "n02123045", "tabby, tabby cat"),
            (517, "n03126707", "crane"),
            (638, "n03710637", "maillot"),
            (639, "n03710721", "maillot, tank suit"),
            (999, "n15075141", "toilet tissue, toilet paper, bathroom tissue"),
        ] {
            assert_eq!((&*classes[index].id, &*classes[index].name), (id, name), "{index}");
            assert_eq!(super::name(id), Some(name));
        }
        assert_eq!(super::name("n00000000"), None);
    }

    /// The 20 photographs of the Python package foolbox have their class's index in the file's
    /// name; beside each what the picture shows, except the one of 741, which is none of a rug.
    #[test]
    fn photographs_are_of_the_class_at_their_index() {
        let classes = classes();
        for (index, shown) in [
            (22, "bald eagle"),
            (99, "goose"),
            (129, "spoonbill"),
            (243, "bull mastiff"),
            (251, "dalmatian"),
            (305, "dung beetle"),
            (317, "leafhopper"),
            (438, "beaker"),
            (455, "bottlecap"),
            (471, "cannon"),
            (541, "drum"),
            (559, "folding chair"),
            (609, "jeep"),
            (630, "Loafer"),
            (853, "thatch"),
            (915, "yurt"),
            (949, "strawberry"),
            (990, "buckeye"),
        ] {
            assert_eq!(classes[index].name.split(',').next(), Some(shown), "{index}");
        }
    }
}
