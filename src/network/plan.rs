//! The plan: every layer's shape, every parameter, every buffer, which tower holds what, what
//! crosses between towers. Nothing here runs; it can be printed (`alexnet inspect`) and tested
//! without a device.

use super::share::Share;
use crate::gpu::precision::{Precision, Wanted};
use crate::layers::{Family, Kind, Layer, ParameterShapes, Role, Shape, Weights};
use std::ops::Range;

/// A network fitted to an input size, a batch and devices.
#[derive(Debug)]
pub struct Plan {
    /// Largest batch, in images.
    pub batch: usize,
    /// What it has room for.
    pub mode: Mode,
    /// Everything random follows from it.
    pub seed: u64,
    /// For each tower, the device it belongs to.
    pub devices: Vec<usize>,
    /// What the config asks GPUs to compute products in.
    pub wanted: Wanted,
    /// What that is on these devices: `auto` is f32 until GPUs are known.
    pub precision: Precision,
    /// One image as the network sees it.
    pub input: Shape,
    /// Outputs of the last layer.
    pub classes: usize,
    /// Whether the network takes its number of classes from a data set that is not known yet, so
    /// that `classes` is an assumption.
    pub assumes_classes: bool,
    /// From the input to the loss.
    pub layers: Vec<PlannedLayer>,
    /// All memory for activations and their gradients.
    pub buffers: Vec<BufferPlan>,
    /// For each device, the input batch.
    pub data: Vec<BufferId>,
    /// Where training takes more memory than one pass of `batch` images.
    pub pieces: Pieces,
    /// Training scales each layer's rate by the lengths of its weights and their gradient.
    pub lars: bool,
    /// Of the upper of [`Halves`](super::Halves): which of the neurons of its layers it has.
    pub share: Option<Share>,
}

/// A batch that goes through the network in several passes, by one process or several, and what a
/// process holds because of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    /// Passes of a batch, by all processes.
    pub all: usize,
    /// Those of this process, whose images are loaded together.
    pub own: usize,
    /// Gradients of whole passes that wait for others to be joined with, at most.
    pub waiting: usize,
    /// Whether all gradients are written to memory, though an engine may update some weights as
    /// theirs comes into being.
    pub gradients: bool,
}

impl Pieces {
    /// One pass makes a step.
    pub const ONE: Pieces = Pieces { all: 1, own: 1, waiting: 0, gradients: false };
}

/// What the plan has to have room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Forward, backward and update.
    Training,
    /// Forward only.
    Evaluation,
    /// Forward, and backward as far as the image: what there is to be seen inside. Every layer's
    /// output stays where it was written, and nothing is learned. The CPU has it.
    Explanation,
}

/// Index into [`Plan::buffers`].
pub type BufferId = usize;

/// A piece of memory that one allocation serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferPlan {
    /// For people: `conv1.output`.
    pub name: String,
    /// Where it lies.
    pub device: usize,
    /// f32 values for each image of the batch.
    pub values: usize,
}

/// One layer on all its towers.
#[derive(Debug)]
pub struct PlannedLayer {
    /// As in the config.
    pub name: String,
    /// What it is.
    pub kind: &'static Kind,
    /// For layers that have some.
    pub weights: Option<Weights>,
    /// Whether `train.freeze` keeps them as they are.
    pub frozen: bool,
    /// One part for each tower it lives on, in order.
    pub parts: Vec<Part>,
}

/// A layer on one tower.
#[derive(Debug)]
pub struct Part {
    /// Where it lives, from 0.
    pub tower: usize,
    /// Its tower's device.
    pub device: usize,
    /// What it computes.
    pub layer: Box<dyn Layer>,
    /// Its channels among those of all towers.
    pub channels: Range<usize>,
    /// What it reads; the towers joined, if it reads all.
    pub input: Shape,
    /// Its input.
    pub x: BufferId,
    /// The same as `x` for a layer that works in place.
    pub y: BufferId,
    /// Where `x` is put together from several towers.
    pub join: Option<Join>,
    /// Gradient at the output (training only; `None` for softmax, where it begins).
    pub dy: Option<BufferId>,
    /// Gradient at the input; `None` where nothing below learns. The same as `dy` for pointwise
    /// layers.
    pub dx: Option<BufferId>,
}

/// How a layer that reads all towers gets its input: channels of several towers side by side.
#[derive(Debug)]
pub struct Join {
    /// In the order of their channels.
    pub from: Vec<JoinSource>,
}

/// What one tower gives to a joined input.
#[derive(Clone, Debug)]
pub struct JoinSource {
    /// Index of the part in the layer below.
    pub part: usize,
    /// Where it lies.
    pub tower: usize,
    /// Its output.
    pub y: BufferId,
    /// Its channels in the joined input.
    pub channels: Range<usize>,
}

/// A parameter as the outside world sees it, all towers joined along the first dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorPlan {
    /// `conv1.weight`
    pub name: String,
    /// Index into [`Plan::layers`].
    pub layer: usize,
    /// Biases, or else weights.
    pub is_bias: bool,
    /// The first dimension runs over all towers.
    pub shape: Vec<usize>,
}

impl TensorPlan {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Activations that go from tower to tower in one step.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Crossing {
    /// The layer that reads them.
    pub layer: String,
    /// Both directions between the towers summed.
    pub bytes_forward: u64,
    /// As `bytes_forward`, for the gradients.
    pub bytes_backward: u64,
}

impl PlannedLayer {
    /// Whether it has weights that training changes.
    pub fn learns(&self) -> bool {
        self.weights.is_some() && !self.frozen
    }
    /// The output of all towers joined.
    pub fn output(&self) -> Shape {
        let shape = self.parts[0].layer.output();
        Shape { channels: self.parts.iter().map(|p| p.layer.output().channels).sum(), ..shape }
    }
    /// ParameterShapes of all towers.
    pub fn parameters(&self) -> u64 {
        self.parts.iter().map(Part::parameters).sum()
    }
    /// Multiply-adds of one image's forward pass, all towers.
    pub fn multiply_adds(&self) -> u64 {
        self.parts.iter().map(|p| p.layer.multiply_adds()).fold(0, u64::saturating_add)
    }
    /// Values that leave it, if it is a layer of neurons: conv, local or fc.
    pub fn neurons(&self) -> u64 {
        if self.weights.is_some() { self.output().len() as u64 } else { 0 }
    }
}

impl Part {
    fn parameters(&self) -> u64 {
        let size = |p: ParameterShapes| {
            p.weight.iter().product::<usize>() + p.bias.iter().product::<usize>()
        };
        self.layer.parameters().map_or(0, size) as u64
    }
}

impl Plan {
    /// Weights and biases of all layers.
    pub fn parameters(&self) -> u64 {
        self.layers.iter().map(PlannedLayer::parameters).sum()
    }
    /// Multiply-adds of one image's forward pass.
    pub fn multiply_adds(&self) -> u64 {
        self.layers.iter().map(PlannedLayer::multiply_adds).fold(0, u64::saturating_add)
    }
    /// Values that leave layers of neurons, for one image.
    pub fn neurons(&self) -> u64 {
        self.layers.iter().map(PlannedLayer::neurons).sum()
    }
    /// The layer of that name.
    pub fn layer(&self, name: &str) -> Option<&PlannedLayer> {
        self.layers.iter().find(|l| l.name == name)
    }
    /// Whether it ends in a loss: all but the lower of [`Halves`](super::Halves) do.
    pub fn has_loss(&self) -> bool {
        self.layers.last().is_some_and(|layer| layer.kind.family == Family::Loss)
    }
    /// BufferPlan with the class probabilities [batch, classes].
    pub fn probabilities(&self) -> BufferId {
        self.layers.last().expect("a plan ends in softmax").parts[0].y
    }

    /// What softmax makes them of [batch, classes].
    pub fn logits(&self) -> BufferId {
        self.layers.last().expect("a plan ends in softmax").parts[0].x
    }

    /// Every parameter in the outside world's order and shape.
    pub fn tensors(&self) -> Vec<TensorPlan> {
        let mut tensors = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let Some(first) = layer.parts[0].layer.parameters() else { continue };
            for (is_bias, mut shape) in [(false, first.weight), (true, first.bias)] {
                shape[0] = layer.output().channels;
                let name = format!("{}.{}", layer.name, if is_bias { "bias" } else { "weight" });
                tensors.push(TensorPlan { name, layer: index, is_bias, shape });
            }
        }
        tensors
    }

    /// What crosses between towers in one training step of a full batch.
    pub fn crossings(&self) -> Vec<Crossing> {
        let crossing = |layer: &PlannedLayer| {
            let sent = |p: &Part| -> usize {
                let join = p.join.iter().flat_map(|j| &j.from).filter(|f| f.tower != p.tower);
                join.map(|f| f.channels.len() * p.input.pixels()).sum()
            };
            let values = layer.parts.iter().map(sent).sum::<usize>() * self.batch;
            let bytes = (values * self.precision.format().bytes()) as u64;
            // Nothing goes back to where nothing learns.
            let back = self.mode == Mode::Evaluation || layer.parts.iter().any(|p| p.dx.is_some());
            (bytes > 0).then(|| Crossing {
                layer: layer.name.clone(),
                bytes_forward: bytes,
                bytes_backward: if back { bytes } else { 0 },
            })
        };
        self.layers.iter().filter_map(crossing).collect()
    }

    /// Bytes that each device needs: activations, their gradients, parameters (in training with
    /// gradients and momenta) and scratch space. The CPU needs less: what passes of several layers
    /// ([`Fusion`](super::Fusion)) keep in the cache is never there, nor are gradients of weights
    /// that are updated at once, nor towers' outputs that are written where both are read.
    pub fn memory_bytes(&self) -> Vec<u64> {
        let devices = self.devices.iter().max().map_or(1, |d| d + 1);
        (0..devices)
            .map(|device| {
                let buffers = self.buffers.iter().filter(|b| b.device == device);
                let values = buffers.map(|b| (b.values * self.batch) as u64);
                let values = values.fold(0, u64::saturating_add);
                let parts =
                    || self.layers.iter().flat_map(|l| &l.parts).filter(|p| p.device == device);
                let parameters: u64 = parts().map(Part::parameters).sum();
                let copies = if self.mode == Mode::Training { 3 } else { 1 };
                let scratch = if self.mode == Mode::Training { self.workspace(device) } else { 0 };
                values.saturating_add(copies * parameters + scratch as u64).saturating_mul(4)
            })
            .collect()
    }

    /// Values of scratch space that one device needs, shared by all its layers.
    pub fn workspace(&self, device: usize) -> usize {
        self.workspace_of(device, self.batch)
    }

    /// The same for so many images at once.
    pub fn workspace_of(&self, device: usize, batch: usize) -> usize {
        let parts = self.layers.iter().flat_map(|l| &l.parts).filter(|p| p.device == device);
        let need = |p: &Part| match p.layer.role() {
            Role::Learn(layer) => layer.workspace(batch),
            _ => 0,
        };
        parts.map(need).max().unwrap_or(0)
    }
}
