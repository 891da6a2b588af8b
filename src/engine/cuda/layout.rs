//! All that a network needs on each GPU, before any of it is taken: kernels, buffers, what crosses.

use crate::gpu::launch::{Launch, constants};
use crate::kernel_source;
use crate::layers::cuda::{LaunchContext, Launches};
use crate::layers::{Role, Shape};
use crate::network::{Fusion, Mode, Part, Plan, WithRelu};
use anyhow::{Context, Result, bail};

/// One network's needs for batches of `images`.
pub struct Layout {
    /// Of a batch.
    pub images: usize,
    /// Layers with weights that apply the ReLU above them.
    pub fusions: Vec<Fusion<WithRelu>>,
    /// For each device, the next batch's crops to its input.
    pub inputs: Vec<Launch>,
    /// `[layer][part]`
    pub parts: Vec<Vec<PartLayout>>,
    /// For each device, values of scratch space.
    pub scratch: Vec<usize>,
}

/// What one layer needs on one tower.
pub struct PartLayout {
    /// Its kernels.
    pub launches: Box<dyn Launches>,
    /// Where its input is joined: for each source.
    pub sources: Vec<SourceLayout>,
    /// The update of weights and biases.
    pub updates: Vec<Launch>,
}

/// What moves one tower's channels into a joined input and their gradient back.
pub struct SourceLayout {
    /// Into the joined input.
    pub join: Launch,
    /// Out of the joined input's gradient: written, or added to what is there.
    pub take: Launch,
    /// Where the source is on another GPU: from what came back to the gradient there.
    pub collect: Option<Launch>,
    /// Values that cross, each way; 0 on one GPU.
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
        let mut scratch = vec![0; plan.data.len()];
        let mut parts = Vec::new();
        for (index, layer) in plan.layers.iter().enumerate() {
            let mut of_layer = Vec::new();
            for (number, part) in layer.parts.iter().enumerate() {
                let context = LaunchContext {
                    images,
                    multiprocessors: multiprocessors[part.device],
                    training,
                    precision: plan.precision,
                    relu: fusions.iter().any(|f| f.at == index && f.part == number),
                };
                let launches =
                    part.layer.cuda(&context).with_context(|| format!("layer {}", layer.name))?;
                scratch[part.device] = scratch[part.device].max(launches.scratch());
                of_layer.push(PartLayout {
                    launches,
                    sources: sources(plan, index, part, images),
                    updates: if training { updates(part) } else { Vec::new() },
                });
            }
            parts.push(of_layer);
        }
        let inputs = plan.data.iter().map(|_| input(plan, images)).collect();
        Ok(Layout { images, fusions, inputs, parts, scratch })
    }

    /// Bytes that each device needs.
    pub fn bytes(&self, plan: &Plan) -> Vec<usize> {
        let float = size_of::<f32>();
        let mut bytes: Vec<usize> = self.scratch.iter().map(|s| s * float).collect();
        for buffer in &plan.buffers {
            bytes[buffer.device] += buffer.values * self.images * float;
        }
        for of_device in &mut bytes {
            let (values, colour_len) = (plan.input.len(), plan.input.channels + 1);
            *of_device += self.images * (values + colour_len * float); // the next batch
            *of_device += values * float; // the mean
        }
        let copies = if plan.mode == Mode::Training { 3 } else { 1 };
        for (layer, layouts) in plan.layers.iter().zip(&self.parts) {
            for (part, layout) in layer.parts.iter().zip(layouts) {
                let own: usize = sizes(part).iter().sum();
                bytes[part.device] += copies * own * float + layout.launches.saved();
                let joined = part.join.iter().flat_map(|j| &j.from);
                for (from, source) in joined.zip(&layout.sources) {
                    bytes[part.device] += source.crossing * float;
                    if source.collect.is_some() {
                        bytes[plan.devices[from.tower]] += source.crossing * float;
                    }
                }
            }
        }
        bytes
    }

    /// Every kernel, with its device.
    pub fn launches(&self, plan: &Plan) -> Vec<(usize, &Launch)> {
        let mut all: Vec<_> = self.inputs.iter().enumerate().collect();
        for (layer, layouts) in plan.layers.iter().zip(&self.parts) {
            for (part, layout) in layer.parts.iter().zip(layouts) {
                let mut add = |device, work| all.push((device, work));
                layout.launches.launches().into_iter().for_each(|w| add(part.device, w));
                layout.updates.iter().for_each(|w| add(part.device, w));
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

fn input(plan: &Plan, images: usize) -> Launch {
    let Shape { height, width, channels } = plan.input;
    let all = constants(&[("IMAGES", images), ("H", height), ("W", width), ("C", channels)]);
    Launch::each(kernel_source!("input.cu"), all, "input", images * plan.input.len())
}

/// Numbers of weights and biases, both 0 for a layer that does not learn.
pub fn sizes(part: &Part) -> [usize; 2] {
    part.layer.parameters().map_or([0; 2], |shapes| shapes.sizes())
}

fn sources(plan: &Plan, layer: usize, part: &Part, images: usize) -> Vec<SourceLayout> {
    let (all, pixels) = (part.input.channels, part.input.pixels() * images);
    let index = plan.layers[layer].parts.iter().position(|p| p.tower == part.tower);
    let is_first = index == Some(0);
    let joined = part.join.iter().flat_map(|join| &join.from);
    joined
        .map(|from| {
            let n = from.channels.len();
            let crosses = plan.devices[from.tower] != part.device;
            let work = |name, of: usize, first| {
                let all = [("PIXELS", pixels), ("C", n), ("JOINED_C", of), ("CHANNEL", first)];
                Launch::each(kernel_source!("towers.cu"), constants(&all), name, pixels * n)
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
                crossing: if crosses { pixels * n } else { 0 },
            }
        })
        .collect()
}

fn updates(part: &Part) -> Vec<Launch> {
    let learns = matches!(part.layer.role(), Role::Learn(_));
    let update = |count| {
        let all = constants(&[("COUNT", count)]);
        Launch::each(kernel_source!("update.cu"), all, "update", count)
    };
    if learns { sizes(part).map(update).into() } else { Vec::new() }
}
