//! From an ONNX graph's nodes to operators one after the other.

use super::node::Node;
use crate::weights::Tensor;
use crate::weights::graph::{Graph, Operator, Step};
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};

/// The way through a graph so far.
struct Way {
    /// The name of the values at hand.
    at: String,
    /// By the names of the graph.
    constants: BTreeMap<String, Tensor>,
    /// Names of what only speaks of shapes.
    shapes: BTreeSet<String>,
    graph: Graph,
    /// Those in use, in the order of the steps.
    tensors: Vec<Tensor>,
}

/// The operators of `nodes`, which stand in an order in which they can be computed, and the tensors
/// that they use.
///
/// # Errors
/// A sentence: there is no one input, or a node is not understood, or off the way.
pub fn follow(
    nodes: Vec<Node>,
    inputs: Vec<(String, Vec<usize>)>,
    constants: BTreeMap<String, Tensor>,
) -> Result<(Graph, Vec<Tensor>)> {
    // Old models list their weights among the inputs.
    let mut own = inputs.into_iter().filter(|(name, _)| !constants.contains_key(name));
    let (Some((at, sizes)), None) = (own.next(), own.next()) else {
        bail!("its graph has other than one input; one is wanted, the images");
    };
    let input = match sizes[..] {
        [_, channels, height, width] if channels > 0 && height > 0 && width > 0 => {
            Some([channels, height, width])
        }
        _ => None,
    };
    let mut way = Way {
        at,
        constants,
        shapes: BTreeSet::new(),
        graph: Graph { input, steps: Vec::new() },
        tensors: Vec::new(),
    };
    for node in nodes {
        let what = format!("node {} ({})", node.name, node.operator);
        way.take(node).with_context(|| what)?;
    }
    Ok((way.graph, way.tensors))
}

impl Way {
    fn take(&mut self, mut node: Node) -> Result<()> {
        let outputs = std::mem::take(&mut node.outputs);
        let output = outputs.first().cloned().context("it makes nothing")?;
        if node.operator == "Constant" {
            match node.constant.take() {
                Some(tensor) => _ = self.constants.insert(output, tensor),
                None => _ = self.shapes.insert(output),
            }
            return Ok(());
        }
        if self.is_of_shapes(&node) {
            self.shapes.extend(outputs);
            return Ok(());
        }
        let reads = node.inputs.contains(&self.at);
        ensure!(
            reads,
            "it does not read what the node before it has made; networks that branch are not known"
        );
        let operator = match node.operator.as_str() {
            "Add" => {
                self.bias(&node)?;
                None
            }
            _ => self.operator(&node)?,
        };
        self.graph.steps.extend(operator.map(|operator| Step { name: node.name, operator }));
        self.at = output;
        Ok(())
    }

    /// Whether what `node` makes speaks of shapes alone.
    fn is_of_shapes(&self, node: &Node) -> bool {
        let known = |name: &String| {
            name.is_empty() || self.shapes.contains(name) || self.constants.contains_key(name)
        };
        node.operator == "Shape" || node.inputs.iter().all(known)
    }

    fn operator(&mut self, node: &Node) -> Result<Option<Operator>> {
        Ok(Some(match node.operator.as_str() {
            "Identity" | "Flatten" | "Reshape" | "Squeeze" => return Ok(None),
            "Conv" => self.convolution(node)?,
            "Gemm" => self.gemm(node)?,
            "MatMul" => {
                let weight = self.matrix(node, 1, true)?;
                Operator::Fc { weight, bias: None }
            }
            "Relu" => Operator::Relu,
            "MaxPool" | "AveragePool" => match pooling(node)? {
                // What torchvision's adaptive pooling comes to.
                Operator::Pool { size: 1, stride: 1, .. } => return Ok(None),
                pooling => pooling,
            },
            "LRN" => Operator::Lrn {
                n: usize::try_from(node.int("size", 0)).context("its size is below 0")?,
                alpha: node.float("alpha", 1e-4),
                beta: node.float("beta", 0.75),
                k: node.float("bias", 1.0),
                within_map: false,
            },
            "Dropout" => Operator::Dropout(node.float("ratio", 0.5)),
            "Softmax" => Operator::Softmax,
            _ => bail!("networks of this family do not have this operator"),
        }))
    }

    /// The place in the list of the tensor that input `at` of `node` names.
    fn constant(&mut self, node: &Node, at: usize) -> Result<Option<usize>> {
        let Some(name) = node.inputs.get(at).filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let tensor = self.constants.get(name);
        let tensor = tensor.with_context(|| format!("{name}, which it reads, is no constant"))?;
        self.tensors.push(tensor.clone());
        Ok(Some(self.tensors.len() - 1))
    }

    /// As [`Way::constant`], of a matrix that is wanted as [out, in]; `turned`: it is [in, out].
    fn matrix(&mut self, node: &Node, at: usize, turned: bool) -> Result<usize> {
        let weight = self.constant(node, at)?.context("it has no weights")?;
        if turned {
            let numbers = self.tensors[weight].numbers.clone();
            self.tensors[weight].numbers = numbers.transposed()?;
        }
        Ok(weight)
    }

    fn convolution(&mut self, node: &Node) -> Result<Operator> {
        let weight = self.constant(node, 1)?.context("it has no weights")?;
        let bias = self.constant(node, 2)?;
        ensure!(
            node.even("dilations", Some(1))? == 1,
            "its kernels are dilated, which is not known"
        );
        Ok(Operator::Conv {
            weight,
            bias,
            stride: node.even("strides", Some(1))?,
            padding: padding(node)?,
            groups: usize::try_from(node.int("group", 1)).context("its groups are below 0")?,
        })
    }

    fn gemm(&mut self, node: &Node) -> Result<Operator> {
        let factors = [node.float("alpha", 1.0), node.float("beta", 1.0)];
        ensure!(factors == [1.0, 1.0], "it multiplies by {factors:?}, which is not known");
        ensure!(node.int("transA", 0) == 0, "it turns its input, which is not known");
        let weight = self.matrix(node, 1, node.int("transB", 0) == 0)?;
        Ok(Operator::Fc { weight, bias: self.constant(node, 2)? })
    }

    /// Biases that are added behind a product.
    fn bias(&mut self, node: &Node) -> Result<()> {
        let at = node.inputs.iter().position(|input| *input != self.at);
        let place = self.constant(node, at.context("it adds values to themselves")?)?;
        match self.graph.steps.last_mut().map(|step| &mut step.operator) {
            Some(
                Operator::Conv { bias: bias @ None, .. } | Operator::Fc { bias: bias @ None, .. },
            ) => {
                *bias = place;
            }
            _ => bail!("it adds a constant to what is no product without biases"),
        }
        Ok(())
    }
}

fn pooling(node: &Node) -> Result<Operator> {
    let largest = node.operator == "MaxPool";
    ensure!(node.even("dilations", Some(1))? == 1, "its windows are dilated, which is not known");
    let padding = padding(node)?;
    let counts = node.int("count_include_pad", 0) != 0 && padding != [0; 4];
    ensure!(largest || !counts, "it counts what lies beyond the edge, which is not known");
    Ok(Operator::Pool {
        largest,
        size: node.even("kernel_shape", None)?,
        stride: node.even("strides", Some(1))?,
        padding,
        up: node.int("ceil_mode", 0) != 0,
    })
}

/// ONNX has top, left, bottom, right; we have top, bottom, left, right.
fn padding(node: &Node) -> Result<[usize; 4]> {
    let auto = node.attributes.get("auto_pad").map_or("NOTSET", |a| a.text.as_str());
    ensure!(matches!(auto, "NOTSET" | "VALID"), "auto_pad = {auto:?} is not known");
    match node.sizes("pads")?.as_deref() {
        None => Ok([0; 4]),
        Some(&[top, left, bottom, right]) => Ok([top, bottom, left, right]),
        Some(other) => bail!("pads = {other:?}: four are wanted"),
    }
}
