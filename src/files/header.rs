//! The JSON header of a safetensors file, read within bounds: a header says how much is to be made
//! of it, and one of 84 MB in small entries took 1.9 GB and 14 s.

use anyhow::{Result, ensure};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// A larger header is none of ours: a million classes take some 50 MB, all else some KB.
pub const MOST_BYTES: u64 = 64 << 20;
/// Entries of the metadata; ours has eight.
const MOST_ENTRIES: usize = 1 << 10;
/// Tensors; a layer has four.
const MOST_TENSORS: usize = 1 << 16;
/// Dimensions of a tensor; ours have six at most.
const MOST_DIMENSIONS: usize = 16;

/// The header that `json` is.
///
/// # Errors
/// If it is none, or beyond the bounds.
pub fn read(json: &[u8]) -> Result<(Metadata, BTreeMap<String, String>)> {
    let Header { metadata, mut tensors } = serde_json::from_slice(json)?;
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    Ok((Metadata::new(None, tensors)?, metadata))
}

/// The checksums by tensor, a JSON object.
///
/// # Errors
/// If it is none, or beyond the bounds.
pub fn read_sums(json: &str) -> Result<BTreeMap<String, String>> {
    // One more: the header's own.
    let Texts(sums) = serde_json::from_str::<Texts<{ MOST_TENSORS + 1 }>>(json)?;
    Ok(sums)
}

/// Whether a header of `bytes` bytes with so many `tensors` could be read again.
///
/// # Errors
/// If it could not.
pub fn check(bytes: usize, tensors: usize) -> Result<()> {
    ensure!(bytes as u64 <= MOST_BYTES, too_large(bytes as u64));
    ensure!(tensors <= MOST_TENSORS, "its {tensors} tensors are more than {MOST_TENSORS}");
    Ok(())
}

/// Why a header of `bytes` bytes is not read.
pub fn too_large(bytes: u64) -> String {
    format!("its header has {} MiB, more than the {} MiB read", bytes >> 20, MOST_BYTES >> 20)
}

/// The whole object.
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Header, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut metadata = None;
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" && metadata.is_none() {
                        let Texts(texts) = map.next_value::<Texts<MOST_ENTRIES>>()?;
                        metadata = Some(texts);
                        continue;
                    }
                    let Info { dtype, shape: Sizes(shape), data_offsets } = map.next_value()?;
                    let twice = format!("{name:?} is there twice");
                    if tensors.insert(name, TensorInfo { dtype, shape, data_offsets }).is_some() {
                        return Err(A::Error::custom(twice));
                    }
                    if tensors.len() > MOST_TENSORS {
                        let why = format!("it has more than {MOST_TENSORS} tensors");
                        return Err(A::Error::custom(why));
                    }
                }
                let metadata = metadata.unwrap_or_default();
                Ok(Header { metadata, tensors: tensors.into_iter().collect() })
            }
        }
        from.deserialize_map(Object)
    }
}

/// An object of at most `MOST` texts.
struct Texts<const MOST: usize>(BTreeMap<String, String>);

impl<'de, const MOST: usize> Deserialize<'de> for Texts<MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object<const MOST: usize>;
        impl<'de, const MOST: usize> Visitor<'de> for Object<MOST> {
            type Value = Texts<MOST>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts<MOST>, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some((name, text)) = map.next_entry()? {
                    texts.insert(name, text);
                    if texts.len() > MOST {
                        let why = format!("it has more than {MOST} entries");
                        return Err(A::Error::custom(why));
                    }
                }
                Ok(Texts(texts))
            }
        }
        from.deserialize_map(Object)
    }
}

/// A tensor's description.
#[derive(Deserialize)]
struct Info {
    dtype: Dtype,
    shape: Sizes,
    data_offsets: (usize, usize),
}

/// A tensor's shape.
struct Sizes(Vec<usize>);

impl<'de> Deserialize<'de> for Sizes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Sizes, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Sizes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of sizes")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Sizes, A::Error> {
                let mut sizes = Vec::new();
                while let Some(size) = list.next_element()? {
                    if sizes.len() == MOST_DIMENSIONS {
                        let why = format!("a tensor has more than {MOST_DIMENSIONS} dimensions");
                        return Err(A::Error::custom(why));
                    }
                    sizes.push(size);
                }
                Ok(Sizes(sizes))
            }
        }
        from.deserialize_seq(List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_within_bounds_is_what_the_library_reads() {
        let json = br#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},
            "__metadata__":{"k":"v"}, "a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}"#;
        let (tensors, metadata) = read(json).unwrap();
        let library: Metadata = serde_json::from_slice(json).unwrap();
        assert_eq!(tensors.offset_keys(), ["a", "b"]);
        for name in ["a", "b"] {
            let [ours, theirs] =
                [&tensors, &library].map(|header| format!("{:?}", header.info(name).unwrap()));
            assert_eq!(ours, theirs);
        }
        assert_eq!(metadata.get("k").map(String::as_str), Some("v"));
        assert_eq!(read(b"{}").unwrap().0.data_len(), 0);
    }

    #[test]
    fn what_is_beyond_bounds_is_refused() {
        let many = |n: usize, entry: &dyn Fn(usize) -> String| {
            (0..n).map(entry).collect::<Vec<_>>().join(",")
        };
        let entries = many(MOST_ENTRIES + 1, &|i| format!("\"{i}\":\"\""));
        let tensor =
            |i| format!("\"{i}\":{{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
        let tensors = many(MOST_TENSORS + 1, &tensor);
        let sizes = many(MOST_DIMENSIONS + 1, &|_| "1".into());
        for (json, word) in [
            (format!("{{\"__metadata__\":{{{entries}}}}}"), "more than 1024 entries"),
            (format!("{{{tensors}}}"), "more than 65536 tensors"),
            (
                format!(
                    "{{\"a\":{{\"dtype\":\"I8\",\"shape\":[{sizes}],\"data_offsets\":[0,1]}}}}"
                ),
                "more than 16 dimensions",
            ),
            (format!("{{{},{}}}", tensor(1), tensor(1)), "there twice"),
            ("[]".into(), "an object of tensors"),
        ] {
            let error = read(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(check(1 << 30, 3).is_err() && check(100, 1 << 20).is_err());
    }
}
