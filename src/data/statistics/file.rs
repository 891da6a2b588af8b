//! The file `statistics.safetensors`: written, read and verified.

use super::{Statistics, Sums};
use crate::files::tensors::{self, Description, Reader, Subject, Values};
use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Dtype, SafeTensors};
use std::fs;
use std::path::Path;

const SUBJECT: Subject = Subject { name: "statistics file", remedy: "prepare the data set again" };

impl Statistics {
    /// Reads the file `path` for images of `shape` [height, width, channels].
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or is of images of another shape.
    pub fn read(path: &Path, shape: [usize; 3]) -> Result<Statistics> {
        let place = || format!("{} cannot be used", path.display());
        let bytes = bytes(path, shape).with_context(place)?;
        let Some(tensors) = first_form(&bytes).with_context(place)? else {
            let reader = Reader::open(path, SUBJECT)?;
            reader.verify()?;
            return from_tensors(shape, |name| reader.tensor(name)).with_context(place);
        };
        from_tensors(shape, |name| floats(&tensors, name)).with_context(place)
    }
}

impl Sums {
    /// Writes the statistics to the file `path`, whole or not at all, and gives them back.
    pub fn write(&self, path: &Path) -> Result<Statistics> {
        let statistics = self.statistics();
        let c = self.shape[2];
        let described = |name: &str, dtype, shape: &[usize]| Description {
            name: name.into(),
            dtype,
            shape: shape.to_vec(),
        };
        // The widest numbers first, so that all lie at multiples of their size.
        let described = [
            described("pixel_sum", Dtype::U64, &self.shape),
            described("covariance", Dtype::F64, &[c, c]),
            described("components", Dtype::F32, &[c, c]),
            described("deviations", Dtype::F32, &[c]),
            described("mean", Dtype::F32, &self.shape),
        ];
        tensors::write(path, &[], &described, |index| {
            Ok(match index {
                0 => Values::U64(self.pixel.clone()),
                1 => Values::F64(self.covariance()),
                2 => Values::F32(statistics.components.clone()),
                3 => Values::F32(statistics.deviations.clone()),
                _ => Values::F32(statistics.mean.clone()),
            })
        })?;
        Ok(statistics)
    }
}

/// The file's bytes, unless they are more than images of `shape` give.
fn bytes(path: &Path, shape: [usize; 3]) -> Result<Vec<u8>> {
    let limit = shape.iter().product::<usize>() * 12 + (1 << 16);
    let length = fs::metadata(path)?.len();
    ensure!(length <= limit as u64, "{length} bytes are too many for images of {shape:?}");
    Ok(fs::read(path)?)
}

/// The tensors of a file of the first form, their checksum verified; None: it is of today's.
fn first_form(bytes: &[u8]) -> Result<Option<SafeTensors<'_>>> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let Some(stored) = header.metadata().as_ref().and_then(|entries| entries.get("crc32")) else {
        return Ok(None);
    };
    let tensors = SafeTensors::deserialize(bytes)?;
    let mut crc = crc32fast::Hasher::new();
    for name in ["components", "covariance", "deviations", "mean", "pixel_sum"] {
        crc.update(tensors.tensor(name)?.data());
    }
    ensure!(
        *stored == format!("{:08x}", crc.finalize()),
        "its checksum is wrong: the file is damaged; {}",
        SUBJECT.remedy
    );
    Ok(Some(tensors))
}

/// Shape and values of a tensor of the first form.
fn floats(tensors: &SafeTensors<'_>, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
    let tensor = tensors.tensor(name)?;
    ensure!(tensor.dtype() == Dtype::F32, "`{name}` is {:?}, not F32", tensor.dtype());
    let values = tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
    Ok((tensor.shape().to_vec(), values.collect()))
}

/// The statistics of images of `shape`; `tensor` gives shape and values of the tensor of a name.
fn from_tensors(
    shape: [usize; 3],
    tensor: impl Fn(&str) -> Result<(Vec<usize>, Vec<f32>)>,
) -> Result<Statistics> {
    let c = shape[2];
    let values = |name: &str, shape: &[usize]| -> Result<Vec<f32>> {
        let (found, values) = tensor(name)?;
        ensure!(found == shape, "`{name}` has the shape {found:?}, not {shape:?}");
        ensure!(values.iter().all(|x| x.is_finite()), "`{name}` holds a value that is no number");
        Ok(values)
    };
    Ok(Statistics {
        mean: values("mean", &shape)?,
        components: values("components", &[c, c])?,
        deviations: values("deviations", &[c])?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_comes_back_and_a_flipped_bit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.safetensors");
        let mut sums = Sums::new([1, 2, 3]);
        sums.add(&[&[10, 20, 30, 40, 30, 20]]);
        let written = sums.write(&path).unwrap();
        assert_eq!(Statistics::read(&path, [1, 2, 3]).unwrap(), written);
        assert!(Statistics::read(&path, [2, 1, 3]).is_err());

        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = format!("{:#}", Statistics::read(&path, [1, 2, 3]).unwrap_err());
        assert!(error.contains("checksum is wrong"), "{error}");
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.safetensors");
        let mut sums = Sums::new([1, 2, 3]);
        sums.add(&[&[10, 20, 30, 40, 30, 20]]);
        sums.write(&path).unwrap();
        let good = fs::read(&path).unwrap();
        for bit in (0..8 * good.len()).step_by(3) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            assert!(Statistics::read(&path, [1, 2, 3]).is_err(), "bit {bit}");
        }
    }

    /// Written by a version from before the second form, of images of which byte i is
    /// i² (k + 3) + i (7 + k) + k, k being 0 and 1.
    #[test]
    fn the_first_form_is_read_and_a_flipped_bit_is_found() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/prepare");
        let path = Path::new(folder).join("statistics-first-form.safetensors");
        let image = |k: usize| -> Vec<u8> {
            (0..192).map(|i| (i * i * (k + 3) + i * (7 + k) + k) as u8).collect()
        };
        let mut sums = Sums::new([8, 8, 3]);
        sums.add(&[&image(0), &image(1)]);
        assert_eq!(Statistics::read(&path, [8, 8, 3]).unwrap(), sums.statistics());

        let good = fs::read(&path).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.safetensors");
        let data = 8 + u64::from_le_bytes(*good.first_chunk().unwrap()) as usize;
        for byte in (data..good.len()).step_by(11) {
            let mut bad = good.clone();
            bad[byte] ^= 0x10;
            fs::write(&path, &bad).unwrap();
            let error = format!("{:#}", Statistics::read(&path, [8, 8, 3]).unwrap_err());
            assert!(error.contains("checksum is wrong"), "byte {byte}: {error}");
        }
    }
}
