//! From a config to a [`Plan`]: shapes, towers, joins and buffers, layer by layer. Errors in a network
//! are found here, before anything is read or allocated.

use super::plan::{BufferId, BufferPlan, Join, JoinSource, Mode, Part, Plan, PlannedLayer};
use crate::config::{Config, LayerConfig};
use crate::config_error;
use crate::layers::{Input, Place, Role, Shape, softmax};
use anyhow::{Context, Result};
use std::ops::Range;

/// What a layer leaves on one tower for the next one.
#[derive(Clone, Debug)]
struct Output {
    tower: usize,
    shape: Shape,
    channels: Range<usize>,
    buffer: BufferId,
    /// Whether the next layer may change it in place: false for the input batch.
    own: bool,
}

impl Plan {
    /// The plan of `config`'s network for `batch` images, tower t on device `devices[t]`. `classes`
    /// comes from the data set, if there is one.
    pub fn new(
        config: &Config,
        batch: usize,
        mode: Mode,
        devices: &[usize],
        classes: Option<usize>,
    ) -> Result<Plan> {
        assert_eq!(devices.len(), config.towers, "a device for each tower");
        let input = Shape {
            height: config.data.crop,
            width: config.data.crop,
            channels: config.data.channels.unwrap_or(3),
        };
        let mut plan = Plan {
            batch,
            mode,
            seed: config.seed,
            devices: devices.to_vec(),
            input,
            classes: 0,
            layers: Vec::new(),
            buffers: Vec::new(),
            data: Vec::new(),
        };
        for device in 0..=devices.iter().copied().max().unwrap_or(0) {
            let id = plan.buffer("data".into(), device, input.len());
            plan.data.push(id);
        }
        let mut below: Vec<Output> = (0..config.towers)
            .map(|tower| Output {
                tower,
                shape: input,
                channels: 0..input.channels,
                buffer: plan.data[devices[tower]],
                own: false,
            })
            .collect();
        let classes = config.data.classes.or(classes);
        for layer in &config.layers {
            if plan.layers.last().is_some_and(|l| l.kind == softmax::KIND.name) {
                return Err(config_error!("layer {}: nothing can follow softmax", layer.name));
            }
            below = plan
                .add(layer, &below, config, classes)
                .with_context(|| format!("layer {}", layer.name))?;
        }
        match plan.layers.last() {
            Some(last) if last.kind == softmax::KIND.name => plan.classes = last.output().len(),
            _ => {
                return Err(config_error!(
                    "the network must end in a layer of kind \"softmax\", which has the loss"
                ));
            }
        }
        if plan.layers.iter().all(|l| l.weights.is_none()) {
            return Err(config_error!("the network has no layer that learns"));
        }
        if let Some(classes) = classes.filter(|&c| c != plan.classes) {
            return Err(config_error!(
                "the network ends in {} outputs but the data set has {classes} classes; say outputs = \"classes\" in the last fc layer, or outputs = {classes}",
                plan.classes
            ));
        }
        if mode == Mode::Training {
            plan.plan_gradients();
        }
        Ok(plan)
    }

    fn buffer(&mut self, name: String, device: usize, values: usize) -> BufferId {
        self.buffers.push(BufferPlan { name, device, values });
        self.buffers.len() - 1
    }

    /// Adds one layer on top of `below`; what it leaves.
    fn add(
        &mut self,
        config: &LayerConfig,
        below: &[Output],
        whole: &Config,
        classes: Option<usize>,
    ) -> Result<Vec<Output>> {
        let towers = whole.towers;
        let first = self.layers.is_empty();
        let is_loss = config.kind.name == softmax::KIND.name;
        if let Some(tower) = config.tower.filter(|&t| t >= towers) {
            return Err(config_error!(
                "tower = {tower}, but towers = {towers} and they count from 0"
            ));
        }
        let reads_all = match &config.weights {
            _ if first => false,
            Some(weights) => {
                let default =
                    if config.kind.name == "fc" { Input::AllTowers } else { Input::SameTower };
                weights.input.unwrap_or(default) == Input::AllTowers
            }
            None => is_loss,
        };
        let lives_on: Vec<usize> = match (config.tower, &config.weights) {
            (Some(tower), _) => vec![tower],
            (None, _) if is_loss => vec![0],
            (None, Some(_)) => (0..towers).collect(),
            (None, None) => below.iter().map(|b| b.tower).collect(),
        };
        if config.weights.is_none() && !is_loss && !first && lives_on.len() < below.len() {
            return Err(config_error!(
                "tower = {}, but its input lives on both towers; only layers that learn and softmax can read both",
                lives_on[0]
            ));
        }
        let settings = &config.settings;
        let total = settings.outputs(classes).map_err(|e| config_error!("{e:#}"))?;

        let (mut parts, mut above) = (Vec::new(), Vec::new());
        for (index, &tower) in lives_on.iter().enumerate() {
            let device = self.devices[tower];
            let own = below.iter().find(|b| b.tower == tower);
            let (input, x, join) = if reads_all {
                self.join(&config.name, tower, below, &lives_on)
            } else {
                let own = own.ok_or_else(|| {
                    config_error!(
                        "it lives on tower {tower}, where its input is not; read it with input = \"all-towers\", or put it there with tower = {}",
                        below[0].tower
                    )
                })?;
                (own.shape, own.buffer, None)
            };
            let (channels, all_channels) = match total {
                // An uneven rest goes to the last tower, as in the 2012 code.
                Some(n) => (n * index / lives_on.len()..n * (index + 1) / lives_on.len(), n),
                None if reads_all => (0..input.channels, input.channels),
                None => {
                    let own = own.expect("found above");
                    (own.channels.clone(), below.iter().map(|b| b.channels.end).max().unwrap_or(0))
                }
            };
            let place = Place {
                name: &config.name,
                input,
                channels: channels.clone(),
                all_channels,
                winograd: whole.cpu.winograd,
            };
            let layer =
                settings.plan(&place).map_err(|e| config_error!("{e:#} (input {input})"))?;
            let output = layer.output();
            if output.is_empty() {
                return Err(config_error!(
                    "its output would be empty, {output}, from an input of {input}"
                ));
            }
            let pointwise = match layer.role() {
                Role::Pointwise(p) => Some(p.chains()),
                _ => None,
            };
            let in_place = pointwise.is_some_and(|chains| {
                own.is_some_and(|b| b.own && (chains || !below_is_pointwise(self)))
            });
            let y = if in_place {
                x
            } else {
                self.buffer(format!("{}.output", config.name), device, output.len())
            };
            above.push(Output {
                tower,
                shape: output,
                channels: channels.clone(),
                buffer: y,
                own: true,
            });
            parts.push(Part {
                tower,
                device,
                layer,
                channels,
                input,
                x,
                y,
                join,
                dy: None,
                dx: None,
            });
        }
        if let [first, .., last] = &parts[..] {
            // Towers' weights are joined along the first dimension, so the others must agree.
            let rows = |part: &Part| part.layer.parameters().map(|p| p.weight[1..].to_vec());
            if rows(first) != rows(last) {
                return Err(config_error!(
                    "its towers read inputs of different sizes, {} and {}, so its weights do not form one tensor; give the layers below an even number of outputs, or say input = \"all-towers\"",
                    first.input,
                    last.input
                ));
            }
        }
        self.layers.push(PlannedLayer {
            name: config.name.clone(),
            kind: config.kind.name,
            weights: config.weights.clone(),
            parts,
        });
        Ok(above)
    }

    /// The input of a part that reads all towers: a buffer of its own, unless all there is lies on the
    /// only tower that reads it.
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

    /// Gradients of activations live only from one layer's backward pass to the next one's, so two
    /// buffers a tower take turns.
    fn plan_gradients(&mut self) {
        let towers = self.devices.len();
        // Which of a tower's two buffers holds the gradient at the current layer's output.
        let mut current = vec![0; towers];
        let mut need = vec![[0usize; 2]; towers];
        let mut slots: Vec<Vec<(Option<usize>, Option<usize>)>> = Vec::new();
        let lowest = self.layers.iter().position(|l| l.weights.is_some()).unwrap_or(0);
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let mut of_layer = Vec::new();
            let mut used = vec![None; towers];
            for part in &layer.parts {
                let role = part.layer.role();
                let has_dy = index >= lowest && !matches!(role, Role::Loss(_));
                let dy = has_dy.then_some(current[part.tower]);
                let dx = match role {
                    _ if index <= lowest => None,
                    Role::Pointwise(_) => dy,
                    _ => Some(1 - current[part.tower]),
                };
                if let Some(slot) = dy {
                    let most = &mut need[part.tower][slot];
                    *most = (*most).max(part.layer.output().len());
                }
                if let Some(slot) = dx {
                    let most = &mut need[part.tower][slot];
                    *most = (*most).max(part.input.len());
                }
                used[part.tower] = dx;
                of_layer.push((dy, dx));
            }
            let joins = layer.parts.iter().any(|p| p.join.is_some());
            for tower in 0..towers {
                if let Some(slot) = used[tower] {
                    // After a join, the sum over the towers goes to the buffer that is not being read.
                    current[tower] = if joins { 1 - slot } else { slot };
                }
            }
            slots.push(of_layer);
        }
        slots.reverse();
        let ids: Vec<Vec<BufferId>> = (0..towers)
            .map(|tower| {
                let pair = need[tower];
                let name = |slot: usize| format!("gradient {slot} of tower {tower}");
                let device = self.devices[tower];
                (0..2).map(|slot| self.buffer(name(slot), device, pair[slot])).collect()
            })
            .collect();
        for (layer, of_layer) in self.layers.iter_mut().zip(slots) {
            for (part, (dy, dx)) in layer.parts.iter_mut().zip(of_layer) {
                part.dy = dy.map(|slot| ids[part.tower][slot]);
                part.dx = dx.map(|slot| ids[part.tower][slot]);
            }
        }
    }
}

/// Whether the layer on top so far works value by value.
fn below_is_pointwise(plan: &Plan) -> bool {
    let last = plan.layers.last().map(|l| l.parts[0].layer.role());
    matches!(last, Some(Role::Pointwise(_)))
}
