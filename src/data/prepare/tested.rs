//! Which training images become the test split: a function of each file's name alone, so that it is
//! the same on every machine, in every order, and stays so when images are added.

use super::{Content, Item};
use crate::data::unpack::base_name;

/// Whether the image whose file has the base name `name` is a test image: the CRC-32 of the name
/// (zlib's; of its UTF-8 bytes, with the ending) as a number from 0 to below 2³², divided by 2³², is
/// below `fraction`.
pub(super) fn is_tested(name: &str, fraction: f64) -> bool {
    f64::from(crc32fast::hash(name.as_bytes())) < fraction * (1u64 << 32) as f64
}

/// Images to train on and images to test on, each in their order.
pub(super) fn part(images: Vec<Item>, fraction: f64) -> (Vec<Item>, Vec<Item>) {
    images.into_iter().partition(|item| !is_tested(&name_of_file(item), fraction))
}

/// The last part of an item's name.
fn name_of_file(item: &Item) -> String {
    match &item.content {
        Content::File(path) => super::name_of(path),
        Content::Part { .. } | Content::Row { .. } => base_name(&item.name).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python: `zlib.crc32(name.encode()) / 2**32`.
    #[test]
    fn names_are_parted_as_documented() {
        let names = [
            ("n01440764_10026.JPEG", 0.892_618_261),
            ("n01440764_10027.JPEG", 0.186_988_054),
            ("00.JPEG", 0.695_908_873),
        ];
        for (name, share) in names {
            assert!(is_tested(name, share + 1e-8) && !is_tested(name, share), "{name}");
        }
        assert!(!is_tested("", 0.0) && is_tested("", 1e-9), "the CRC-32 of nothing is 0");
    }
}
