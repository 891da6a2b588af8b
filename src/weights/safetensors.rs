//! safetensors files of any program: tensors by name, in the order of their names as a person
//! counts (`features.3` before `features.10`), since the header's own order says nothing.

use super::{Kind, Numbers, Source, Tensor, Weights};
use crate::files::header;
use anyhow::{Context, Result, ensure};
use safetensors::tensor::Dtype;
use std::cmp::Ordering;

/// Whether `bytes` begin with a header's length and a header.
pub fn begins(bytes: &[u8]) -> bool {
    let length = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
    bytes.get(8) == Some(&b'{') && length.is_some_and(|length| length < 1 << 40)
}

/// Reads a safetensors file.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn read(source: &Source) -> Result<Weights> {
    let bytes = source.bytes();
    let size = u64::from_le_bytes(*bytes.first_chunk().context("the file was cut short")?);
    ensure!(size <= header::MOST_BYTES, header::too_large(size));
    let start = 8 + size as usize;
    let json = bytes.get(8..start).context("the file was cut short within its header")?;
    let read = header::read(json).context("the header is no safetensors header");
    let (header, metadata) = read?;
    ensure!(
        bytes.len() - start == header.data_len(),
        "the file has {} bytes, but its header speaks of {}: it was cut short or added to",
        bytes.len(),
        start.saturating_add(header.data_len())
    );
    let mut names = header.offset_keys();
    names.sort_by(|a, b| counted(a, b));
    let mut tensors = Vec::new();
    for name in names {
        let info = header.info(&name).expect("one of its names");
        let kind = match info.dtype {
            Dtype::F32 => Kind::F32,
            Dtype::F64 => Kind::F64,
            Dtype::F16 => Kind::F16,
            Dtype::BF16 => Kind::BF16,
            // Counters are no weights.
            _ => continue,
        };
        let (from, to) = info.data_offsets;
        let numbers = Numbers::whole(source, kind, start + from..start + to, info.shape.clone());
        let numbers = numbers.with_context(|| format!("tensor {name}"))?;
        tensors.push(Tensor { name, numbers });
    }
    ensure!(!tensors.is_empty(), "there are no tensors of floats in it");
    Ok(Weights { format: "safetensors", tensors, graph: None, metadata })
}

/// The order of two names in which their numbers count as such.
fn counted(a: &str, b: &str) -> Ordering {
    let parts = |name: &str| -> Vec<(u64, String)> {
        name.split('.').map(|part| (part.parse().unwrap_or(u64::MAX), part.to_string())).collect()
    };
    parts(a).cmp(&parts(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_as_a_person_counts() {
        let mut names =
            ["features.10.bias", "classifier.6.bias", "features.3.weight", "features.3.bias"];
        names.sort_by(|a, b| counted(a, b));
        let counted =
            ["classifier.6.bias", "features.3.bias", "features.3.weight", "features.10.bias"];
        assert_eq!(names, counted);
    }
}
