//! A file of codes: a safetensors file with the tensor `codes` U8 [images, bytes], the encoder's
//! parameters (`encode1.weight`, …) and the features' `mean`, and in its metadata the network, the
//! `scale`, and where the features come from.

use super::training::Trained;
use super::{Encoder, Scaling};
use crate::files::tensors::{Description, Reader, Subject, Values, write};
use crate::train::feature_file::Origin;
use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::Dtype;
use std::path::Path;

/// What a file of codes is to a person who reads what is wrong with it.
const SUBJECT: Subject =
    Subject { name: "file of codes", remedy: "write it again with alexnet codes --out" };

/// Writes the file `path`.
///
/// # Errors
/// If it cannot be written.
pub fn write_codes(
    path: &Path,
    trained: &Trained,
    (codes, bytes): (Vec<u8>, usize),
    origin: &Origin,
) -> Result<()> {
    let mut metadata = origin.entries();
    metadata.push(("config", trained.config.clone()));
    // Its shortest decimal gives the same bits again.
    metadata.push(("scale", trained.scaling.scale.to_string()));
    let shape = vec![codes.len() / bytes, bytes];
    let mut tensors = vec![Description { name: "codes".into(), dtype: Dtype::U8, shape }];
    let mut values = vec![Values::U8(codes)];
    let mean = trained.scaling.mean.clone();
    tensors.push(Description::floats("mean", [mean.len()]));
    values.push(Values::F32(mean));
    for (name, parameter) in &trained.parameters {
        tensors.push(Description::floats(name, parameter.shape.clone()));
        values.push(Values::F32(parameter.values.clone()));
    }
    write(path, &metadata, &tensors, |index| Ok(&values[index]))
}

/// A file of codes, opened.
pub struct CodeFile {
    /// Where the features come from that the codes are of.
    pub origin: Origin,
    /// [images, bytes].
    pub codes: Vec<u8>,
    /// Bytes of a code.
    pub bytes: usize,
    /// Makes codes of other images' features.
    pub encoder: Encoder,
    /// Features of an image.
    pub values: usize,
}

impl CodeFile {
    /// Opens `path`, every byte of what is used verified.
    ///
    /// # Errors
    /// If it is damaged or something else.
    pub fn open(path: &Path) -> Result<CodeFile> {
        let reader = Reader::open(path, SUBJECT)?;
        CodeFile::read(&reader).with_context(|| path.display().to_string())
    }

    fn read(reader: &Reader) -> Result<CodeFile> {
        let origin = Origin::read(reader)?;
        let (shape, codes) = reader.bytes("codes")?;
        let [_, bytes] = shape[..] else {
            bail!("its codes have {} dimensions, not 2", shape.len());
        };
        let (_, mean) = reader.tensor("mean")?;
        let values = mean.len();
        let scale = reader.entry("scale")?.parse().context("its scale is no number")?;
        let parameter = |name: &str| Ok(reader.tensor(name)?.1);
        let encoder = Encoder::new(reader.entry("config")?, Scaling { mean, scale }, parameter)?;
        ensure!(
            bytes > 0 && encoder.bytes() == bytes,
            "its codes have {bytes} bytes, its encoder makes {}",
            encoder.bytes()
        );
        Ok(CodeFile { origin, codes: codes.to_vec(), bytes, encoder, values })
    }
}
