//! JSON files that guard themselves: the last line of the object is a CRC-32 of all before it.
//!
//! ```json
//! {
//!   "format": 1,
//!   …
//!   "checksum": "90abcdef"
//! }
//! ```
//!
//! The file stays JSON for every other program. One without the line (written by a version from
//! before there was one, or changed by hand and the line taken out) is read as it is; readers
//! refuse keys that they do not know, so that damage to the line itself does not take it away.

use anyhow::{Result, bail, ensure};
use std::path::Path;

/// What stands before the eight digits, and behind.
const BEFORE: &str = ",\n  \"checksum\": \"";
const BEHIND: &str = "\"\n}\n";

/// A CRC-32 as it is written in JSON: eight digits of base 16.
pub fn hex(crc: u32) -> String {
    format!("{crc:08x}")
}

/// The CRC-32 of a file's bytes, as [`hex`] writes it.
pub fn of_file(path: &Path) -> std::io::Result<String> {
    Ok(hex(crc32fast::hash(&std::fs::read(path)?)))
}

/// `object`, as serde_json writes it over several lines, with its checksum and a line's end.
pub fn sealed(object: &str) -> String {
    let body = object.strip_suffix("\n}").expect("an object that is not empty");
    format!("{body}{BEFORE}{}{BEHIND}", hex(crc32fast::hash(body.as_bytes())))
}

/// The object in `text` without its checksum, which is compared where there is one.
///
/// # Errors
/// If the checksum is wrong.
pub fn opened(text: &str) -> Result<String> {
    let Some(at) = text.rfind(BEFORE) else { return Ok(text.to_string()) };
    let (body, line) = text.split_at(at);
    let Some(written) = line[BEFORE.len()..].strip_suffix(BEHIND) else {
        bail!("its checksum does not stand where it was written; {WAY_OUT}");
    };
    ensure!(written == hex(crc32fast::hash(body.as_bytes())), "its checksum is wrong; {WAY_OUT}");
    Ok(format!("{body}\n}}\n"))
}

const WAY_OUT: &str = "the file is damaged, so prepare the data set again, or was changed by hand, \
                       so take out its line `checksum`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_other_byte_is_found() {
        let object = serde_json::json!({"classes": ["Sandal", "Bag"], "format": 1});
        let plain = serde_json::to_string_pretty(&object).unwrap();
        let text = sealed(&plain);
        let read = |text: &str| -> Option<serde_json::Value> {
            serde_json::from_str(&opened(text).ok()?).ok()
        };
        assert_eq!(read(&text).unwrap(), object);
        assert_eq!(read(&plain).unwrap(), object, "one without a checksum");
        let keys = |value: &serde_json::Value| value.as_object().unwrap().len();
        assert_eq!(keys(&serde_json::from_str(&text).unwrap()), 3, "JSON to everyone");
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bad = text.clone().into_bytes();
                bad[at] ^= 1 << bit;
                let bad = String::from_utf8(bad).ok().and_then(|bad| read(&bad));
                // Refused, or the checksum's key became one that readers do not know.
                assert!(bad.is_none_or(|bad| keys(&bad) == 3), "bit {bit} of byte {at}");
            }
        }
    }
}
