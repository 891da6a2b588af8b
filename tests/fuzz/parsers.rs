//! What each fuzz target does with its bytes. A parser may give any answer; it may not panic, hang,
//! or take memory that the bytes do not justify. Checksums are put right first, since a fuzzer
//! would not get past them.

use alexnet::config::Config;
use alexnet::data::area::Area;
use alexnet::data::decode::prepare_image;
use alexnet::data::exif as exif_data;
use alexnet::data::jpeg::Jpeg;
use alexnet::data::preparation::{Colour, Orientation, Preparation};
use alexnet::data::prepare::labelled::Parted;
use alexnet::data::prepare::{Backing, Content, cifar, idx as idx_files, matlab, tape};
use alexnet::data::prepare::{list as tables, parquet as parquet_files};
use alexnet::data::shard::Store;
use alexnet::data::shard::{RecordShape, Shard};
use alexnet::files::text as text_files;
use alexnet::train::checkpoint::Checkpoint;
use alexnet::weights::{self, Source, Weights};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Calls `read` with a file that holds `bytes`.
fn with_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    read(&path);
}

/// A shard of 2×3 RGB images, raw or JPEG as its header says; all records are read.
pub fn shard(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let mut store = Store::Raw;
    if bytes.len() >= 64 {
        if bytes[12] == 1 {
            store = Store::Jpeg;
        }
        let length = bytes.len() as u64;
        bytes[40..48].copy_from_slice(&length.to_le_bytes());
        let index = u64::from_le_bytes(bytes[32..40].try_into().unwrap());
        if let Some(index) = usize::try_from(index).ok().and_then(|at| bytes.get(at..)) {
            let mut crc = crc32fast::Hasher::new();
            crc.update(&bytes[..60]);
            crc.update(index);
            bytes[60..64].copy_from_slice(&crc.finalize().to_le_bytes());
        }
    }
    let shape = RecordShape { store, height: 2, width: 3, channels: 3 };
    with_file("train-00000.shard", &bytes, |path| {
        let Ok(shard) = Shard::open(path, &shape, 3, true) else { return };
        for record in 0..shard.len() {
            let _ = (shard.label(record), shard.name(record));
            let mut pixels = [0; 18];
            let all = Area::all(2, 3);
            let _ = shard.read(record, &all, &mut pixels, true);
            let _ = shard.read(record, &all, &mut pixels, false);
        }
    });
}

/// A JPEG file of up to a megapixel: all of it, and a window; what the window shows is what all
/// shows.
pub fn jpeg(bytes: &[u8]) {
    let Ok(jpeg) = Jpeg::open(bytes) else { return };
    let (height, width, channels) = (jpeg.height(), jpeg.width(), jpeg.channels());
    if height * width > 1 << 20 || jpeg.memory() > 64 << 20 {
        return;
    }
    let mut whole = vec![0; height * width * channels];
    let result = jpeg.decode(&Area::all(height, width), false, &mut whole);
    let window = Area {
        rows: height / 3..(height / 3 + height / 2 + 1).min(height),
        columns: width / 4..(width / 4 + width / 2 + 1).min(width),
    };
    for sound in [false, true] {
        let mut part = vec![0; whole.len()];
        let again = Jpeg::open(bytes).unwrap().decode(&window, sound, &mut part);
        assert!(sound || again.is_ok() == result.is_ok());
        if result.is_err() {
            continue;
        }
        assert!(again.is_ok());
        for y in window.rows.clone() {
            let row = |x| (y * width + x) * channels;
            let columns = row(window.columns.start)..row(window.columns.end);
            assert_eq!(part[columns.clone()], whole[columns]);
        }
    }
}

/// Exif data: whatever is said in front of them is passed over.
pub fn exif(bytes: &[u8]) {
    let found = exif_data::orientation(bytes);
    if bytes.starts_with(b"Exif") {
        return;
    }
    assert_eq!(exif_data::orientation(&[b"Exif\0\0", bytes].concat()), found);
}

/// An image file of up to a megapixel, of any format, as training and `predict` take it.
pub fn image(bytes: &[u8]) {
    let others = || {
        let reader = image::ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format();
        let sides = reader.ok().and_then(|reader| reader.into_dimensions().ok());
        sides.map_or(0, |(width, height)| u64::from(width) * u64::from(height))
    };
    let pixels = match Jpeg::open(bytes) {
        Ok(jpeg) => (jpeg.width() * jpeg.height()) as u64,
        Err(_) => others(),
    };
    // What is packed may be of any size.
    if pixels > 1 << 20 || bytes.starts_with(&[0x1f, 0x8b]) {
        return;
    }
    for (orientation, background) in
        [(Orientation::Apply, None), (Orientation::Ignore, Some(Colour([1, 2, 3])))]
    {
        for channels in [1, 3] {
            let plain = Preparation::photographs(16, orientation);
            let preparation = Preparation { background, ..plain };
            if let Ok(prepared) = prepare_image(bytes, &preparation, channels) {
                assert_eq!(prepared.pixels.len(), 16 * 16 * channels);
            }
        }
    }
}

/// A text file: what was read is read again.
pub fn text(bytes: &[u8]) {
    if let Ok(text) = text_files::decoded(bytes) {
        assert!(
            text.starts_with('\u{feff}') || text_files::decoded(text.as_bytes()).unwrap() == text
        );
    }
}

/// The two files of an idx pair: two bytes say how long the first is.
pub fn idx(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let (images, labels) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("train-images-idx3-ubyte"), images).unwrap();
    fs::write(folder.path().join("train-labels-idx1-ubyte"), labels).unwrap();
    let _ = idx_files::find(folder.path(), None, 0.1, 0);
}

/// A tar archive with CIFAR's files, gzipped here.
pub fn cifar(bytes: &[u8]) {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut gzip, bytes).unwrap();
    with_file("cifar-10-binary.tar.gz", &gzip.finish().unwrap(), |path| {
        let _ = cifar::find(path, 0.1, 0);
    });
}

/// A table of pictures.
pub fn list(bytes: &[u8]) {
    let Ok(text) = text_files::decoded(bytes) else { return };
    for row in tables::rows(&text).into_iter().flatten() {
        assert!(!row.path.is_empty() && !row.label.is_empty() && row.line > 0);
        assert!(["train", "val", "test"].contains(&row.split));
    }
}

/// A Parquet file: what is found in it is read.
pub fn parquet(bytes: &[u8]) {
    with_file("x.parquet", bytes, |path| {
        let preparation = Preparation::photographs(16, Orientation::Ignore);
        let all = Parted { val_fraction: Some(0.0), seed: 0 };
        let found = parquet_files::find(path, parquet_files::Named::default(), preparation, all);
        let Ok(source) = found else { return };
        for item in source.splits.iter().flat_map(|(_, items)| items) {
            assert!((item.label as usize) < source.classes.len());
            let Content::Row { of, row } = &item.content else { panic!("{}", item.name) };
            assert_eq!(of.fetch(&[*row]).map_or(1, |bytes| bytes.len()), 1);
        }
    });
}

/// The contest kit's table.
pub fn devkit(bytes: &[u8]) {
    let _ = matlab::read(bytes, "synsets");
}

/// A tar archive, read where it lies.
pub fn archive(bytes: &[u8]) {
    let of = Arc::new(Backing::memory(Path::new("archive.tar"), bytes.to_vec()));
    if let Ok(entries) = tape::list(&of, 0, of.len()) {
        for entry in entries {
            assert!(entry.offset.checked_add(entry.length).is_some_and(|end| end <= of.len()));
        }
    }
}

/// A config and what becomes of it when it is written out.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(config) = Config::parse(text, &[], "fuzz") {
        let written = config.to_toml();
        Config::parse(&written, &[], "written").expect(&written);
    }
}

/// A checkpoint: its header's checksum is put right, and that of all tensors.
pub fn checkpoint(bytes: &[u8]) {
    with_file("x.safetensors", &sealed(bytes).unwrap_or(bytes.to_vec()), |path| {
        let Ok(checkpoint) = Checkpoint::open(path) else { return };
        for name in ["conv1.weight", "fc.weight", "data.mean"] {
            let _ = checkpoint.tensor(name);
        }
    });
}

/// The safetensors file `bytes` with the checksum of its header that `Checkpoint::open` expects.
pub fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()?;
    let header_end = length.checked_add(8)?;
    let header = bytes.get(8..header_end)?;
    let key = br#""checksums":""#;
    let from = header.windows(key.len()).position(|w| w == key)? + key.len();
    // The value is JSON inside of a JSON text: its quotes are escaped.
    let mut to = from;
    while *header.get(to)? != b'"' {
        to += if header[to] == b'\\' { 2 } else { 1 };
    }
    let empty = [&header[..from], &header[to..]].concat();
    let sum = format!("{:08x}", crc32fast::hash(&empty));
    let mark = br#"\"header\":\""#;
    let value = header.get(from..to)?;
    let at = 8 + from + value.windows(mark.len()).position(|w| w == mark)? + mark.len();
    let mut bytes = bytes.to_vec();
    bytes.get_mut(at..at + 8)?.copy_from_slice(sum.as_bytes());
    Some(bytes)
}

/// What a file of weights has is read, as far as it is small.
fn look(read: anyhow::Result<Weights>) {
    for tensor in read.iter().flat_map(|weights| &weights.tensors) {
        if tensor.numbers.len() < 1 << 12 {
            let _ = tensor.numbers.values();
        }
    }
}

/// A pickle by itself, as PyTorch's older files begin, and in an archive of its newer ones, whose
/// checksums are right, with two storages of 64 bytes.
pub fn pickle(bytes: &[u8]) {
    look(weights::of(&Source::memory(bytes.to_vec()), None));
    look(weights::of(&Source::memory(archived(bytes)), None));
}

/// A zip archive as torch.save writes it: entries are not packed, and then come their headers again.
fn archived(pickle: &[u8]) -> Vec<u8> {
    let numbers = [0; 64];
    let entries = [("x/data.pkl", pickle), ("x/data/0", &numbers), ("x/data/1", &numbers)];
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let mut common = [20u16, 0, 0, 0, 0].map(u16::to_le_bytes).concat();
        let length = bytes.len() as u32;
        common.extend([crc32fast::hash(bytes), length, length].map(u32::to_le_bytes).concat());
        common.extend([name.len() as u16, 0].map(u16::to_le_bytes).concat());
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend((file.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(name.as_bytes());
        file.extend(bytes);
    }
    let mut end = b"PK\x05\x06\0\0\0\0\x03\0\x03\0".to_vec();
    end.extend([directory.len() as u32, file.len() as u32].map(u32::to_le_bytes).concat());
    end.extend([0, 0]);
    [file, directory, end].concat()
}

/// A network of Caffe's, and the same bytes as a mean image.
pub fn caffe(bytes: &[u8]) {
    let source = Source::memory(bytes.to_vec());
    look(weights::caffe::read(&source));
    if let Ok(mean) = weights::caffe::mean(&source) {
        assert!(mean.len() * 4 <= 2 * bytes.len());
    }
}

/// An ONNX model.
pub fn onnx(bytes: &[u8]) {
    look(weights::onnx::read(&Source::memory(bytes.to_vec()), None));
}

/// A file of weights of any format, told by its first bytes: zip archives, safetensors.
pub fn weights_file(bytes: &[u8]) {
    look(weights::of(&Source::memory(bytes.to_vec()), None));
}
