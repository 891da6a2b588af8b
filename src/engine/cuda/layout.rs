//! All that a network needs on each GPU, before any of it is taken: kernels, buffers, what crosses.

use super::kept;
use super::lanes::stream;
use super::norms::{self, Norms};
use super::places::{Places, places};
use super::portions::{PortionLayout, Portions};
use super::sources::{SourceLayout, sources};
use super::storage::{Stored, stored, stored_channels};
use crate::gpu::compile::Constant;
use crate::gpu::device::STREAMS;
use crate::gpu::format::Format;
use crate::gpu::launch::{Launch, constants};
use crate::gpu::memory::taken;
use crate::kernel_source;
use crate::layers::cuda::{Elsewhere, Factors, LaunchContext, Launches, When};
use crate::layers::pool::Kernel;
use crate::layers::{Role, Shape, Stage};
use crate::network::{BufferId, Fusion, Mode, OnGpu, Part, Pass, Plan, PlannedLayer};
use anyhow::{Context, Result, bail};
use std::ops::Range;

/// A test mode, no promise to users: `apart` in this variable launches the towers of one GPU apart,
/// each in a lane of its own, `together` both at once, whatever their size.
const TOWERS: &str = "ALEXNET_TEST_TOWERS";

/// From so many multiply-adds of a batch's forward pass on, a tower's launches fill a GPU by
/// themselves, and two lanes fill the ends of each other's. On an H200 towers together train the
/// network of `configs/demo.toml` 1.07 times as fast as apart with 32 images (0.2·10⁹), 0.99 times in
/// f32 and 1.06 times in bfloat16 with 128 (0.7·10⁹), 0.965 times with 512 (2.8·10⁹), the paper's
/// with 8 images (5.8·10⁹) 0.98 times and with 128 0.96 to 0.97 times.
const FILLING: u64 = 1 << 30;

/// One network's needs for batches of `images`.
pub struct Layout {
    /// Of a batch.
    pub images: usize,
    /// For each layer, whether one launch works for both of its parts, which are on one GPU and
    /// alike.
    pub together: Vec<bool>,
    /// How the forward pass is shared out.
    pub portions: Portions,
    /// How each of the plan's buffers is stored.
    pub buffers: Vec<Stored>,
    /// Passes in the place of several layers'.
    pub fusions: Vec<Fusion<OnGpu>>,
    /// What each layer's pass reads and writes: `[layer][part]`.
    pub places: Vec<Vec<Places>>,
    /// For each layer, whether it is a ReLU whose backward pass the layer above does.
    pub masked: Vec<bool>,
    /// For each device, the next batch's crops to its input.
    pub inputs: Vec<Launch>,
    /// `[layer][part]`
    pub parts: Vec<Vec<PartLayout>>,
    /// For each device and each of its streams for kernels, values of scratch space.
    pub scratch: Vec<[usize; STREAMS]>,
}

/// What one layer needs on one tower.
pub struct PartLayout {
    /// Its kernels.
    pub launches: Box<dyn Launches>,
    /// Where its input is joined: for each source.
    pub sources: Vec<SourceLayout>,
    /// The same for one portion of the batch, where the forward pass is made in portions.
    pub portion: Option<PortionLayout>,
    /// The update of weights and biases.
    pub update: Option<Launch>,
    /// The same by gradients in parts, where they are made in parts.
    pub update_by_parts: Option<Launch>,
    /// Of a layer whose rate depends on the lengths of its weights and their gradient.
    pub norms: Option<Norms>,
    /// The weights as products read them, where those are others: their bytes, and what makes them.
    pub factors: Option<(usize, Launch)>,
}

impl Layout {
    /// For GPUs of so many multiprocessors.
    pub fn new(plan: &Plan, images: usize, multiprocessors: &[usize]) -> Result<Layout> {
        let asked = vec![may_go_together(plan, images); plan.layers.len()];
        let layout = Layout::of(plan, images, multiprocessors, asked)?;
        if !layout.together.contains(&true) {
            return Ok(layout);
        }
        let layers = plan.layers.iter().zip(&layout.parts);
        let mut alike: Vec<bool> = layers.map(|(layer, parts)| are_alike(layer, parts)).collect();
        // Not of two lanes with different work: only an odd number of classes may set them apart.
        let last = plan.layers.iter().rposition(|layer| layer.learns()).unwrap_or(0);
        let split = |(layer, alike): (&PlannedLayer, &bool)| layer.parts.len() > 1 && !alike;
        if plan.layers[..last].iter().zip(&alike).any(split) {
            alike.fill(false);
        }
        if alike == layout.together {
            return Ok(layout);
        }
        Layout::of(plan, images, multiprocessors, alike)
    }

    fn of(
        plan: &Plan,
        images: usize,
        multiprocessors: &[usize],
        mut together: Vec<bool>,
    ) -> Result<Layout> {
        for (layer, together) in plan.layers.iter().zip(&mut together) {
            *together &= layer.parts.len() == 2;
        }
        let training = plan.mode == Mode::Training;
        let most = plan.buffers.iter().map(|b| b.values * images).max().unwrap_or(0);
        if most >= 1 << 31 {
            bail!("a batch of {images} is too large for a GPU's 32-bit addresses within a layer");
        }
        let fusions = plan.fusions::<OnGpu>();
        let portions = Portions::new(plan, images);
        let masked: Vec<bool> = (0..plan.layers.len()).map(|l| is_masked(plan, l)).collect();
        let stored_channels = stored_channels(plan);
        let buffers = stored(plan, stored_channels, &fusions);
        let mut scratch = vec![[0; STREAMS]; plan.data.len()];
        let mut parts = Vec::new();
        for (index, layer) in plan.layers.iter().enumerate() {
            let mut of_layer = Vec::new();
            for (number, part) in layer.parts.iter().enumerate() {
                let float = |id: usize| buffers[id].format != plan.precision.format();
                let pass = fusions.iter().find(|f| f.covers(index, number));
                let pass = pass.filter(|f| f.at == index || f.pass.goes_back());
                let context = LaunchContext {
                    together: together[index],
                    precision: plan.precision,
                    relu: matches!(pass, Some(Fusion { pass: OnGpu::WithRelu, .. })),
                    mask: index > 0 && masked[index - 1],
                    float_input: float(part.x),
                    float_output: float(part.y),
                    stored_channels: stored_channels.filter(|_| plan.data.contains(&part.x)),
                    ..LaunchContext::new(images, multiprocessors[part.device], training)
                };
                let work = |context: &LaunchContext| match pass {
                    Some(Fusion { pass: OnGpu::NormalisedPooling(both), at, .. }) => {
                        Ok(if *at == index { both.cuda(context) } else { Box::new(Elsewhere) })
                    }
                    _ => {
                        let work = part.layer.cuda(context);
                        work.with_context(|| format!("layer {}", layer.name))
                    }
                };
                let launches = work(&context)?;
                let of_portion = || {
                    let LaunchContext { images, portions: of, .. } = context;
                    let count = portions.count;
                    let context =
                        LaunchContext { images: images / count, portions: of * count, ..context };
                    let all = index < portions.below;
                    let launches = if all { work(&context)? } else { Box::new(Elsewhere) };
                    let joins = sources(plan, index, number, &context).into_iter();
                    Ok::<_, anyhow::Error>(PortionLayout {
                        launches,
                        joins: joins.map(|source| source.join).collect(),
                    })
                };
                let portion = portions.reach(index).then(of_portion).transpose()?;
                for behind in [false, true] {
                    let most = &mut scratch[part.device][stream(plan, part.tower, behind)];
                    let of_portion = portion.as_ref().map_or(0, |own| own.launches.scratch(false));
                    *most = launches.scratch(behind).max(of_portion).max(*most);
                }
                let factors = launches.factors();
                let learns = training && matches!(part.layer.role(), Role::Learn(_));
                let update =
                    |parts| update("update", sizes(part), factors, parts, context.towers());
                let parts = launches.parts();
                of_layer.push(PartLayout {
                    sources: sources(plan, index, number, &context),
                    portion,
                    update: learns.then(|| update(1)),
                    update_by_parts: (learns && parts > 1).then(|| update(parts)),
                    launches,
                    factors: factors.map(|f| rounded(part, f)),
                    norms: (plan.lars && layer.learns()).then(|| Norms::new(sizes(part)[0])),
                });
            }
            parts.push(of_layer);
        }
        let input = |_| input(plan, images, stored_channels);
        let inputs = plan.data.iter().filter(|_| loads(plan)).map(input).collect();
        let places = places(plan, &fusions);
        Ok(Layout {
            images,
            together,
            portions,
            buffers,
            fusions,
            places,
            masked,
            inputs,
            parts,
            scratch,
        })
    }

    /// The parts of a layer whose work is queued when it is this one's turn: where one launch works
    /// for both towers, both with the second, and none with the first.
    pub fn with(&self, layer: usize, part: usize) -> Range<usize> {
        let parts = self.parts[layer].len();
        match self.together[layer] {
            true if part + 1 == parts => 0..parts,
            true => 0..0,
            false => part..part + 1,
        }
    }

    /// Whether the towers of a GPU go from the input to the loss in one lane.
    pub fn is_one_lane(&self) -> bool {
        self.together.contains(&true)
    }

    /// What is kept of a forward pass: the probabilities and what they are made of, with their
    /// bytes; nothing of one that makes none, or that all processes make at once.
    pub fn kept(&self, plan: &Plan) -> Option<[(BufferId, usize); 2]> {
        let bytes = |id: usize| (id, self.buffers[id].bytes(self.images));
        let keeps = plan.has_loss() && plan.share.is_none();
        keeps.then(|| [plan.probabilities(), plan.logits()].map(bytes))
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
        for device in (0..plan.data.len()).filter(|_| loads(plan)) {
            let (values, colour_len) = (plan.input.len(), 2 * plan.input.channels);
            take(device, self.images * values); // the next batch
            take(device, self.images * colour_len * float);
            take(device, values * float); // the mean
        }
        let last = plan.layers.last().map_or(0, |layer| layer.parts[0].device);
        for (_, one) in (0..kept::PASSES).filter_map(|_| self.kept(plan)).flatten() {
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
                let portion = layout.portion.iter().flat_map(PortionLayout::used);
                portion.for_each(|w| add(part.device, w));
                let updates = layout.update.iter().chain(&layout.update_by_parts);
                updates.for_each(|w| add(part.device, w));
                layout.norms.iter().flat_map(Norms::launches).for_each(|w| add(part.device, w));
                layout.factors.iter().for_each(|(_, w)| add(part.device, w));
                let joined = part.join.iter().flat_map(|j| &j.from);
                for (from, source) in joined.zip(&layout.sources) {
                    source.join.iter().for_each(|w| add(part.device, w));
                    if part.dx.is_some() {
                        source.take.iter().for_each(|w| add(part.device, w));
                    }
                    source.collect.iter().for_each(|w| add(plan.devices[from.tower], w));
                }
            }
        }
        all
    }
}

/// Whether batches are loaded for it: the upper of two halves reads what all processes' lower ones
/// make.
pub fn loads(plan: &Plan) -> bool {
    plan.share.is_none()
}

/// Whether one launch is to work for both towers: where they are on one GPU and each leaves much of
/// it idle.
fn may_go_together(plan: &Plan, images: usize) -> bool {
    let small = plan.multiply_adds().saturating_mul(images as u64) < FILLING;
    let wanted = match std::env::var(TOWERS).as_deref() {
        Ok("apart") => false,
        Ok("together") => true,
        _ => small,
    };
    wanted && plan.data.len() == 1 && plan.devices.len() == 2
}

/// Whether the two parts of a layer do the same in the same way, each to its own memory.
fn are_alike(layer: &PlannedLayer, parts: &[PartLayout]) -> bool {
    let [first, second] = parts else { return false };
    let gradients = |part: &Part| [part.dy, part.dx].map(|id| id.is_some());
    let role = layer.parts[0].layer.role();
    let is_loss = matches!(role, Role::Loss(_) | Role::Reconstruction(_));
    if is_loss || gradients(&layer.parts[0]) != gradients(&layer.parts[1]) {
        return false;
    }
    let all = [first, second].map(|part| {
        let update = part.update.iter().map(|work| (When::Update, work));
        part.launches.launches().into_iter().chain(update).collect::<Vec<_>>()
    });
    let [first, second] = &all;
    let alike = |((when, a), (other, b)): (&(When, &Launch), &(When, &Launch))| {
        when == other && a.is_like(b)
    };
    first.len() == second.len() && first.iter().zip(second).all(alike)
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
        // The factor of what is kept is at least 1, so it is above 0 where the ReLU's output is.
        (Some(Stage::Drop(_)), _) => part.x == part.y,
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

/// A kernel of `update.cu` over so many weights, of a layer whose products read `factors` or the
/// weights, and biases, with gradients in so many `parts`.
fn update(
    name: &'static str,
    [weights, biases]: [usize; 2],
    factors: Option<Factors>,
    parts: usize,
    towers: Vec<Constant>,
) -> Launch {
    let Factors { columns, channels, stored } =
        factors.unwrap_or(Factors { columns: weights.max(1), channels: 1, stored: 1 });
    let mut all = constants(&[
        ("COUNT", weights),
        ("BIASES", biases),
        ("SPLITS", parts),
        ("OUT_C", columns),
        ("REAL_C", channels),
        ("IN_C", stored),
    ]);
    all.extend(factors.and_then(|_| Format::Bf16.constant()));
    all.extend(towers);
    let pack = |multiples: [usize; 2]| {
        if multiples.iter().all(|n| n.is_multiple_of(4)) { 4 } else { 1 }
    };
    let blocks = |count: usize, each: usize| (count / each).div_ceil(256);
    let behind = if parts > 1 { parts * weights } else { 0 };
    let grid = blocks(weights, pack([weights, columns])) + blocks(biases, pack([biases, behind]));
    // Weights and momenta are read and written, gradients read.
    let rounded = factors.map_or(0, |f| weights / f.channels * f.stored * Format::Bf16.bytes());
    let floats = if name == "update" { 4 + parts } else { 1 };
    let moves = floats * (weights + biases) * size_of::<f32>() + rounded;
    Launch::new(kernel_source!("update.cu"), all, name, (grid, 1, 1), (256, 1, 1)).moving(moves)
}

/// The bytes of a layer's factors, and what makes them of its weights.
fn rounded(part: &Part, factors: Factors) -> (usize, Launch) {
    let [weights, _] = sizes(part);
    let values = weights / factors.channels * factors.stored;
    (values * Format::Bf16.bytes(), update("round_off", [weights, 0], Some(factors), 1, Vec::new()))
}
