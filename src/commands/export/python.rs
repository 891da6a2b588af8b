//! The module that builds a network in PyTorch, written to be read: a line a layer.

use super::Exported;
use super::names::Names;
use super::network::{Reading, Spread, Step, Work};
use crate::data::preparation::Orientation;
use crate::layers::Shape;
use crate::layers::pool::{Kernel, Pool};
use crate::layers::window::Window;
use anyhow::Result;

/// The text of `model.py`.
///
/// # Errors
/// If the preparation cannot be written down.
pub fn module(exported: &Exported<'_>, names: &Names) -> Result<String> {
    let code = Code { exported, names };
    let (network, forward) = (code.layers(), code.forward());
    let Shape { height, channels, .. } = exported.input;
    let colours = if channels == 1 { "grey" } else { "RGB" };
    Ok(format!(
        "\"\"\"A network of the program alexnet in PyTorch: the five most probable labels of images.

    pip install torch safetensors pillow numpy
    python model.py photo.jpg
\"\"\"
# The config's name is {name}, the checkpoint's {checkpoint}.

import sys
from pathlib import Path

import numpy
import torch
from PIL import Image{image_ops}
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

FOLDER = Path(__file__).parent
{functions}

class Network(nn.Module):
    \"\"\"From images [N, {channels}, {height}, {height}], {colours} from 0 to 255, to logits.\"\"\"

    def __init__(self):
        super().__init__()
{network}
    def forward(self, x):
{forward}        return x


def load():
    \"\"\"The network with its weights, ready to use; its softmax gives probabilities.\"\"\"
    with torch.device(\"meta\"):  # no time for first weights that are not used
        network = Network()
    network.load_state_dict(load_file(FOLDER / \"weights.safetensors\"), assign=True)
    return network.eval()

{prepare}

def main():
    network = load()
    labels = (FOLDER / \"labels.txt\").read_text(encoding=\"utf-8\").split(\"\\n\")
    for path in sys.argv[1:]:
        with torch.inference_mode():
            probabilities = network(prepare(path)).softmax(1)[0]
        print(path)
        for probability, index in zip(*probabilities.topk(min(5, len(probabilities)))):
            print(f\"  {{100 * probability:5.1f}} %  {{labels[index]}}\")


if __name__ == \"__main__\":
    main()
",
        name = quoted(&exported.name),
        checkpoint = quoted(&exported.checkpoint.path.display().to_string()),
        image_ops = if code.turns() { ", ImageOps" } else { "" },
        functions = code.functions(),
        prepare = code.prepare()?,
    ))
}

/// On one line, whatever it has in it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

struct Code<'a> {
    exported: &'a Exported<'a>,
    names: &'a Names,
}

impl Code<'_> {
    fn uses(&self, is: impl Fn(&Work<'_>) -> bool) -> bool {
        self.exported.steps.iter().any(|step| is(&step.work))
    }

    /// Whether image files are turned as their EXIF data say.
    fn turns(&self) -> bool {
        self.exported.checkpoint.facts.preparation.orientation == Orientation::Apply
    }

    /// What the layers need beyond PyTorch's own.
    fn functions(&self) -> String {
        let mut text = String::new();
        if self.uses(|work| matches!(work, Work::Normalise(..))) {
            text += "

def normalise(x, towers, n, alpha, beta, k):
    \"\"\"Response normalisation within each tower's maps; PyTorch divides alpha by n.\"\"\"
    maps = (F.local_response_norm(t, n, n * alpha, beta, k) for t in x.split(towers, 1))
    return torch.cat(tuple(maps), 1)
";
        }
        if self.uses(|work| matches!(work, Work::Drop(d) if d.factors().1 != 1.0)) {
            text += "

def dropout(x, rate, training):
    \"\"\"The paper's: in use all times 1 - rate, where PyTorch's own divides in training.\"\"\"
    return x * (torch.rand_like(x) >= rate) if training else x * (1 - rate)
";
        }
        text
    }

    /// The lines that make the layers with weights.
    fn layers(&self) -> String {
        let mut text = String::new();
        let channels = self.exported.input.channels;
        for (name, values) in [("mean", self.exported.mean()), ("scale", self.exported.scale())] {
            if let Some((side, _)) = values {
                let shape = format!("torch.zeros({channels}, {side}, {side})");
                text += &format!("        self.register_buffer(\"{name}\", {shape})\n");
            }
        }
        for step in &self.exported.steps {
            let layer = match &step.work {
                Work::Convolve(window, spread) => {
                    let groups = match spread {
                        Spread::Whole(groups) => *groups,
                        Spread::Towers { .. } => window.groups,
                    };
                    convolution(window, groups, step.output.channels)
                }
                Work::Connect(inputs, _) => {
                    format!("nn.Linear({inputs}, {})", step.output.channels)
                }
                _ => continue,
            };
            text += &format!("        self.{} = {layer}\n", self.names.of(step.name));
        }
        text
    }

    /// The lines that go through the layers.
    fn forward(&self) -> String {
        let mut text = String::new();
        for (name, sign, values) in
            [("mean", '-', self.exported.mean()), ("scale", '*', self.exported.scale())]
        {
            if values.is_some() {
                text += &format!("        x = x {sign} self.{name}\n");
            }
        }
        let mut flat = false;
        for step in &self.exported.steps {
            if matches!(step.work, Work::Softmax) {
                if !flat {
                    text += "        x = x.flatten(1)\n";
                }
                continue;
            }
            let maps =
                matches!(step.work, Work::Convolve(..) | Work::Pool(_) | Work::Normalise(..));
            if maps && std::mem::take(&mut flat) {
                text += "        x = x[:, :, None, None]\n";
            }
            let value = self.value(step, flat);
            flat |= matches!(step.work, Work::Connect(..));
            text += &format!("        x = {value}{}\n", self.remark(step, &value, flat));
        }
        text
    }

    /// The layer's name, unless its line has it, and the shape of what it makes, where it has
    /// weights or pools.
    fn remark(&self, step: &Step<'_>, value: &str, flat: bool) -> String {
        let Shape { height, width, channels } = step.output;
        let shape = match &step.work {
            Work::Relu | Work::Tanh | Work::Drop(_) | Work::Normalise(..) => String::new(),
            _ if flat => channels.to_string(),
            _ => format!("{channels}x{height}x{width}"),
        };
        let name = self.names.of(step.name);
        match (value.contains(&format!("self.{name}")), shape.as_str()) {
            (true, shape) => format!("  # {shape}"),
            (false, "") => format!("  # {name}"),
            (false, shape) => format!("  # {name}: {shape}"),
        }
    }

    /// What a layer makes of `x`.
    fn value(&self, step: &Step<'_>, flat: bool) -> String {
        let name = self.names.of(step.name);
        let x = if flat { "x" } else { "x.flatten(1)" };
        match &step.work {
            Work::Convolve(window, Spread::Whole(_)) => {
                format!("self.{name}({})", padded(window, "x"))
            }
            Work::Convolve(window, Spread::Towers { maps, parts }) => {
                let (stride, groups) = (window.stride, window.groups);
                let even = uneven_padding(window).is_none();
                let padding = if even { window.padding()[0] } else { 0 };
                by_tower(name, maps, parts, |read, weights| {
                    let read = padded(window, read);
                    format!("F.conv2d({read}, {weights}, {stride}, {padding}, groups={groups})")
                })
            }
            Work::Connect(_, Spread::Whole(_)) => format!("self.{name}({x})"),
            Work::Connect(_, Spread::Towers { maps, parts }) => {
                by_tower(name, maps, parts, |read, weights| match flat {
                    true => format!("F.linear({read}, {weights})"),
                    false => format!("F.linear({read}.flatten(1), {weights})"),
                })
            }
            Work::Relu => "F.relu(x)".into(),
            Work::Tanh => "torch.tanh(x)".into(),
            Work::Normalise(lrn, maps) => format!(
                "normalise(x, {maps:?}, {}, {:?}, {:?}, {:?})",
                lrn.n, lrn.alpha, lrn.beta, lrn.k
            ),
            Work::Pool(pool) => pooling(pool),
            Work::Drop(dropout) if dropout.factors().1 == 1.0 => {
                format!("F.dropout(x, {:?}, self.training)", dropout.rate)
            }
            Work::Drop(dropout) => format!("dropout(x, {:?}, self.training)", dropout.rate),
            Work::Repeat(count) => format!("torch.cat([x] * {count}, 1)"),
            Work::Softmax => unreachable!("left out above"),
        }
    }

    /// The function that makes an image file the network's input, as `predict` does.
    fn prepare(&self) -> Result<String> {
        let facts = &self.exported.checkpoint.facts;
        // As its keys stand in checkpoints.
        let how = serde_json::to_value(&facts.preparation)?;
        let [high, wide] = facts.preparation.size;
        let crop = self.exported.input.height;
        let (left, top) = ((wide - crop) / 2, (high - crop) / 2);
        let open = if self.turns() {
            "ImageOps.exif_transpose(Image.open(path))"
        } else {
            "Image.open(path)"
        };
        let opened = match how["background"].as_str() {
            Some(colour) => format!(
                "    image = {open}.convert(\"RGBA\")
    image = Image.alpha_composite(Image.new(\"RGBA\", image.size, \"#{colour}\"), image)\n"
            ),
            None => format!("    image = {open}\n"),
        };
        let (scaled, size) = if how["resize"] == "warp" {
            ("", format!("    size = {wide}, {high}\n"))
        } else {
            let size = format!(
                "    if image.height * {wide} >= image.width * {high}:
        size = {wide}, {wide} * image.height // image.width
    else:
        size = {high} * image.width // image.height, {high}\n"
            );
            ("cover ", size)
        };
        let (mode, axes) = match facts.channels {
            1 => ("L", "numpy.array(image)[None, None]"),
            _ => ("RGB", "numpy.array(image).transpose(2, 0, 1)[None]"),
        };
        Ok(format!(
            "
def prepare(path):
    \"\"\"The image of a file scaled to {scaled}{wide}x{high}, and the crop in its middle.\"\"\"
{opened}{size}    image = image.convert(\"{mode}\").resize(size, Image.BILINEAR)
    left, top = (size[0] - {wide}) // 2 + {left}, (size[1] - {high}) // 2 + {top}
    image = image.crop((left, top, left + {crop}, top + {crop}))
    return torch.from_numpy({axes}.astype(numpy.float32))
"
        ))
    }
}

/// A layer with weights tower by tower: `one` makes a tower's expression from what it reads and its
/// weights and biases.
fn by_tower(
    name: &str,
    maps: &[usize],
    parts: &[Reading],
    one: impl Fn(&str, &str) -> String,
) -> String {
    let parts = parts.iter().map(|part| {
        let read = match part.tower {
            Some(tower) => {
                let first: usize = maps[..tower].iter().sum();
                format!("x[:, {first}:{}]", first + maps[tower])
            }
            None => "x".into(),
        };
        let rows = format!("[{}:{}]", part.rows.start, part.rows.end);
        let weights = format!("self.{name}.weight{rows}, self.{name}.bias{rows}");
        format!("            {},\n", one(&read, &weights))
    });
    format!("torch.cat([\n{}        ], 1)", parts.collect::<String>())
}

/// PyTorch's padding of a side is one number; this is what has to be done before where it differs.
fn uneven_padding(window: &Window) -> Option<String> {
    let [top, bottom, left, right] = window.padding();
    let even = top == bottom && left == right && top == left;
    (!even).then(|| format!("({left}, {right}, {top}, {bottom})"))
}

fn padded(window: &Window, x: &str) -> String {
    match uneven_padding(window) {
        Some(padding) => format!("F.pad({x}, {padding})"),
        None => x.into(),
    }
}

fn convolution(window: &Window, groups: usize, outputs: usize) -> String {
    let inputs = groups * window.group_inputs();
    let mut text = format!("nn.Conv2d({inputs}, {outputs}, {}", window.size);
    let padding = if uneven_padding(window).is_none() { window.padding()[0] } else { 0 };
    for (key, value, default) in
        [("stride", window.stride, 1), ("padding", padding, 0), ("groups", groups, 1)]
    {
        if value != default {
            text += &format!(", {key}={value}");
        }
    }
    text + ")"
}

fn pooling(pool: &Pool) -> String {
    let function = if pool.kernel == Kernel::Max { "max_pool2d" } else { "avg_pool2d" };
    let down = |n: usize, made: usize| (n - pool.size) / pool.stride + 1 == made;
    let plain =
        down(pool.input.height, pool.output.height) && down(pool.input.width, pool.output.width);
    let rounding = if plain { "" } else { ", ceil_mode=True" };
    format!("F.{function}(x, {}, {}{rounding})", pool.size, pool.stride)
}
