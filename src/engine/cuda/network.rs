//! The network in the GPUs' memory: all that is taken at the start, and stays until the end.

use super::crossing::Crossings;
use super::kept::{self, Kept};
use super::lanes::{Behind, Lanes};
use super::lars::Lars;
use super::layout::{Layout, loads, sizes};
use super::portions::Portions;
use super::signal::Board;
use super::storage::Stored;
use crate::gpu::device::Device;
use crate::gpu::memory::{Buffer, Pinned};
use crate::gpu::stream::Event;
use crate::layers::cuda::{Loss, ParameterBuffers};
use crate::network::{BufferId, BufferPlan, Mode, Part, Plan, Task};
use anyhow::Result;
use std::sync::{Arc, Mutex};

pub struct Network {
    pub plan: Plan,
    pub devices: Vec<Arc<Device>>,
    pub board: Board,
    pub layout: Layout,
    pub forward: Vec<Task>,
    pub backward: Vec<Task>,
    /// The plan's buffers.
    pub buffers: Vec<Buffer<u8>>,
    /// The same for each portion of the batch, where the forward pass is made in portions.
    pub portions: Vec<Portion>,
    /// For each device, where the next batch comes in and what it is centred on.
    pub inputs: Vec<Input>,
    /// For each device and each of its streams for kernels, what its layers share.
    pub scratch: Vec<Vec<Buffer<f32>>>,
    /// Of each device.
    pub lanes: Vec<Lanes>,
    /// `[layer][part]`
    pub behind: Vec<Vec<Option<Behind>>>,
    /// `[layer][part]`
    pub saved: Vec<Vec<Buffer<u8>>>,
    /// `[layer][part]`
    pub parameters: Vec<Vec<Option<ParameterBuffers>>>,
    pub crossings: Crossings,
    /// Where layers have rates of their own.
    pub lars: Option<Lars>,
    pub loss: Loss,
    /// What the last forward passes came to, by their numbers.
    pub kept: Vec<Kept>,
    /// The loss's totals on the host, and when they are there.
    pub totals: Mutex<Pinned<f32>>,
    pub scored: Event,
}

/// The memory of one portion of the batch, within the whole batch's.
pub struct Portion {
    /// The plan's buffers.
    pub buffers: Vec<Buffer<u8>>,
    /// `[layer][part]`, of the layers that work in portions.
    pub saved: Vec<Vec<Buffer<u8>>>,
}

/// The next batch on its way to one device.
pub struct Input {
    /// [images, input], bytes of the crops.
    pub crops: Buffer<u8>,
    /// [images, 2 * channels], shift of each channel, then scale of each.
    pub colours: Buffer<f32>,
    /// [input], 0 until it is given.
    pub mean: Buffer<f32>,
    pub uploaded: Event,
    /// The batch before has been taken out.
    pub taken: Event,
}

impl Network {
    /// Takes all memory and loads all kernels.
    pub fn new(plan: Plan, devices: Vec<Arc<Device>>, layout: Layout) -> Result<Network> {
        super::load(&devices, &layout.launches(&plan))?;
        let images = layout.images;
        let training = plan.mode == Mode::Training;
        let buffer =
            |(b, stored): (&BufferPlan, &Stored)| devices[b.device].buffer(stored.bytes(images));
        let buffers = plan.buffers.iter().zip(&layout.buffers);
        let buffers: Vec<Buffer<u8>> = buffers.map(buffer).collect::<Result<_>>()?;
        let inputs = devices.iter().filter(|_| loads(&plan));
        let inputs = inputs.map(|d| input(d, &plan, images)).collect::<Result<_>>()?;
        let scratch = devices.iter().zip(&layout.scratch);
        let scratch =
            scratch.map(|(device, all)| all.iter().map(|&values| device.buffer(values)).collect());
        let scratch = scratch.collect::<Result<_>>()?;
        let lanes = devices
            .iter()
            .enumerate()
            .map(|(d, device)| Lanes::new(&plan, d, device, layout.is_one_lane()));
        let lanes = lanes.collect::<Result<_>>()?;
        let behind = plan.layers.iter().map(|layer| Behind::new(layer, &devices));
        let behind = behind.collect::<Result<_>>()?;

        let mut saved: Vec<Vec<Buffer<u8>>> = Vec::new();
        let mut parameters = Vec::new();
        for (layer, layouts) in plan.layers.iter().zip(&layout.parts) {
            let own = layer.parts.iter().zip(layouts);
            let own =
                own.map(|(part, layout)| devices[part.device].buffer(layout.launches.saved()));
            saved.push(own.collect::<Result<_>>()?);
            let own = layer.parts.iter().zip(layouts);
            let own = own.map(|(part, layout)| {
                let factors = layout.factors.as_ref().map(|(bytes, _)| *bytes);
                new_parameters(part, &devices[part.device], training, factors)
            });
            parameters.push(own.collect::<Result<_>>()?);
        }
        let Portions { count, below } = layout.portions;
        let portion = |number| Portion {
            buffers: buffers.iter().map(|all| all.portion(number, count)).collect(),
            saved: saved[..below]
                .iter()
                .map(|layer| layer.iter().map(|all| all.portion(number, count)).collect())
                .collect(),
        };
        let portions = if count > 1 { (0..count).map(portion).collect() } else { Vec::new() };
        let board = Board::default();
        let crossings = Crossings::new(&plan, &devices, &layout, &board)?;
        let lars = Lars::new(&plan, &devices, &board)?;
        let last = &devices[last(&plan)];
        let kept = (0..kept::PASSES).filter_map(|_| layout.kept(&plan));
        let kept = kept.map(|sizes| Kept::new(sizes, last)).collect::<Result<_>>()?;
        Ok(Network {
            kept,
            loss: Loss { labels: last.buffer(images)?, totals: last.buffer(3)? },
            totals: Mutex::new(last.pinned(3)?),
            scored: last.event(false)?,
            forward: plan.forward(&layout.fusions),
            backward: if training { plan.backward(&layout.fusions) } else { Vec::new() },
            plan,
            devices,
            board,
            layout,
            buffers,
            portions,
            inputs,
            scratch,
            lanes,
            behind,
            saved,
            parameters,
            crossings,
            lars,
        })
    }

    /// The device with the loss.
    pub fn last(&self) -> &Arc<Device> {
        &self.devices[last(&self.plan)]
    }

    /// What is in a buffer for the first `images` of the batch. Waits for all work queued so far.
    pub fn read(&self, buffer: BufferId, images: usize) -> Result<Vec<f32>> {
        let (stored, own) = (self.layout.buffers[buffer], &self.buffers[buffer]);
        let mut bytes = vec![0; stored.bytes(images)];
        self.devices[self.plan.buffers[buffer].device].compute.read(own, &mut bytes)?;
        Ok(stored.format.decode(&bytes))
    }

    /// The device of a tower.
    pub fn of(&self, tower: usize) -> usize {
        self.plan.devices[tower]
    }
}

/// The device with the loss, or with what comes last.
fn last(plan: &Plan) -> usize {
    plan.layers.last().map_or(0, |layer| layer.parts[0].device)
}

fn input(device: &Device, plan: &Plan, images: usize) -> Result<Input> {
    let mean = device.buffer(plan.input.len())?;
    device.compute.zero(&mean)?;
    Ok(Input {
        crops: device.buffer(plan.input.len() * images)?,
        colours: device.buffer(2 * plan.input.channels * images)?,
        mean,
        uploaded: device.event(false)?,
        taken: device.event(false)?,
    })
}

fn new_parameters(
    part: &Part,
    device: &Device,
    training: bool,
    factors: Option<usize>,
) -> Result<Option<ParameterBuffers>> {
    let sizes = sizes(part);
    if sizes == [0; 2] {
        return Ok(None);
    }
    let zeros = || -> Result<[Buffer<f32>; 2]> {
        let [weight, bias] = sizes;
        let both = [device.buffer(weight)?, device.buffer(bias)?];
        both.iter().try_for_each(|b| device.compute.zero(b))?;
        Ok(both)
    };
    let factors = factors.map(|bytes| -> Result<_> {
        let buffer = device.buffer(bytes)?;
        device.compute.zero(&buffer)?;
        Ok(buffer)
    });
    Ok(Some(ParameterBuffers {
        value: zeros()?,
        factors: factors.transpose()?,
        gradient: training.then(zeros).transpose()?,
        momentum: training.then(zeros).transpose()?,
    }))
}
