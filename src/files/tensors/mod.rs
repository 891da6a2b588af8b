//! Tensors in a file: safetensors, written whole or not at all, every byte under a checksum.
//!
//! safetensors notices no flipped bit, so the metadata entry `checksums` holds a JSON object with
//! the CRC-32 (zlib's, eight hexadecimal digits) of each tensor's bytes, and under `header` that of
//! the JSON header as it stands in the file but with the value of `checksums` empty. `checksums` is
//! the last entry of the metadata. The header is written by hand, not by the library, because that
//! orders metadata at random, and two equal runs shall leave equal files.

mod elsewhere;
mod values;

pub use elsewhere::saved_elsewhere;
pub use values::{Sink, Values, write_floats};

use super::header;
use super::mapped::MappedFloats;
use super::write_whole;
use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, Metadata};
use serde_json::json;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FIELD: &str = "\"checksums\":\"";

/// What a tensor is called and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name in the file.
    pub name: String,
    /// What its numbers are: one of the kinds of [`Values`].
    pub dtype: Dtype,
    /// Its shape; the last index is the fastest.
    pub shape: Vec<usize>,
}

impl Description {
    /// The tensor `name` of `shape`, of f32.
    pub fn floats(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Description {
        Description { name: name.into(), dtype: Dtype::F32, shape: shape.into() }
    }

    fn values(&self) -> usize {
        self.shape.iter().product()
    }

    fn bytes(&self) -> usize {
        self.values() * self.dtype.bitsize() / 8
    }

    fn other_values(&self) -> String {
        format!("{} has other values than its description", self.name)
    }
}

/// Writes the file `path` with `tensors`, whose values `fill(index)` gives or lends one after the
/// other, and the entries of `metadata` in their order.
///
/// # Errors
/// If `fill` fails or gives other values than described, or the file cannot be written.
pub fn write<V: Borrow<Values>>(
    path: &Path,
    metadata: &[(&str, String)],
    tensors: &[Description],
    mut fill: impl FnMut(usize) -> Result<V>,
) -> Result<()> {
    write_streamed(path, metadata, tensors, |index, sink| {
        let values = fill(index)?;
        let (values, tensor) = (values.borrow(), &tensors[index]);
        ensure!(values.kind() == (tensor.dtype, tensor.values()), tensor.other_values());
        values.write(sink)
    })
}

/// As [`write()`], but `fill(index, sink)` writes the bytes of a tensor's numbers, the lowest first,
/// as they come into being, so that a tensor may be larger than the memory.
///
/// # Errors
/// If `fill` fails or writes more or less than described, or the file cannot be written.
pub fn write_streamed(
    path: &Path,
    metadata: &[(&str, String)],
    tensors: &[Description],
    mut fill: impl FnMut(usize, &mut Sink<'_>) -> Result<()>,
) -> Result<()> {
    write_whole(path, |out| {
        // All checksums have eight digits, so the header's length is known before they are.
        let zeros = vec![0; tensors.len()];
        let length = header(metadata, tensors, &checksums(0, tensors, &zeros)).len() as u64;
        header::check(length as usize, tensors.len())?;
        out.write_all(&vec![0; 8 + length as usize])?;
        let mut sums = Vec::with_capacity(tensors.len());
        for (index, tensor) in tensors.iter().enumerate() {
            let mut sink = Sink::new(out);
            fill(index, &mut sink)?;
            let (bytes, sum) = sink.end();
            ensure!(bytes == tensor.bytes() as u64, tensor.other_values());
            sums.push(sum);
        }
        let full = header(metadata, tensors, &checksums(0, tensors, &sums));
        let own = crc32fast::hash(&without_checksums(&full).expect("just written").0);
        out.seek(SeekFrom::Start(0))?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&header(metadata, tensors, &checksums(own, tensors, &sums)))?;
        Ok(())
    })
}

/// The value of the metadata entry `checksums`.
fn checksums(own: u32, tensors: &[Description], sums: &[u32]) -> String {
    let mut all = serde_json::Map::new();
    all.insert("header".into(), format!("{own:08x}").into());
    for (tensor, sum) in tensors.iter().zip(sums) {
        all.insert(tensor.name.clone(), format!("{sum:08x}").into());
    }
    serde_json::Value::Object(all).to_string()
}

/// The JSON header, padded with spaces to a multiple of eight bytes.
fn header(metadata: &[(&str, String)], tensors: &[Description], sums: &str) -> Vec<u8> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = String::from("{\"__metadata__\":{");
    for (key, value) in metadata {
        text += &format!("{}:{},", quoted(key), quoted(value));
    }
    text += &format!("\"checksums\":{}}}", quoted(sums));
    let mut offset = 0;
    for tensor in tensors {
        let Description { name, dtype, shape } = tensor;
        let end = offset + tensor.bytes();
        let info = json!({"dtype": dtype, "shape": shape, "data_offsets": [offset, end]});
        text += &format!(",{}:{info}", quoted(name));
        offset = end;
    }
    text.push('}');
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    text.into_bytes()
}

/// The header with the value of `checksums` empty, and that value (still JSON-escaped).
fn without_checksums(header: &[u8]) -> Option<(Vec<u8>, String)> {
    let start = header.windows(FIELD.len()).position(|w| w == FIELD.as_bytes())? + FIELD.len();
    let mut end = start;
    while *header.get(end)? != b'"' {
        end += if header[end] == b'\\' { 2 } else { 1 };
    }
    let value = String::from_utf8(header.get(start..end)?.to_vec()).ok()?;
    Some(([&header[..start], &header[end..]].concat(), value))
}

/// What a file is to a person who reads what is wrong with it.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Such as `checkpoint`.
    pub name: &'static str,
    /// The way out of damage, such as `use another checkpoint`.
    pub remedy: &'static str,
}

/// A file of tensors, its header read and verified; tensors are verified as they are read.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    subject: Subject,
    file: Arc<Mmap>,
    /// Where the tensors begin.
    start: usize,
    header: Metadata,
    metadata: BTreeMap<String, String>,
    sums: BTreeMap<String, String>,
}

impl Reader {
    /// Opens a file that [`write()`] wrote. Err: it is damaged or something else, and how.
    pub fn open(path: &Path, subject: Subject) -> Result<Reader> {
        Reader::read_header(path, subject).with_context(|| path.display().to_string())
    }

    fn read_header(path: &Path, subject: Subject) -> Result<Reader> {
        let Subject { name, remedy } = subject;
        let file = File::open(path).with_context(|| format!("the {name} cannot be opened"))?;
        let length = file.metadata()?.len();
        ensure!(file.metadata()?.is_file(), "this is a folder, not a {name}");
        ensure!(length >= 8, "the file has {length} bytes, too few for a {name}");
        // SAFETY: these files are replaced by renaming, never written in place, by us at least.
        let file = Arc::new(unsafe { Mmap::map(&file) }.context("the file cannot be mapped")?);
        let size = u64::from_le_bytes(*file.first_chunk().context("the file was cut short")?);
        ensure!(
            size <= length - 8,
            "this is no {name} (safetensors file), or its first bytes are damaged"
        );
        ensure!(size <= header::MOST_BYTES, header::too_large(size));
        let bytes = &file[8..8 + size as usize];
        let (header, metadata) =
            header::read(bytes).context("the header is no safetensors header")?;
        let data = header.data_len() as u64;
        ensure!(
            length - 8 - size == data,
            "the file has {length} bytes, but its header speaks of {}: it was cut short or added \
             to",
            (8 + size).saturating_add(data)
        );
        let sums = match metadata.get("checksums") {
            None => bail!(
                "it has no checksums, so alexnet did not write it (`alexnet import` makes a \
                 checkpoint of other programs' weights)"
            ),
            Some(text) => header::read_sums(text).context("its checksums cannot be read")?,
        };
        let own = without_checksums(bytes).map(|(rest, _)| crc32fast::hash(&rest));
        ensure!(
            own.is_some_and(|own| sums.get("header") == Some(&format!("{own:08x}")))
                || !elsewhere::is_of_another(bytes),
            "another program saved it again, so its checksums are not its own (`alexnet import` \
             makes a {name} of it again)"
        );
        ensure!(
            own.map(|sum| format!("{sum:08x}")).as_ref() == sums.get("header"),
            "the header is damaged, its checksum is wrong; {remedy}"
        );
        let path = path.to_path_buf();
        Ok(Reader { path, subject, start: 8 + size as usize, file, header, metadata, sums })
    }

    /// The metadata entry `key`.
    pub fn entry(&self, key: &str) -> Result<&str> {
        self.metadata
            .get(key)
            .map(String::as_str)
            .with_context(|| format!("{}: it has no entry {key:?}", self.path.display()))
    }

    /// Whether there is a metadata entry `key`.
    pub fn has_entry(&self, key: &str) -> bool {
        self.metadata.contains_key(key)
    }

    /// The names of all tensors.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// The shape of the tensor `name`, if there is one; nothing of its values is read.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.header.info(name).map(|info| &info.shape[..])
    }

    /// Compares the checksums of all tensors.
    pub fn verify(&self) -> Result<()> {
        self.names().iter().try_for_each(|name| self.verified(name).map(|_| ()))
    }

    /// Shape and values of the F32 tensor `name`, its checksum verified.
    pub fn tensor(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let (shape, values) = self.floats(name)?;
        let bytes = &self.file[values];
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Ok((shape, values.collect()))
    }

    /// As [`Reader::tensor`], but the values stay in the file; None where the machine cannot use
    /// them so.
    pub fn mapped(&self, name: &str) -> Result<(Vec<usize>, Option<MappedFloats>)> {
        let (shape, values) = self.floats(name)?;
        Ok((shape, MappedFloats::new(&self.file, values)))
    }

    /// As [`Reader::mapped`], but nothing is read and so no checksum compared: for tensors whose
    /// values are used once, at the speed of the memory, where comparing would take as long as the
    /// use. [`Reader::verify`] compares.
    pub fn mapped_unread(&self, name: &str) -> Result<(Vec<usize>, Option<MappedFloats>)> {
        let (dtype, shape, values) = self.placed(name)?;
        self.expect(name, Dtype::F32, dtype)?;
        Ok((shape, MappedFloats::new(&self.file, values)))
    }

    /// The numbers of the I64 tensor `name`, its checksum verified.
    pub fn integers(&self, name: &str) -> Result<Vec<i64>> {
        let (dtype, _, values) = self.verified(name)?;
        self.expect(name, Dtype::I64, dtype)?;
        let (numbers, _) = self.file[values].as_chunks::<8>();
        Ok(numbers.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
    }

    /// The bytes of the U8 tensor `name` and its shape, its checksum verified.
    pub fn bytes(&self, name: &str) -> Result<(Vec<usize>, &[u8])> {
        let (dtype, shape, values) = self.verified(name)?;
        self.expect(name, Dtype::U8, dtype)?;
        Ok((shape, &self.file[values]))
    }

    fn expect(&self, name: &str, wanted: Dtype, dtype: Dtype) -> Result<()> {
        ensure!(dtype == wanted, "{}: it is {dtype:?}, not {wanted:?}", self.place(name));
        Ok(())
    }

    /// Shape of the F32 tensor `name` and the place of its values in the file.
    fn floats(&self, name: &str) -> Result<(Vec<usize>, Range<usize>)> {
        let (dtype, shape, values) = self.verified(name)?;
        self.expect(name, Dtype::F32, dtype)?;
        Ok((shape, values))
    }

    /// Type and shape of the tensor `name` and the place of its values in the file.
    fn placed(&self, name: &str) -> Result<(Dtype, Vec<usize>, Range<usize>)> {
        let info = self.header.info(name).context("there is no such tensor");
        let info = info.with_context(|| self.place(name))?;
        let (from, to) = info.data_offsets;
        Ok((info.dtype, info.shape.clone(), self.start + from..self.start + to))
    }

    /// As [`Reader::placed`], the values' checksum verified.
    fn verified(&self, name: &str) -> Result<(Dtype, Vec<usize>, Range<usize>)> {
        let (dtype, shape, values) = self.placed(name)?;
        let sum = format!("{:08x}", checksum(&self.file[values.clone()]));
        ensure!(
            self.sums.get(name) == Some(&sum),
            "{}: the values are damaged, their checksum is wrong; {}",
            self.place(name),
            self.subject.remedy
        );
        Ok((dtype, shape, values))
    }

    /// A tensor and its file, for errors.
    fn place(&self, name: &str) -> String {
        format!("{}, tensor {name}", self.path.display())
    }
}

/// The CRC-32 of `bytes`, made of its pieces' on all threads.
fn checksum(bytes: &[u8]) -> u32 {
    let pieces: Vec<crc32fast::Hasher> = bytes
        .par_chunks(1 << 20)
        .map(|piece| {
            let mut sum = crc32fast::Hasher::new();
            sum.update(piece);
            sum
        })
        .collect();
    let mut all = crc32fast::Hasher::new();
    pieces.iter().for_each(|piece| all.combine(piece));
    all.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(path: &Path) {
        let tensors = [
            Description::floats("a", [2, 3]),
            Description::floats("momentum/a", [3]),
            Description { name: "sum".into(), dtype: Dtype::U64, shape: vec![2] },
            Description { name: "fine".into(), dtype: Dtype::F64, shape: vec![1] },
        ];
        let metadata = [("config", "name = \"x\"\n\"checksums\":\"no\"".to_string())];
        let fill = |i| match i {
            0 => Values::F32(vec![1.5; 6]),
            1 => Values::F32(vec![2.5; 3]),
            2 => Values::U64(vec![1 << 40, 3]),
            _ => Values::F64(vec![0.1]),
        };
        write(path, &metadata, &tensors, |i| Ok(fill(i))).unwrap();
    }

    fn open(path: &Path) -> Result<Reader> {
        Reader::open(path, Subject { name: "example", remedy: "write it again" })
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        example(&path);
        let reader = open(&path).unwrap();
        assert_eq!(reader.tensor("a").unwrap(), (vec![2, 3], vec![1.5; 6]));
        assert_eq!(reader.tensor("momentum/a").unwrap().1, vec![2.5; 3]);
        assert!(reader.entry("config").unwrap().contains("\"checksums\":\"no\""));
        // The library reads it too, and finds no byte that does not belong.
        let bytes = std::fs::read(&path).unwrap();
        let library = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(library.tensor("a").unwrap().shape(), [2, 3]);
        let sum = library.tensor("sum").unwrap();
        assert_eq!((sum.dtype(), sum.shape()), (Dtype::U64, &[2][..]));
        assert_eq!(sum.data(), [(1u64 << 40).to_le_bytes(), 3u64.to_le_bytes()].concat());
        assert_eq!(library.tensor("fine").unwrap().data(), 0.1f64.to_le_bytes());
        assert!(reader.tensor("sum").unwrap_err().to_string().contains("U64, not F32"));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        example(&path);
        let good = std::fs::read(&path).unwrap();
        for byte in 0..good.len() {
            for bit in [0, 5, 7] {
                let mut bad = good.clone();
                bad[byte] ^= 1 << bit;
                std::fs::write(&path, &bad).unwrap();
                let read = open(&path).and_then(|reader| reader.verify());
                assert!(read.is_err(), "bit {bit} of byte {byte}");
            }
        }
    }

    #[test]
    fn every_cut_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        example(&path);
        let good = std::fs::read(&path).unwrap();
        for length in 0..good.len() {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(open(&path).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn values_that_do_not_fit_their_description_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let tensors = [Description::floats("a", [2])];
        for values in [Values::F32(vec![0.0; 3]), Values::U64(vec![0; 2])] {
            assert!(write(&path, &[], &tensors, |_| Ok(values.clone())).is_err(), "{values:?}");
        }
        assert!(!path.exists());
    }
}
