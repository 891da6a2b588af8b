//! A network of which each process has all convolutions and its share of the fully connected
//! layers' neurons ([`Halves`]), each on one GPU. It is what `engine/cpu/hybrid` is on CPUs: two
//! networks in the memory of one GPU, and what travels between them and between processes
//! ([`mod@step`], [`travel`]), by NCCL. This thread queues everything.

mod layout;
mod step;
mod travel;
mod way;

use super::fits;
use super::network::Network;
use super::profile::Spans;
use super::upload::Host;
use crate::data::form::{CropView, Form};
use crate::engine::owned::{Left, Owned, left_in, steps_only};
use crate::engine::{Engine, Exchange, LayerTime, Rates, Slot, Tensor};
use crate::gpu::device::Device;
use crate::gpu::graph::Graph;
use crate::gpu::nccl::{Id, Nccl};
use crate::layers::Run;
use crate::layers::softmax::Tally;
use crate::mpi::Team;
use crate::network::{BufferId, Halves, Plan, Source};
use anyhow::{Context, Result};
use layout::Between;
pub use layout::Layouts;
use std::cell::RefCell;
use std::ops::Range;
use std::slice;
use std::sync::Arc;
use travel::{Memory, Travel};
use way::Way;

/// One process's part of a network, on a GPU.
pub struct Hybrid {
    /// The whole network, with this process's images at once: what the outside world sees.
    plan: Plan,
    // In this order: what queues work ends before the memory that it uses.
    /// The lower half's forward pass, in evaluation and in training.
    graphs: [Graph; 2],
    /// The other processes' GPUs, once they are connected.
    way: Option<Way>,
    memory: Memory,
    host: Host,
    below: Half,
    above: Half,
    between: Between,
    sources: Vec<Source>,
    owned: Owned,
    /// Images of a whole batch.
    batch: usize,
    /// Each process's images of the last pass, among those of all.
    images: Vec<Range<usize>>,
    steps: u64,
    updates: u64,
    /// Something could not be queued, or others cannot go on.
    failed: bool,
}

/// A half in the GPU's memory.
struct Half {
    network: Network,
    spans: RefCell<Spans>,
}

impl Hybrid {
    /// Both halves of the network of `plan` in the memory of GPU `gpu`; parameters are zero.
    ///
    /// # Errors
    /// As [`Cuda::new`](super::Cuda::new).
    pub fn new(mut plan: Plan, mut halves: Halves, team: Team, gpu: usize) -> Result<Hybrid> {
        let device = super::open(&[gpu])?.remove(0);
        for plan in [&mut plan, &mut halves.below, &mut halves.above] {
            plan.precision = plan.wanted.on(device.capability);
        }
        super::tell_precision(&plan);
        let devices = vec![device.clone()];
        fits::check_precision(&plan, &devices)?;
        let layouts = Layouts::new(&halves, halves.below.batch, device.multiprocessors)?;
        check_memory(&halves, &device, &layouts)?;
        let Layouts { below: of_below, above: of_above, between } = layouts;
        let Halves { below, above, share, batch, sources } = halves;
        super::load(&devices, &between.launches().map(|launch| (0, launch)).collect::<Vec<_>>())?;
        let memory = Memory::new(&device, &between)?;
        let owned = Owned::new(team, share, &below);
        let half = |plan: Plan, layout| -> Result<Half> {
            let network = Network::new(plan, devices.clone(), layout)?;
            Ok(Half { network, spans: RefCell::default() })
        };
        let (below, above) = (half(below, of_below)?, half(above, of_above)?);
        // Rows beyond a batch are read, and count nothing, if they are numbers.
        for buffer in &above.network.buffers {
            device.compute.zero(buffer)?;
        }
        Ok(Hybrid {
            host: Host::new(&below.network)?,
            images: vec![0..0; share.ranks],
            graphs: Default::default(),
            way: None,
            plan,
            memory,
            below,
            above,
            between,
            sources,
            owned,
            batch,
            steps: 0,
            updates: 0,
            failed: false,
        })
    }

    fn way(&self) -> Result<&Way> {
        self.way.as_ref().context("no GPU is connected; this is an error in the program")
    }

    /// What a pass is queued with, and the times of both halves.
    fn travel(&mut self) -> Result<(Travel<'_>, &mut Spans, &mut Spans)> {
        let Hybrid { below, above, between, memory, way, sources, owned, images, .. } = self;
        let way = way.as_ref().context("no GPU is connected; this is an error in the program")?;
        let share = owned.share;
        let (below, of_below) = (&below.network, below.spans.get_mut());
        let (above, of_above) = (&above.network, above.spans.get_mut());
        let travel = Travel { below, above, between, memory, way, sources, share, images };
        Ok((travel, of_below, of_above))
    }

    /// This process's images among those of the last pass.
    fn own_images(&self) -> Range<usize> {
        self.images[self.owned.share.rank].clone()
    }

    /// What the upper half has left of this process's images.
    fn own_rows(&self, buffer: BufferId) -> Result<Vec<f32>> {
        let (network, own) = (&self.above.network, self.own_images());
        if own.is_empty() {
            return Ok(Vec::new());
        }
        let values = network.plan.buffers[buffer].values;
        let mut all = network.read(buffer, own.end)?;
        all.drain(..own.start * values);
        Ok(all)
    }
}

/// Refuses a batch for which there is too little memory; says how large a one would fit.
fn check_memory(halves: &Halves, device: &Arc<Device>, layouts: &Layouts) -> Result<()> {
    let bytes = |layouts: Layouts| vec![layouts.bytes(halves)];
    let of_less = |images| Layouts::new(halves, images, device.multiprocessors).ok().map(bytes);
    let (need, at_once) = (vec![layouts.bytes(halves)], halves.below.batch);
    let otherwise = "use GPUs with more memory, more processes, or --device cpu";
    fits::check(slice::from_ref(device), need, of_less, (at_once, halves.share.ranks), otherwise)
}

impl Engine for Hybrid {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn profile(&mut self) {
        for half in [&mut self.below, &mut self.above] {
            half.spans.get_mut().begin(half.network.plan.layers.len());
        }
    }

    fn times(&self) -> Vec<LayerTime> {
        let halves = [&self.below, &self.above];
        let times = halves.map(|half| half.spans.borrow_mut().read().unwrap_or_default());
        times.concat()
    }

    fn read_into(&self, slot: Slot, tensor: usize, memory: Vec<f32>) -> Result<Tensor> {
        if !self.is_shared(tensor) {
            return self.below.network.read_parameter(slot, tensor, memory);
        }
        let own = |own| self.above.network.read_parameter(slot, own, Vec::new());
        self.owned.read(&self.plan, (slot, tensor), memory, own)
    }

    fn is_shared(&self, tensor: usize) -> bool {
        self.owned.is_shared(tensor)
    }

    fn collect_into(&self, slot: Slot, tensor: usize, memory: Vec<f32>) -> Result<Tensor> {
        let mut all = self.read_into(slot, tensor, memory)?;
        self.owned.collect(&self.plan, tensor, &mut all.values)?;
        Ok(all)
    }

    fn write(&mut self, slot: Slot, tensor: usize, values: &[f32]) -> Result<()> {
        if !self.is_shared(tensor) {
            return self.below.network.write_parameter(slot, tensor, values);
        }
        let own = self.owned.keep(&self.plan, (slot, tensor), values)?;
        self.above.network.write_parameter(slot, self.owned.above(tensor), own)
    }

    fn handed_out(&mut self) {
        self.owned.handed_out();
    }

    fn form(&mut self, mean: &[f32]) -> Result<Form> {
        self.below.network.form(mean)
    }

    fn forward(&mut self, run: &Run, images: CropView<'_>) -> Result<()> {
        self.evaluate(run, images)
    }

    fn sit_out(&mut self) -> Result<()> {
        let nobody = Run { batch: 0, training: false, seed: 0, step: 0, first_image: 0 };
        self.evaluate(&nobody, CropView::Floats(&[]))
    }

    fn probabilities(&self) -> Result<Vec<f32>> {
        self.own_rows(self.above.network.plan.probabilities())
    }

    fn left_in(&self, buffer: BufferId) -> Result<Vec<f32>> {
        let (below, above) = (&self.below.network, &self.above.network);
        match left_in(&self.plan, (&below.plan, &above.plan), buffer) {
            Left::Rows(buffer) => self.own_rows(buffer),
            Left::Below(_) if self.own_images().is_empty() => Ok(Vec::new()),
            Left::Below(buffer) => below.read(buffer, self.own_images().len()),
            Left::Above(buffer) => above.read(buffer, self.images.last().map_or(0, |i| i.end)),
            Left::Nowhere => Ok(Vec::new()),
        }
    }

    fn gradients(&mut self, _: &Run, _: CropView<'_>, _: &[u32]) -> Result<Tally> {
        steps_only()
    }

    fn gpus(&self) -> usize {
        1
    }

    fn needs_nccl(&self) -> bool {
        true
    }

    fn connect(&mut self, nccl: &Arc<Nccl>, ids: &[Id], place: (usize, usize)) -> Result<()> {
        self.way = Some(Way::connect(&self.below.network, nccl, ids, place)?);
        Ok(())
    }

    fn disconnect(&mut self) {
        self.way = None;
    }

    fn is_connected(&self) -> bool {
        self.way.is_some()
    }

    fn exchanged_step(
        &mut self,
        run: &Run,
        batch: (CropView<'_>, &[u32], usize),
        update: (f32, &[Option<Rates>]),
        exchange: &mut dyn Exchange,
    ) -> Result<Tally> {
        self.shared_step(run, batch, update, exchange)
    }

    fn update(&mut self, _: f32, _: &[Option<Rates>]) -> Result<()> {
        steps_only()
    }
}

impl Drop for Hybrid {
    fn drop(&mut self) {
        // After an error what travels may wait for others without end.
        if self.failed {
            self.way = None;
        }
        // The loss is on its way to pinned memory; an error has been told already.
        let _ = self.below.network.devices[0].wait();
    }
}
