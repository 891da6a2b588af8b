//! ONNX files: a network as a graph of operators, as most runtimes read it.
//!
//! The messages have the field numbers of `onnx.proto` (Apache 2.0; the numbers are the format);
//! fields that are not written here are left out. The large tensors are written one after the other
//! behind the rest of their graph, which protobuf's wire format allows, so that no more than one of
//! them is in memory.

use super::tensors::write_floats;
use super::write_whole;
use anyhow::{Result, ensure};
use prost::Message;
use std::io::Write;
use std::path::Path;

/// The version of the messages that is written; every reader since 2022 knows it.
pub const IR_VERSION: i64 = 8;
/// The version of the operators.
pub const OPERATORS: i64 = 17;
/// A protobuf message has no more bytes.
const MOST: u64 = i32::MAX as u64;

/// A file.
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    /// [`IR_VERSION`].
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// The program that wrote it.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// Its version.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// For people.
    #[prost(string, tag = "6")]
    pub doc_string: String,
    /// The network.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// Which operators it is made of.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
    /// Whatever else is to be known of it.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<Entry>,
}

/// A set of operators.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    /// Empty: ONNX's own.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// [`OPERATORS`].
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// A line of the metadata.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// What it says.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Operators in an order in which they can be computed.
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    /// The operators.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    /// The network's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    /// What it reads.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    /// What it makes.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

/// An operator on named values.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Names of what it reads.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of what it makes.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Its own name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The operator: `Conv`.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Its settings.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
}

/// A setting of an operator.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The value of one that is a number with a fraction.
    #[prost(float, tag = "2")]
    pub f: f32,
    /// The value of one that is a whole number.
    #[prost(int64, tag = "3")]
    pub i: i64,
    /// The values of one that is a list of whole numbers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// 1, 2 or 7: which of the three it is.
    #[prost(int32, tag = "20")]
    pub r#type: i32,
}

/// A constant.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// Its shape.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// [`FLOAT`] or [`INT64`].
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// The values of one that is not in `raw_data`.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// Its name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// The values' bytes, the lowest first.
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
}

/// f32, in [`Tensor::data_type`].
pub const FLOAT: i32 = 1;
/// i64, in [`Tensor::data_type`].
pub const INT64: i32 = 7;

/// What is known of a named value.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<Type>,
    /// For people.
    #[prost(string, tag = "3")]
    pub doc_string: String,
}

/// A type: that of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct Type {
    /// The tensor's.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

/// The type of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    /// As [`Tensor::data_type`].
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// Its shape.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShape>,
}

/// A shape, of which parts may be open.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShape {
    /// One for each dimension.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// A dimension: a size, or the name of one that is open.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// The size.
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    /// The name.
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}

/// A constant of floats that [`write()`] puts into the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Floats {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// The field numbers and wire types (2: length and bytes) before the graph, one of its constants,
/// and a constant's bytes.
const GRAPH: u8 = 7 << 3 | 2;
const INITIALIZER: u8 = 5 << 3 | 2;
const RAW_DATA: u8 = 9 << 3 | 2;

/// Writes `model` to `path`, whole or not at all; to its graph's constants come `tensors`, whose
/// values `fill(index)` gives one after the other.
///
/// # Errors
/// If it would be larger than such files may be, `fill` fails or gives other than so many values,
/// or the file cannot be written.
pub fn write(
    path: &Path,
    mut model: Model,
    tensors: &[Floats],
    mut fill: impl FnMut(usize) -> Result<Vec<f32>>,
) -> Result<()> {
    let graph = model.graph.take().unwrap_or_default().encode_to_vec();
    let model = model.encode_to_vec();
    let heads: Vec<Head> = tensors.iter().map(Head::new).collect();
    let all = heads.iter().fold(graph.len() as u64, |sum, head| {
        let before = field(&[INITIALIZER], head.bytes()).len() as u64;
        sum.saturating_add(before).saturating_add(head.bytes())
    });
    ensure!(
        all + (model.len() as u64) < MOST - 16,
        "{}: an ONNX file holds at most 2 GiB, and this network is larger; export it to a folder \
         for PyTorch",
        path.display()
    );
    write_whole(path, |out| {
        out.write_all(&model)?;
        out.write_all(&field(&[GRAPH], all))?;
        out.write_all(&graph)?;
        for (index, (head, tensor)) in heads.iter().zip(tensors).enumerate() {
            let values = fill(index)?;
            let wanted = tensor.shape.iter().product::<usize>();
            ensure!(values.len() == wanted, "{} has other values than its shape", tensor.name);
            out.write_all(&field(&[INITIALIZER], head.bytes()))?;
            out.write_all(&head.message)?;
            out.write_all(&field(&[RAW_DATA], head.values))?;
            write_floats(out, &values)?;
        }
        Ok(())
    })
}

/// A constant's message as far as its values, and how many bytes these have.
struct Head {
    message: Vec<u8>,
    values: u64,
}

impl Head {
    fn new(tensor: &Floats) -> Head {
        let values = tensor.shape.iter().fold(4u64, |all, &n| all.saturating_mul(n as u64));
        let dims = tensor.shape.iter().map(|&size| size as i64).collect();
        let name = tensor.name.clone();
        let message = Tensor { dims, data_type: FLOAT, name, ..Tensor::default() };
        Head { message: message.encode_to_vec(), values }
    }

    /// Bytes of the whole message.
    fn bytes(&self) -> u64 {
        let around = self.message.len() + field(&[RAW_DATA], self.values).len();
        self.values.saturating_add(around as u64)
    }
}

/// What stands before a field of so many bytes.
fn field(key: &[u8], length: u64) -> Vec<u8> {
    let mut bytes = key.to_vec();
    prost::encode_length_delimiter(length as usize, &mut bytes).expect("a vector grows");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_pieces_is_one_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.onnx");
        let constant =
            Tensor { name: "sizes".into(), int64_data: vec![3, -1], ..Tensor::default() };
        let graph = Graph { name: "g".into(), initializer: vec![constant], ..Graph::default() };
        let model = Model { ir_version: IR_VERSION, graph: Some(graph), ..Model::default() };
        let tensors = [("a", vec![2, 3]), ("b", vec![0]), ("c", vec![40, 5])];
        let tensors = tensors.map(|(name, shape)| Floats { name: name.into(), shape });
        let values = |index: usize| -> Vec<f32> {
            (0..tensors[index].shape.iter().product()).map(|v| v as f32 - 1.5).collect()
        };
        write(&path, model.clone(), &tensors, |index| Ok(values(index))).unwrap();
        let read = Model::decode(&std::fs::read(&path).unwrap()[..]).unwrap();
        let mut whole = model;
        let constants = &mut whole.graph.as_mut().unwrap().initializer;
        for (index, tensor) in tensors.iter().enumerate() {
            let mut raw_data = Vec::new();
            write_floats(&mut raw_data, &values(index)).unwrap();
            constants.push(Tensor {
                dims: tensor.shape.iter().map(|&n| n as i64).collect(),
                data_type: FLOAT,
                name: tensor.name.clone(),
                raw_data,
                ..Tensor::default()
            });
        }
        assert_eq!(read, whole);
        let error = write(&path, read.clone(), &tensors, |_| Ok(vec![0.0])).unwrap_err();
        assert!(format!("{error:#}").contains("a has other values"), "{error:#}");
        let huge = [Floats { name: "huge".into(), shape: vec![1 << 20, 1 << 9] }];
        let error = write(&path, read, &huge, |_| unreachable!()).unwrap_err().to_string();
        assert!(error.contains("at most 2 GiB") && error.contains("PyTorch"), "{error}");
    }
}
