//! All that a network needs on each GPU, before any of it is taken: kernels, buffers, what crosses.

use super::kept;
use super::lanes::stream;
use super::norms::{self, Norms};
use crate::gpu::device::STREAMS;
use crate::gpu::format::Format;
use crate::gpu::launch::{Launch, constants};
use crate::gpu::memory::taken;
use crate::kernel_source;
use crate::layers::cuda::{Factors, LaunchContext, Launches};
use crate::layers::pool::Kernel;
use crate::layers::{Role, Shape, Stage};
use crate::network::{BufferId, BufferPlan, Fusion, Mode, Part, Plan, PlannedLayer, WithRelu};
use anyhow::{Context, Result, bail};

/// One network's needs for batches of `images`.
pub struct Layout {
    /// Of a batch.
    pub images: usize,
    /// How each of the plan's buffers is stored.
    pub buffers: Vec<Stored>,
    /// Layers with weights that apply the ReLU above them.
    pub fusions: Vec<Fusion<WithRelu>>,
    /// For each layer, whether it is a ReLU whose backward pass the layer above does.
    pub masked: Vec<bool>,
    /// For each device, the next batch's crops to its input.
    pub inputs: Vec<Launch>,
    /// `[layer][part]`
    pub parts: Vec<Vec<PartLayout>>,
    /// For each device and each of its streams for kernels, values of scratch space.
    pub scratch: Vec<[usize; STREAMS]>,
}

/// How a buffer of activations or gradients is stored.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Each number.
    pub format: Format,
    /// Numbers for each image of the batch, with those that fill packs.
    pub values: usize,
}

impl Stored {
    /// Bytes of a batch of so many images.
    pub fn bytes(self, images: usize) -> usize {
        images * self.values * self.format.bytes()
    }
}

/// What one layer needs on one tower.
pub struct PartLayout {
    /// Its kernels.
    pub launches: Box<dyn Launches>,
    /// Where its input is joined: for each source.
    pub sources: Vec<SourceLayout>,
    /// The update of weights and biases.
    pub updates: Vec<Launch>,
    /// Of a layer whose rate depends on the lengths of its weights and their gradient.
    pub norms: Option<Norms>,
    /// The weights as products read them, where those are others: their bytes, and what makes them.
    pub factors: Option<(usize, Launch)>,
}

/// What moves one tower's channels into a joined input and their gradient back.
pub struct SourceLayout {
    /// Into the joined input.
    pub join: Launch,
    /// Out of the joined input's gradient: written, or added to what is there.
    pub take: Launch,
    /// Where the source is on another GPU: from what came back to the gradient there.
    pub collect: Option<Launch>,
    /// Bytes that cross, each way; 0 on one GPU.
    pub crossing: usize,
}

impl Layout {
    /// For GPUs of so many multiprocessors.
    pub fn new(plan: &Plan, images: usize, multiprocessors: &[usize]) -> Result<Layout> {
        let training = plan.mode == Mode::Training;
        let most = plan.buffers.iter().map(|b| b.values * images).max().unwrap_or(0);
        if most >= 1 << 31 {
            bail!("a batch of {images} is too large for a GPU's 32-bit addresses within a layer");
        }
        let fusions = plan.fusions::<WithRelu>();
        let masked: Vec<bool> = (0..plan.layers.len()).map(|l| is_masked(plan, l)).collect();
        let stored_channels = stored_channels(plan);
        let buffers = stored(plan, stored_channels);
        let mut scratch = vec![[0; STREAMS]; plan.data.len()];
        let mut parts = Vec::new();
        for (index, layer) in plan.layers.iter().enumerate() {
            let mut of_layer = Vec::new();
            for (number, part) in layer.parts.iter().enumerate() {
                let float = |id: usize| buffers[id].format != plan.precision.format();
                let context = LaunchContext {
                    precision: plan.precision,
                    relu: fusions.iter().any(|f| f.at == index && f.part == number),
                    mask: index > 0 && masked[index - 1],
                    float_input: float(part.x),
                    float_output: float(part.y),
                    stored_channels: stored_channels.filter(|_| plan.data.contains(&part.x)),
                    ..LaunchContext::new(images, multiprocessors[part.device], training)
                };
                let launches =
                    part.layer.cuda(&context).with_context(|| format!("layer {}", layer.name))?;
                for behind in [false, true] {
                    let most = &mut scratch[part.device][stream(plan, part.tower, behind)];
                    *most = launches.scratch(behind).max(*most);
                }
                let factors = launches.factors();
                of_layer.push(PartLayout {
                    launches,
                    sources: sources(plan, index, part, &context),
                    updates: if training { updates(part, factors) } else { Vec::new() },
                    factors: factors.map(|f| rounded(part, f)),
                    norms: (plan.lars && layer.learns()).then(|| Norms::new(sizes(part)[0])),
                });
            }
            parts.push(of_layer);
        }
        let input = |_| input(plan, images, stored_channels);
        let inputs = plan.data.iter().map(input).collect();
        Ok(Layout { images, buffers, fusions, masked, inputs, parts, scratch })
    }

    /// What is kept of a forward pass: the probabilities and what they are made of, with their
    /// bytes.
    pub fn kept(&self, plan: &Plan) -> [(BufferId, usize); 2] {
        [plan.probabilities(), plan.logits()].map(|id| (id, self.buffers[id].bytes(self.images)))
    }

    /// Bytes that each device needs, buffer by buffer as a driver takes them.
    pub fn bytes(&self, plan: &Plan) -> Vec<usize> {
        let float = size_of::<f32>();
        let mut bytes = vec![0; plan.data.len()];
        let mut take = |device: usize, one: usize| bytes[device] += taken(one);
        for (device, streams) in self.scratch.iter().enumerate() {
            streams.iter().for_each(|values| take(device, values * float));
        }
        for (buffer, stored) in plan.buffers.iter().zip(&self.buffers) {
            take(buffer.device, stored.bytes(self.images));
        }
        for device in 0..plan.data.len() {
            let (values, colour_len) = (plan.input.len(), 2 * plan.input.channels);
            take(device, self.images * values); // the next batch
            take(device, self.images * colour_len * float);
            take(device, values * float); // the mean
        }
        let last = plan.layers.last().map_or(0, |layer| layer.parts[0].device);
        for (_, one) in (0..kept::PASSES).flat_map(|_| self.kept(plan)) {
            take(last, one);
        }
        [self.images, 3].into_iter().for_each(|values| take(last, values * float)); // the loss
        let copies = if plan.mode == Mode::Training { 3 } else { 1 };
        for (layer, layouts) in plan.layers.iter().zip(&self.parts) {
            for (part, layout) in layer.parts.iter().zip(layouts) {
                for values in sizes(part).into_iter().flat_map(|v| [v; 3].into_iter().take(copies))
                {
                    take(part.device, values * float);
                }
                take(part.device, layout.launches.saved());
                take(part.device, layout.factors.as_ref().map_or(0, |(bytes, _)| *bytes));
                let joined = part.join.iter().flat_map(|j| &j.from);
                for (from, source) in joined.zip(&layout.sources) {
                    take(part.device, source.crossing);
                    if source.collect.is_some() {
                        take(plan.devices[from.tower], source.crossing);
                    }
                }
            }
        }
        norms::bytes(plan).into_iter().for_each(|(device, one)| bytes[device] += taken(one));
        bytes
    }

    /// Every kernel, with its device.
    pub fn launches(&self, plan: &Plan) -> Vec<(usize, &Launch)> {
        let mut all: Vec<_> = self.inputs.iter().enumerate().collect();
        for (layer, layouts) in plan.layers.iter().zip(&self.parts) {
            for (part, layout) in layer.parts.iter().zip(layouts) {
                let mut add = |device, work| all.push((device, work));
                layout.launches.launches().into_iter().for_each(|(_, w)| add(part.device, w));
                layout.updates.iter().for_each(|w| add(part.device, w));
                layout.norms.iter().flat_map(Norms::launches).for_each(|w| add(part.device, w));
                layout.factors.iter().for_each(|(_, w)| add(part.device, w));
                let joined = part.join.iter().flat_map(|j| &j.from);
                for (from, source) in joined.zip(&layout.sources) {
                    add(part.device, &source.join);
                    if part.dx.is_some() {
                        add(part.device, &source.take);
                    }
                    source.collect.iter().for_each(|w| add(plan.devices[from.tower], w));
                }
            }
        }
        all
    }
}

/// As how many channels the input is stored, if not as many as it has: what all its readers want.
fn stored_channels(plan: &Plan) -> Option<usize> {
    let parts = plan.layers.iter().flat_map(|layer| &layer.parts);
    let mut readers = parts.filter(|part| plan.data.contains(&part.x));
    let wish = |part: &Part| part.layer.stored_channels(plan.precision);
    let first = wish(readers.next()?)?;
    readers.all(|part| wish(part) == Some(first)).then_some(first)
}

/// The buffers in the plan's precision; but what the loss reads of a layer with weights, and what
/// it makes of it, are f32.
fn stored(plan: &Plan, channels: Option<usize>) -> Vec<Stored> {
    let format = plan.precision.format();
    let stored = |buffer: &BufferPlan| Stored { format, values: buffer.values };
    let mut all: Vec<Stored> = plan.buffers.iter().map(stored).collect();
    if let Some(channels) = channels {
        let values = plan.input.pixels() * channels;
        plan.data.iter().for_each(|&id| all[id].values = values);
    }
    all[plan.probabilities()].format = Format::Float;
    // Not where it is joined from several towers: copies are in one format.
    let below = plan.layers.len().checked_sub(2).map(|l| &plan.layers[l]);
    let writes_it = |layer: &PlannedLayer| layer.parts.iter().any(|p| p.y == plan.logits());
    if below.is_some_and(|layer| layer.weights.is_some() && writes_it(layer)) {
        all[plan.logits()].format = Format::Float;
    }
    all
}

/// Whether the layer is a ReLU that the layer above alone reads, tower by tower, and can do the
/// backward pass of.
fn is_masked(plan: &Plan, layer: usize) -> bool {
    let (own, Some(above)) = (&plan.layers[layer].parts, plan.layers.get(layer + 1)) else {
        return false;
    };
    let does = |part: &Part| match (part.layer.stage(), part.layer.role()) {
        (Some(Stage::Normalise(_)), _) | (_, Role::Learn(_)) => true,
        (Some(Stage::Pool(pool)), _) => pool.kernel == Kernel::Max,
        _ => false,
    };
    let reads = |part: &Part, relu: &Part| {
        part.join.is_none() && part.x == relu.y && part.dx.is_some() && part.dx == relu.dy
    };
    own.iter().all(|part| matches!(part.layer.stage(), Some(Stage::Relu)))
        && own.len() == above.parts.len()
        && own.iter().zip(&above.parts).all(|(relu, part)| does(part) && reads(part, relu))
}

fn input(plan: &Plan, images: usize, stored: Option<usize>) -> Launch {
    let Shape { height, width, channels } = plan.input;
    let stored = stored.unwrap_or(channels);
    let all = [("IMAGES", images), ("HEIGHT", height), ("WIDTH", width), ("CHANNELS", channels)];
    let mut all = constants(&all);
    all.push(("STORED_C", stored.to_string()));
    all.extend(plan.precision.format().constant());
    let pixels = images * height * width;
    let moves = pixels * (channels + stored * plan.precision.format().bytes());
    Launch::each(kernel_source!("input.cu"), all, "input", pixels * stored).moving(moves)
}

/// Numbers of weights and biases, both 0 for a layer that does not learn.
pub fn sizes(part: &Part) -> [usize; 2] {
    part.layer.parameters().map_or([0; 2], |shapes| shapes.sizes())
}

fn sources(plan: &Plan, layer: usize, part: &Part, context: &LaunchContext) -> Vec<SourceLayout> {
    let (all, pixels) = (part.input.channels, part.input.pixels() * context.images);
    let index = plan.layers[layer].parts.iter().position(|p| p.tower == part.tower);
    let is_first = index == Some(0);
    let joined = part.join.iter().flat_map(|join| &join.from);
    joined
        .map(|from| {
            let n = from.channels.len();
            let crosses = plan.devices[from.tower] != part.device;
            let work = |name, of: usize, first| {
                let all =
                    [("PIXELS", pixels), ("CHANNELS", n), ("JOINED_C", of), ("CHANNEL", first)];
                let widths = [n, of, first].map(|width| context.pack_of(width));
                let pack = widths.into_iter().min().unwrap_or(1);
                let all = context.constants(&all);
                let buffers = if matches!(name, "take_add" | "add") { 3 } else { 2 };
                Launch::each(kernel_source!("towers.cu"), all, name, pixels * n / pack)
                    .moving(buffers * context.bytes(pixels * n))
            };
            let first = from.channels.start;
            let take = if is_first || crosses { "take" } else { "take_add" };
            let collect = crosses && part.dx.is_some();
            SourceLayout {
                join: work("join", all, first),
                take: work(take, all, first),
                collect: collect.then(|| match is_first {
                    true => work("take", n, 0),
                    false => work("add", n, 0),
                }),
                crossing: if crosses { pixels * n * plan.precision.format().bytes() } else { 0 },
            }
        })
        .collect()
}

/// The update of `count` values, the weights of a layer whose products read `factors` or others.
fn update(name: &'static str, count: usize, factors: Option<Factors>) -> Launch {
    let Factors { columns, channels, stored } =
        factors.unwrap_or(Factors { columns: count, channels: 1, stored: 1 });
    let mut all =
        constants(&[("COUNT", count), ("OUT_C", columns), ("REAL_C", channels), ("IN_C", stored)]);
    all.extend(factors.and_then(|_| Format::Bf16.constant()));
    let each = if [count, columns].iter().all(|n| n.is_multiple_of(4)) { 4 } else { 1 };
    // Weights and momenta are read and written, gradients read.
    let rounded = factors.map_or(0, |f| count / f.channels * f.stored * Format::Bf16.bytes());
    let floats = if name == "update" { 5 } else { 1 };
    let moves = floats * count * size_of::<f32>() + rounded;
    Launch::each(kernel_source!("update.cu"), all, name, count / each).moving(moves)
}

fn updates(part: &Part, factors: Option<Factors>) -> Vec<Launch> {
    if !matches!(part.layer.role(), Role::Learn(_)) {
        return Vec::new();
    }
    let [weights, biases] = sizes(part);
    vec![update("update", weights, factors), update("update", biases, None)]
}

/// The bytes of a layer's factors, and what makes them of its weights.
fn rounded(part: &Part, factors: Factors) -> (usize, Launch) {
    let [weights, _] = sizes(part);
    let values = weights / factors.channels * factors.stored;
    (values * Format::Bf16.bytes(), update("round_off", weights, Some(factors)))
}
