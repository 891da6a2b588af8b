//! Files of ours that another program saved again: their checksums are another file's, and that is
//! no damage.

use crate::files::header;
use anyhow::Result;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Whether the JSON header `bytes` is of another program's making: a tensor's description
/// there does not begin with the offsets, as in ours.
pub(super) fn is_of_another(bytes: &[u8]) -> bool {
    let ours = b":{\"data_offsets\"";
    !bytes.windows(ours.len()).any(|window| window == ours)
}

/// Whether the safetensors file `path` was written by another program.
///
/// # Errors
/// If it cannot be read.
pub fn saved_elsewhere(path: &Path) -> Result<bool> {
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let mut bytes = Vec::new();
    file.take(u64::from_le_bytes(length).min(header::MOST_BYTES)).read_to_end(&mut bytes)?;
    Ok(is_of_another(&bytes))
}
