//! Weights as other programs write them: files of PyTorch, safetensors, Caffe and ONNX become named
//! tensors, and where the file describes a network, its operators in order. Knows no network of
//! ours; `alexnet import` makes one of it.
//!
//! Files stay where they are, mapped into memory: what a tensor keeps is a place in the file, so
//! that a file takes no more memory than its names and shapes do, whatever it claims. Every length
//! is held against what is there before anything is made of it.

pub mod caffe;
pub mod graph;
mod numbers;
pub mod onnx;
pub mod pytorch;
mod safetensors;
mod source;
mod wire;

pub use numbers::{Kind, Numbers};
pub use source::Source;

use anyhow::{Context, Result, bail};
use graph::Graph;
use std::collections::BTreeMap;
use std::path::Path;

/// Tensors of a file; a network of this family has 16, and a training state some hundred.
const MOST_TENSORS: usize = 1 << 14;

/// A named tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// As the file has it, without the prefixes that all names share.
    pub name: String,
    /// Its values, and their shape.
    pub numbers: Numbers,
}

/// What a file of weights holds.
#[derive(Debug)]
pub struct Weights {
    /// What the file is, as in `a state dict of PyTorch's`.
    pub format: &'static str,
    /// In the order of the file, where that means something; else by name.
    pub tensors: Vec<Tensor>,
    /// What is done with them, where the file says so.
    pub graph: Option<Graph>,
    /// The texts beside the tensors of a safetensors file.
    pub metadata: BTreeMap<String, String>,
}

/// What is told of a file that is none of those read.
const READ: &str = "alexnet reads weights of PyTorch (.pth, .pt, .bin), safetensors, Caffe \
                    (.caffemodel) and ONNX";

/// Reads the file `path`, whose format its first bytes tell.
///
/// # Errors
/// A sentence with the file's name: it cannot be read, is of another format, or damaged.
pub fn read(path: &Path) -> Result<Weights> {
    let read = || {
        let source = Source::open(path)?;
        of(&source, path.parent())
    };
    read().with_context(|| path.display().to_string())
}

/// Reads the file that `source` is; what it keeps in other files lies in `folder`.
///
/// # Errors
/// A sentence: it is of another format, or damaged.
pub fn of(source: &Source, folder: Option<&Path>) -> Result<Weights> {
    let bytes = source.bytes();
    match bytes {
        [] => bail!("the file is empty"),
        // Its first bytes are a length and may look like anything.
        _ if safetensors::begins(bytes) => safetensors::read(source),
        [b'P', b'K', 3 | 5 | 6, ..] => pytorch::zip(source),
        [0x80, 2..=5, ..] => pytorch::legacy(source),
        [0x89, b'H', b'D', b'F', ..] => bail!(
            "this is an HDF5 file, of Keras or of Caffe's, which is not read; save the weights \
             from its program as safetensors, or as a .caffemodel"
        ),
        _ if bytes.get(257..262) == Some(b"ustar") => bail!(
            "this is a tar archive, as PyTorch wrote before 0.1.10; save it again with a later one"
        ),
        _ if onnx::begins(bytes) => onnx::read(source, folder),
        _ if caffe::begins(bytes) => caffe::read(source),
        [b'<', ..] => bail!(
            "this is a page of the web, not the file that it was to lead to; download it again \
             ({READ})"
        ),
        _ => bail!("this is none of the files of weights that are read: {READ}"),
    }
}
