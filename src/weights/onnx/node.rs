//! One node of an ONNX graph: an operator with the names of what it reads and makes.

use super::MOST_NODE;
use super::tensor::Files;
use crate::weights::Tensor;
use crate::weights::wire::{Field, Message};
use anyhow::{Context, Result, bail, ensure};
use prost::Message as _;
use std::collections::BTreeMap;

/// Sizes, strides and the like of one attribute.
const MOST_NUMBERS: usize = 64;

/// A number or text that an operator is told; lists of integers too.
#[derive(Clone, PartialEq, prost::Message)]
struct AttributeMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, tag = "2")]
    f: f32,
    #[prost(int64, tag = "3")]
    i: i64,
    #[prost(bytes = "vec", tag = "4")]
    s: Vec<u8>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
}

/// What an operator is told.
#[derive(Clone, Debug, Default)]
pub struct Attribute {
    /// A float.
    pub float: f32,
    /// An integer.
    pub int: i64,
    /// Integers.
    pub ints: Vec<i64>,
    /// A text.
    pub text: String,
}

/// A node.
#[derive(Debug, Default)]
pub struct Node {
    /// Its own name, or that of what it makes.
    pub name: String,
    /// The operator.
    pub operator: String,
    /// What it reads; names of tensors, empty where one is left out.
    pub inputs: Vec<String>,
    /// What it makes.
    pub outputs: Vec<String>,
    /// What it is told.
    pub attributes: BTreeMap<String, Attribute>,
    /// The tensor of a `Constant`.
    pub constant: Option<Tensor>,
}

/// Reads a node.
///
/// # Errors
/// If it is damaged, or of another domain than ONNX's own.
pub fn read(message: Message<'_>, files: &mut Files<'_>) -> Result<Node> {
    let (mut node, mut small) = (Node::default(), 0);
    message
        .fields(|number, field| {
            let Field::Bytes(message) = field else { return Ok(()) };
            match number {
                1 => node.inputs.push(message.text()?.into()),
                2 => node.outputs.push(message.text()?.into()),
                3 => node.name = message.text()?.into(),
                4 => node.operator = message.text()?.into(),
                5 => small += attribute(message, files, &mut node)?,
                7 => {
                    let domain = message.text()?;
                    let own = matches!(domain, "" | "ai.onnx");
                    ensure!(own, "it has an operator of {domain:?}, which is not known");
                }
                _ => {}
            }
            let many = node.inputs.len().max(node.outputs.len()) > MOST_NUMBERS;
            ensure!(!many && small <= MOST_NODE, "a node has too many parts");
            Ok(())
        })
        .context("a node is damaged")?;
    if node.name.is_empty() {
        node.name = node.outputs.first().cloned().unwrap_or_default();
    }
    Ok(node)
}

/// Adds an attribute to `node`; the bytes that it took.
fn attribute(message: Message<'_>, files: &mut Files<'_>, node: &mut Node) -> Result<usize> {
    let mut tensor = None;
    message.fields(|number, field| {
        match (number, field) {
            (5, Field::Bytes(message)) => tensor = Some(message),
            (6 | 11, _) => bail!("it has a graph within, which is not known"),
            _ => {}
        }
        Ok(())
    })?;
    if let Some(tensor) = tensor {
        node.constant = files.tensor(tensor)?;
        return Ok(0);
    }
    let bytes = message.bytes();
    ensure!(bytes.len() <= MOST_NODE, "an attribute has {} bytes", bytes.len());
    let read = AttributeMessage::decode(bytes).context("an attribute is damaged")?;
    let text = String::from_utf8_lossy(&read.s).into_owned();
    let value = Attribute { float: read.f, int: read.i, ints: read.ints, text };
    node.attributes.insert(read.name, value);
    Ok(bytes.len())
}

/// The name and the sizes of a graph's input; a size that is not fixed is 0.
///
/// # Errors
/// If it is damaged.
pub fn input(message: Message<'_>) -> Result<(String, Vec<usize>)> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Dimension {
        #[prost(int64, tag = "1")]
        value: i64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Shape {
        #[prost(message, repeated, tag = "1")]
        dimensions: Vec<Dimension>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct TensorType {
        #[prost(message, optional, tag = "2")]
        shape: Option<Shape>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Type {
        #[prost(message, optional, tag = "1")]
        tensor: Option<TensorType>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Input {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, optional, tag = "2")]
        kind: Option<Type>,
    }
    let bytes = message.bytes();
    ensure!(bytes.len() <= MOST_NODE, "an input has {} bytes", bytes.len());
    let input = Input::decode(bytes).context("an input is damaged")?;
    let shape = input.kind.and_then(|kind| kind.tensor?.shape).unwrap_or_default();
    let sizes = shape.dimensions.iter().map(|d| usize::try_from(d.value).unwrap_or(0));
    Ok((input.name, sizes.collect()))
}

impl Node {
    /// The integer attribute `name`, or `default`.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attributes.get(name).map_or(default, |a| a.int)
    }

    /// The float attribute `name`, or `default`.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attributes.get(name).map_or(default, |a| a.float)
    }

    /// The integers of the attribute `name`, where it is there.
    ///
    /// # Errors
    /// If one is negative.
    pub fn sizes(&self, name: &str) -> Result<Option<Vec<usize>>> {
        let Some(attribute) = self.attributes.get(name) else { return Ok(None) };
        ensure!(attribute.ints.len() <= MOST_NUMBERS, "{name} has too many sizes");
        let sizes = attribute.ints.iter().map(|&size| usize::try_from(size));
        let sizes = sizes.collect::<Result<Vec<_>, _>>();
        sizes.map(Some).with_context(|| format!("{name} has a size below 0"))
    }

    /// One size for both directions, from the attribute `name`.
    ///
    /// # Errors
    /// If the two differ, or there are other than two.
    pub fn even(&self, name: &str, default: Option<usize>) -> Result<usize> {
        match (self.sizes(name)?.as_deref(), default) {
            (Some([down, across]), _) if down == across => Ok(*down),
            (Some(other), _) => bail!("{name} = {other:?}: one size for both directions is wanted"),
            (None, Some(default)) => Ok(default),
            (None, None) => bail!("it has no {name}"),
        }
    }
}
