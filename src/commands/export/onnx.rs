//! A network as an ONNX graph: from `image` [N, channels, crop, crop], pixels from 0 to 255, to
//! `probabilities` [N, classes].

use super::Exported;
use super::network::{Reading, Spread, Step, Work};
use crate::files::onnx::{self, Attribute, Dimension, Entry, FLOAT, Floats, Graph, INT64, Model};
use crate::files::onnx::{Node, OperatorSet, Tensor, TensorShape, TensorType, Type, ValueInfo};
use crate::layers::Shape;
use crate::layers::lrn::Lrn;
use crate::layers::pool::{Kernel, Pool};
use crate::layers::window::Window;
use anyhow::Result;
use std::ops::Range;
use std::path::Path;

/// What the network reads and makes.
pub const INPUT: &str = "image";
/// See [`INPUT`].
pub const OUTPUT: &str = "probabilities";

/// Where the values of a constant come from.
enum Source {
    /// Rows of a tensor of the checkpoint; none: all.
    Checkpoint(String, Option<Range<usize>>),
    /// Here they are.
    Values(Vec<f32>),
}

/// A graph as it grows.
struct Writer<'a> {
    exported: &'a Exported<'a>,
    graph: Graph,
    tensors: Vec<Floats>,
    sources: Vec<Source>,
    /// The name of the values at hand.
    at: String,
    /// Whether these are [N, values] and not [N, maps, rows, columns].
    flat: bool,
}

/// Writes the file `path`.
///
/// # Errors
/// If the file cannot be written, or would be larger than such files may be.
pub fn write(path: &Path, exported: &Exported<'_>) -> Result<()> {
    let mut writer = Writer {
        exported,
        graph: Graph { name: exported.name.clone(), ..Graph::default() },
        tensors: Vec::new(),
        sources: Vec::new(),
        at: INPUT.into(),
        flat: false,
    };
    writer.centre();
    let last = exported.steps.len() - 1;
    for (index, step) in exported.steps.iter().enumerate() {
        writer.step(
            step,
            if index == last { OUTPUT.into() } else { format!("{}.output", step.name) },
        );
    }
    let Writer { mut graph, tensors, sources, .. } = writer;
    let input = exported.input;
    let sizes = [input.channels, input.height, input.width];
    let colours = if input.channels == 1 { "grey" } else { "RGB" };
    let says = format!("pixels from 0 to 255, {colours}; the mean is subtracted within");
    graph.input.push(value(INPUT, &sizes, &says));
    graph.output.push(value(OUTPUT, &[exported.classes.len()], "one for each class"));
    let model = Model {
        ir_version: onnx::IR_VERSION,
        producer_name: "alexnet".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: String::new(),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: String::new(), version: onnx::OPERATORS }],
        metadata_props: metadata(exported)?,
    };
    onnx::write(path, model, &tensors, |index| match &sources[index] {
        Source::Values(values) => Ok(values.clone()),
        Source::Checkpoint(name, rows) => {
            let tensor = exported.checkpoint.tensor(name)?;
            let row = tensor.values.len() / tensor.shape[0];
            Ok(match rows {
                Some(rows) => tensor.values[rows.start * row..rows.end * row].to_vec(),
                None => tensor.values,
            })
        }
    })
}

/// What was written, and how it is used.
pub fn words(out: &Path, exported: &Exported<'_>, parameters: u64) -> String {
    let Shape { height, width, channels } = exported.input;
    let (file, classes) = (out.display(), exported.classes.len());
    format!(
        "{file}: {} with {parameters} parameters, from {INPUT} [N, {channels}, {height}, {width}] \
         (f32, pixels from 0 to 255) to {OUTPUT} [N, {classes}]; in Python:\n  \
         session = onnxruntime.InferenceSession({name})\n  \
         session.run(None, {{\"{INPUT}\": images}})[0]",
        exported.name,
        name = serde_json::Value::from(file.to_string()),
    )
}

fn metadata(exported: &Exported<'_>) -> Result<Vec<Entry>> {
    let (ids, names): (Vec<&str>, Vec<&str>) =
        exported.classes.iter().map(|class| (&*class.id, &*class.name)).unzip();
    let entry = |key: &str, value: String| Entry { key: key.into(), value };
    Ok(vec![
        entry("ids", serde_json::to_string(&ids)?),
        entry("labels", serde_json::to_string(&names)?),
        entry("preparation", serde_json::to_string(&exported.checkpoint.facts.preparation)?),
        entry("config", exported.checkpoint.config.clone()),
    ])
}

/// What is known of `name`: floats, any number of images, each of these `sizes`.
fn value(name: &str, sizes: &[usize], says: &str) -> ValueInfo {
    let fixed = |&size: &usize| Dimension { dim_value: Some(size as i64), dim_param: None };
    let mut dim = vec![Dimension { dim_value: None, dim_param: Some("N".into()) }];
    dim.extend(sizes.iter().map(fixed));
    let tensor = TensorType { elem_type: FLOAT, shape: Some(TensorShape { dim }) };
    let of = Type { tensor_type: Some(tensor) };
    ValueInfo { name: name.into(), r#type: Some(of), doc_string: says.into() }
}

fn float(name: &str, f: f32) -> Attribute {
    Attribute { name: name.into(), f, r#type: 1, ..Attribute::default() }
}

fn int(name: &str, i: usize) -> Attribute {
    Attribute { name: name.into(), i: i as i64, r#type: 2, ..Attribute::default() }
}

fn ints(name: &str, values: &[usize]) -> Attribute {
    let ints = values.iter().map(|&value| value as i64).collect();
    Attribute { name: name.into(), ints, r#type: 7, ..Attribute::default() }
}

impl Writer<'_> {
    /// Mean and scale of the pixels.
    fn centre(&mut self) {
        let channels = self.exported.input.channels;
        let (mean, scale) = (self.exported.mean(), self.exported.scale());
        for (operator, name, output, values) in [
            ("Sub", "data.mean", "data.centred", mean),
            ("Mul", "data.scale", "data.scaled", scale),
        ] {
            let Some((side, values)) = values else { continue };
            let constant = self.values(name.into(), vec![1, channels, side, side], values);
            self.next(operator, name, &[constant], vec![], output.into());
        }
    }

    /// A constant of floats; its name.
    fn values(&mut self, name: String, shape: Vec<usize>, values: Vec<f32>) -> String {
        self.tensors.push(Floats { name: name.clone(), shape });
        self.sources.push(Source::Values(values));
        name
    }

    /// A constant of whole numbers; its name.
    fn sizes(&mut self, name: String, values: &[usize]) -> String {
        self.graph.initializer.push(Tensor {
            dims: vec![values.len() as i64],
            data_type: INT64,
            int64_data: values.iter().map(|&value| value as i64).collect(),
            name: name.clone(),
            raw_data: Vec::new(),
        });
        name
    }

    /// Weights and biases of a layer, or some rows of them; their names.
    fn parameters(&mut self, layer: &str, rows: Option<&Range<usize>>, part: &str) -> [String; 2] {
        ["weight", "bias"].map(|which| {
            let tensor = format!("{layer}.{which}");
            let mut shape = self.exported.checkpoint.shape(&tensor).expect("it fits its plan");
            shape[0] = rows.map_or(shape[0], |rows| rows.len());
            let name = format!("{tensor}{part}");
            self.tensors.push(Floats { name: name.clone(), shape });
            self.sources.push(Source::Checkpoint(tensor, rows.cloned()));
            name
        })
    }

    fn node(
        &mut self,
        operator: &str,
        name: &str,
        input: Vec<String>,
        attribute: Vec<Attribute>,
        output: Vec<String>,
    ) {
        let (op_type, name) = (operator.into(), name.into());
        self.graph.node.push(Node { input, output, name, op_type, attribute });
    }

    /// An operator on the values at hand and `more`, whose output is then at hand.
    fn next(
        &mut self,
        operator: &str,
        name: &str,
        more: &[String],
        attributes: Vec<Attribute>,
        output: String,
    ) {
        let mut input = vec![std::mem::replace(&mut self.at, output.clone())];
        input.extend_from_slice(more);
        self.node(operator, name, input, attributes, vec![output]);
    }

    /// As many maps as there are values, of one position each.
    fn unflatten(&mut self, name: &str) {
        if std::mem::take(&mut self.flat) {
            let axes = self.sizes(format!("{name}.axes"), &[2, 3]);
            let output = format!("{name}.maps");
            self.next("Unsqueeze", &format!("{name}.unflatten"), &[axes], vec![], output);
        }
    }

    fn flatten(&mut self, name: &str) {
        if !std::mem::replace(&mut self.flat, true) {
            let output = format!("{name}.flat");
            self.next("Flatten", &format!("{name}.flatten"), &[], vec![int("axis", 1)], output);
        }
    }

    fn step(&mut self, step: &Step<'_>, output: String) {
        let name = step.name;
        if matches!(step.work, Work::Convolve(..) | Work::Pool(_) | Work::Normalise(..)) {
            self.unflatten(name);
        }
        match &step.work {
            Work::Convolve(window, Spread::Whole(groups)) => {
                let parameters = self.parameters(name, None, "");
                self.next("Conv", name, &parameters, convolution(window, *groups), output);
            }
            Work::Convolve(window, Spread::Towers { maps, parts }) => {
                let operator = ("Conv", convolution(window, window.groups));
                self.by_tower(name, maps, parts, operator, output);
            }
            Work::Connect(_, Spread::Whole(_)) => {
                self.flatten(name);
                let parameters = self.parameters(name, None, "");
                self.next("Gemm", name, &parameters, vec![int("transB", 1)], output);
            }
            Work::Connect(_, Spread::Towers { maps, parts }) => {
                let operator = ("Gemm", vec![int("transB", 1)]);
                self.by_tower(name, maps, parts, operator, output);
                self.flat = true;
            }
            Work::Relu => self.next("Relu", name, &[], vec![], output),
            Work::Tanh => self.next("Tanh", name, &[], vec![], output),
            Work::Normalise(lrn, maps) => self.normalise(name, lrn, maps, output),
            Work::Pool(pool) => {
                let operator = if pool.kernel == Kernel::Max { "MaxPool" } else { "AveragePool" };
                self.next(operator, name, &[], pooling(pool), output);
            }
            Work::Drop(dropout) => {
                let factor = dropout.factors().1;
                if factor != 1.0 {
                    let factor = self.values(format!("{name}.factor"), vec![], vec![factor]);
                    self.next("Mul", name, &[factor], vec![], output);
                }
            }
            Work::Repeat(count) => {
                let same = vec![self.at.clone(); *count - 1];
                let (name, output) = (format!("{name}.repeat"), format!("{name}.repeated"));
                self.next("Concat", &name, &same, vec![int("axis", 1)], output);
            }
            Work::Softmax => {
                self.flatten(name);
                self.next("Softmax", name, &[], vec![int("axis", 1)], output);
            }
        }
    }

    /// The towers' maps apart; their names.
    fn split(&mut self, name: &str, maps: &[usize]) -> Vec<String> {
        if maps.len() == 1 {
            return vec![self.at.clone()];
        }
        let names: Vec<String> = (0..maps.len()).map(|t| format!("{name}.tower{t}")).collect();
        let sizes = self.sizes(format!("{name}.split"), maps);
        let input = vec![self.at.clone(), sizes];
        let attributes = vec![int("axis", 1)];
        self.node("Split", &format!("{name}.apart"), input, attributes, names.clone());
        names
    }

    /// Puts the values called `parts` side by side.
    fn join(&mut self, name: &str, parts: Vec<String>, output: String) {
        self.at = output.clone();
        self.node("Concat", &format!("{name}.join"), parts, vec![int("axis", 1)], vec![output]);
    }

    /// A layer with weights on each of its towers.
    fn by_tower(
        &mut self,
        name: &str,
        maps: &[usize],
        parts: &[Reading],
        (operator, attributes): (&str, Vec<Attribute>),
        output: String,
    ) {
        let whole = self.at.clone();
        let towers = self.split(name, maps);
        let mut made = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let mut input = part.tower.map_or(whole.clone(), |tower| towers[tower].clone());
            if operator == "Gemm" && !self.flat {
                let flat = format!("{name}.flat{index}");
                let (node, axis) = (format!("{name}.flatten{index}"), vec![int("axis", 1)]);
                self.node("Flatten", &node, vec![input], axis, vec![flat.clone()]);
                input = flat;
            }
            let parameters = self.parameters(name, Some(&part.rows), &format!(".part{index}"));
            let input = [vec![input], parameters.to_vec()].concat();
            let (node, output) = (format!("{name}.part{index}"), format!("{name}.output{index}"));
            self.node(operator, &node, input, attributes.clone(), vec![output.clone()]);
            made.push(output);
        }
        self.join(name, made, output);
    }

    fn normalise(&mut self, name: &str, lrn: &Lrn, maps: &[usize], output: String) {
        // The operator divides α by the size.
        let alpha = (f64::from(lrn.alpha) * lrn.n as f64) as f32;
        let attributes = vec![
            int("size", lrn.n),
            float("alpha", alpha),
            float("beta", lrn.beta),
            float("bias", lrn.k),
        ];
        if maps.len() == 1 {
            return self.next("LRN", name, &[], attributes, output);
        }
        let towers = self.split(name, maps);
        let mut made = Vec::new();
        for (index, tower) in towers.into_iter().enumerate() {
            let (node, output) = (format!("{name}.part{index}"), format!("{name}.output{index}"));
            self.node("LRN", &node, vec![tower], attributes.clone(), vec![output.clone()]);
            made.push(output);
        }
        self.join(name, made, output);
    }
}

fn convolution(window: &Window, groups: usize) -> Vec<Attribute> {
    let [top, bottom, left, right] = window.padding();
    vec![
        ints("kernel_shape", &[window.size; 2]),
        ints("strides", &[window.stride; 2]),
        ints("pads", &[top, left, bottom, right]),
        int("group", groups),
    ]
}

fn pooling(pool: &Pool) -> Vec<Attribute> {
    let mut attributes =
        vec![ints("kernel_shape", &[pool.size; 2]), ints("strides", &[pool.stride; 2])];
    let rounded = |count: fn(usize, usize) -> usize| {
        let extent = |n: usize| count(n - pool.size, pool.stride) + 1;
        let made = (extent(pool.input.height), extent(pool.input.width));
        made == (pool.output.height, pool.output.width)
    };
    if rounded(|n, stride| n / stride) {
        return attributes;
    }
    if rounded(usize::div_ceil) {
        attributes.push(int("ceil_mode", 1));
    } else {
        // Rounded up the operator would count windows that begin outside of the map.
        let end = |n: usize, made: usize| ((made - 1) * pool.stride + pool.size).saturating_sub(n);
        let bottom = end(pool.input.height, pool.output.height);
        let right = end(pool.input.width, pool.output.width);
        attributes.push(ints("pads", &[0, 0, bottom, right]));
    }
    attributes
}
