//! From a config to a [`Plan`]: shapes, towers, joins and buffers, layer by layer. Errors in a
//! network are found here, before anything is read or allocated.

use super::plan::{BufferId, BufferPlan, Join, JoinSource, Mode, Part, Pieces, Plan, PlannedLayer};
use super::share::Share;
use crate::config::{Config, LayerConfig, Optimizer};
use crate::config_error;
use crate::layers::{
    Classes, Family, Input, Layer, Outputs, Place, Pointwise, Role, Shape, check_values,
};
use anyhow::{Context, Result};
use std::ops::Range;

/// What a layer leaves on one tower for the next one.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub tower: usize,
    pub shape: Shape,
    /// Of the layer's channels on all towers, and of all processes.
    pub channels: Range<usize>,
    /// How many these are.
    all_channels: usize,
    pub buffer: BufferId,
    /// Whether the next layer may change it in place: false for the input batch.
    own: bool,
}

/// What a layer reads on one tower.
struct Reading<'a> {
    /// The towers joined, if it reads all.
    shape: Shape,
    x: BufferId,
    join: Option<Join>,
    /// The output of the layer below on the same tower, where there is one.
    below: Option<&'a Output>,
}

/// Where a layer lives, and what it reads there.
struct Standing {
    /// Towers, rising.
    lives_on: Vec<usize>,
    reads_all: bool,
}

impl Plan {
    /// The plan of `config`'s network for `batch` images, tower t on device `devices[t]`.
    /// `classes`: of the data set, where one is known; what the config says goes before it.
    ///
    /// # Errors
    /// A sentence with the layer's name, for a network that cannot work.
    pub fn new(
        config: &Config,
        batch: usize,
        mode: Mode,
        devices: &[usize],
        classes: Classes,
    ) -> Result<Plan> {
        assert_eq!(devices.len(), config.towers, "a device for each tower");
        let classes = config.data.classes.map_or(classes, Classes::Known);
        let mut plan = Plan::empty(config, batch, mode, devices, image(config));
        plan.add_all(config, &config.layers, classes)?;
        plan.check_end(classes)?;
        if mode != Mode::Evaluation {
            plan.plan_gradients(mode == Mode::Explanation);
        }
        Ok(plan)
    }

    /// Adds `layers` of `config` on top of the input; what the last one leaves.
    pub(super) fn add_all(
        &mut self,
        config: &Config,
        layers: &[LayerConfig],
        classes: Classes,
    ) -> Result<Vec<Output>> {
        let data = |(tower, &device): (usize, &usize)| Output {
            tower,
            shape: self.input,
            channels: 0..self.input.channels,
            all_channels: self.input.channels,
            buffer: self.data[device],
            own: false,
        };
        let mut below: Vec<Output> = self.devices.iter().enumerate().map(data).collect();
        for layer in layers {
            if self.layers.last().is_some_and(|l| l.kind.family == Family::Loss) {
                return Err(config_error!(
                    "layer {}: nothing can follow {}",
                    layer.name,
                    self.layers[self.layers.len() - 1].kind.name
                ));
            }
            below = self
                .add(layer, &below, config, classes)
                .with_context(|| format!("layer {}", layer.name))?;
        }
        Ok(below)
    }

    /// A plan without layers: the input batch on each device.
    pub(super) fn empty(
        config: &Config,
        batch: usize,
        mode: Mode,
        devices: &[usize],
        input: Shape,
    ) -> Plan {
        let mut plan = Plan {
            batch,
            mode,
            seed: config.seed,
            devices: devices.to_vec(),
            wanted: config.gpu.precision,
            precision: config.gpu.precision.on((0, 0)),
            input,
            classes: 0,
            assumes_classes: false,
            layers: Vec::new(),
            buffers: Vec::new(),
            data: Vec::new(),
            pieces: Pieces::ONE,
            lars: mode == Mode::Training && config.train.optimizer == Optimizer::Lars,
            share: None,
        };
        for device in 0..=devices.iter().copied().max().unwrap_or(0) {
            let id = plan.buffer("data".into(), device, input.len());
            plan.data.push(id);
        }
        plan
    }

    /// Whether the network ends in a loss over as many classes as there are, and learns something.
    fn check_end(&mut self, classes: Classes) -> Result<()> {
        match self.layers.last() {
            Some(last) if last.kind.family == Family::Loss => {
                self.classes = last.output().len();
                let rebuilds = matches!(last.parts[0].layer.role(), Role::Reconstruction(_));
                if rebuilds && self.classes != self.input.len() {
                    return Err(config_error!(
                        "layer {}: it compares its {} values with the network's input of {}; give \
                         the layer below as many outputs",
                        last.name,
                        self.classes,
                        self.input.len()
                    ));
                }
            }
            _ => {
                return Err(config_error!(
                    "the network must end in a layer of kind \"softmax\", which has the loss"
                ));
            }
        }
        if self.layers.iter().all(|l| l.weights.is_none()) {
            return Err(config_error!("the network has no layer that learns"));
        }
        if self.mode == Mode::Training && !self.layers.iter().any(PlannedLayer::learns) {
            return Err(config_error!("train.freeze leaves no layer that learns"));
        }
        match classes {
            Classes::Known(count) if count != self.classes => Err(config_error!(
                "the network ends in {} outputs but the data set has {count} classes; say outputs = \
                 \"classes\" in the last fc layer, or outputs = {count}",
                self.classes
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn buffer(&mut self, name: String, device: usize, values: usize) -> BufferId {
        self.buffers.push(BufferPlan { name, device, values });
        self.buffers.len() - 1
    }

    /// Adds one layer on top of `below`; what it leaves.
    fn add(
        &mut self,
        config: &LayerConfig,
        below: &[Output],
        whole: &Config,
        classes: Classes,
    ) -> Result<Vec<Output>> {
        let standing = self.standing(config, below)?;
        let total = config.settings.outputs().map(|outputs| match outputs {
            Outputs::Count(count) => count,
            Outputs::Classes => {
                self.assumes_classes |= classes == Classes::Any;
                classes.count()
            }
        });
        let (mut parts, mut above) = (Vec::new(), Vec::new());
        for (index, &tower) in standing.lives_on.iter().enumerate() {
            let reading = self.reading(config, tower, below, &standing)?;
            let (channels, all_channels) =
                channels(total, (index, self.share), &standing, &reading);
            let input = reading.shape;
            let place = Place {
                name: &config.name,
                input,
                channels: channels.clone(),
                all_channels,
                cpu: &whole.cpu,
            };
            let part = self.part(config, tower, reading, &place)?;
            above.push(Output {
                tower,
                shape: part.layer.output(),
                channels,
                all_channels,
                buffer: part.y,
                own: true,
            });
            parts.push(part);
        }
        check_joined(&parts)?;
        self.layers.push(PlannedLayer {
            name: config.name.clone(),
            kind: config.kind,
            weights: config.weights.clone(),
            frozen: whole.train.freeze.contains(&config.name),
            parts,
        });
        Ok(above)
    }

    /// Where a layer lives, and whether it reads all towers there. Processes that have a share of
    /// its neurons each have one tower.
    fn standing(&self, config: &LayerConfig, below: &[Output]) -> Result<Standing> {
        let chosen = config.tower.filter(|_| self.share.is_none());
        standing(config, chosen, below, self.devices.len(), self.layers.is_empty())
    }

    /// What a layer reads on `tower`.
    fn reading<'a>(
        &mut self,
        config: &LayerConfig,
        tower: usize,
        below: &'a [Output],
        standing: &Standing,
    ) -> Result<Reading<'a>> {
        let own = below.iter().find(|b| b.tower == tower);
        if let Some(own) = own.filter(|own| own.channels.len() < own.all_channels)
            && self.share.is_some()
            && config.kind.family != Family::Plain
        {
            // What it reads is gathered from all processes.
            let shape = Shape { channels: own.all_channels, ..own.shape };
            let device = self.devices[tower];
            let x = self.buffer(format!("{}.input", config.name), device, shape.len());
            return Ok(Reading { shape, x, join: None, below: None });
        }
        if standing.reads_all {
            let (shape, x, join) = self.join(&config.name, tower, below, &standing.lives_on);
            return Ok(Reading { shape, x, join, below: own });
        }
        let Some(output) = own else {
            return Err(config_error!(
                "it lives on tower {tower}, where its input is not; read it with input = \
                 \"all-towers\", or put it there with tower = {}",
                below[0].tower
            ));
        };
        Ok(Reading { shape: output.shape, x: output.buffer, join: None, below: own })
    }

    /// A layer on one tower, with the buffer that it writes to.
    fn part(
        &mut self,
        config: &LayerConfig,
        tower: usize,
        reading: Reading<'_>,
        place: &Place<'_>,
    ) -> Result<Part> {
        let (device, input) = (self.devices[tower], reading.shape);
        let layer =
            config.settings.plan(place).map_err(|e| config_error!("{e:#} (input {input})"))?;
        let output = layer.output();
        check_part(layer.as_ref())?;
        if output.is_empty() {
            return Err(config_error!(
                "its output would be empty, {output}, from an input of {input}"
            ));
        }
        let in_place = match layer.role() {
            // Each layer's own output is there to be seen.
            Role::Pointwise(_) if self.mode == Mode::Explanation => false,
            Role::Pointwise(pointwise) => reading.below.is_some_and(|b| {
                let below = self.pointwise_below();
                b.own && below.is_none_or(|below| below.chains() && pointwise.chains())
            }),
            _ => false,
        };
        let y = if in_place {
            reading.x
        } else {
            self.buffer(format!("{}.output", config.name), device, output.len())
        };
        let (x, join, channels) = (reading.x, reading.join, place.channels.clone());
        Ok(Part { tower, device, layer, channels, input, x, y, join, dy: None, dx: None })
    }

    /// The layer on top so far, if it works value by value.
    fn pointwise_below(&self) -> Option<&dyn Pointwise> {
        match self.layers.last()?.parts[0].layer.role() {
            Role::Pointwise(pointwise) => Some(pointwise),
            _ => None,
        }
    }

    /// The input of a part that reads all towers: a buffer of its own, unless all there is lies on
    /// the only tower that reads it.
    fn join(
        &mut self,
        name: &str,
        tower: usize,
        below: &[Output],
        lives_on: &[usize],
    ) -> (Shape, BufferId, Option<Join>) {
        let shape =
            Shape { channels: below.iter().map(|b| b.shape.channels).sum(), ..below[0].shape };
        if let [only] = below
            && lives_on == [only.tower]
        {
            return (shape, only.buffer, None);
        }
        let x = self.buffer(format!("{name}.input"), self.devices[tower], shape.len());
        let mut first = 0;
        let from = below.iter().enumerate().map(|(part, b)| {
            let channels = first..first + b.shape.channels;
            first = channels.end;
            JoinSource { part, tower: b.tower, y: b.buffer, channels }
        });
        (shape, x, Some(Join { from: from.collect() }))
    }
}

/// One image as the network sees it.
pub(super) fn image(config: &Config) -> Shape {
    Shape {
        height: config.data.crop,
        width: config.data.crop,
        channels: config.data.channels.unwrap_or(3),
    }
}

/// Where a layer lives by its kind and what its config says of that, `chosen`. `first`: it reads
/// the input batch, which every tower has.
fn standing(
    config: &LayerConfig,
    chosen: Option<usize>,
    below: &[Output],
    towers: usize,
    first: bool,
) -> Result<Standing> {
    if let Some(tower) = chosen.filter(|&t| t >= towers) {
        return Err(config_error!("tower = {tower}, but towers = {towers} and they count from 0"));
    }
    let family = config.kind.family;
    let reads_all = match family {
        _ if first => false,
        Family::Learns(default) => {
            let input = config.weights.as_ref().and_then(|weights| weights.input);
            input.unwrap_or(default) == Input::AllTowers
        }
        Family::Loss => true,
        Family::Plain => false,
    };
    let lives_on: Vec<usize> = match (chosen, family) {
        (Some(tower), _) => vec![tower],
        (None, Family::Learns(_)) => (0..towers).collect(),
        (None, Family::Loss) => vec![0],
        (None, Family::Plain) => below.iter().map(|b| b.tower).collect(),
    };
    if family == Family::Plain && !first && lives_on.len() < below.len() {
        return Err(config_error!(
            "tower = {}, but its input lives on both towers; only layers that learn and softmax \
             can read both",
            lives_on[0]
        ));
    }
    Ok(Standing { lives_on, reads_all })
}

/// The channels of part number `index` in a process with that `share` of neurons, and how many
/// there are over all towers. `total`: output channels over all towers, of kinds that do not keep
/// their input's.
fn channels(
    total: Option<usize>,
    (index, share): (usize, Option<Share>),
    standing: &Standing,
    reading: &Reading<'_>,
) -> (Range<usize>, usize) {
    let count = standing.lives_on.len();
    if let Some((share, all)) = share.zip(total) {
        return (share.of(all), all);
    }
    match (total, reading.below) {
        // An uneven rest goes to the last tower, as in the 2012 code.
        (Some(n), _) => (n * index / count..n * (index + 1) / count, n),
        (None, Some(own)) if !standing.reads_all => (own.channels.clone(), own.all_channels),
        (None, _) => (0..reading.shape.channels, reading.shape.channels),
    }
}

/// Refuses sizes that no machine has the memory for, before anything counts with them.
fn check_part(layer: &dyn Layer) -> Result<()> {
    let Shape { height, width, channels } = layer.output();
    let weights = layer.parameters().map_or(Ok(()), |p| check_values("its weights", &p.weight));
    weights
        .and_then(|()| check_values("its output", &[height, width, channels]))
        .map_err(|e| config_error!("{e}"))
}

/// Towers' weights are joined along the first dimension, so the others must agree.
fn check_joined(parts: &[Part]) -> Result<()> {
    let [first, .., last] = parts else { return Ok(()) };
    let rows = |part: &Part| part.layer.parameters().map(|p| p.weight[1..].to_vec());
    if rows(first) == rows(last) {
        return Ok(());
    }
    Err(config_error!(
        "its towers read inputs of different sizes, {} and {}, so its weights do not form one \
         tensor; give the layers below an even number of outputs, or say input = \"all-towers\"",
        first.input,
        last.input
    ))
}
