//! The CUDA engine: a network on one or two GPUs.
//!
//! Everything that is needed is planned ([`layout`]), refused if there is too little, and taken at
//! the start ([`network`]). A worker thread a GPU ([`worker`]) queues the plan's tasks ([`pass`])
//! on that GPU's streams ([`lanes`]), each pass as a whole ([`step`]); this thread hands over
//! batches, as bytes in pinned memory that go to the GPUs from where the loader wrote them, and
//! reads the loss. It waits for nothing else of a step: while the GPUs are still at its backward
//! pass and update, the next batch comes in on the upload streams. Of several processes that share
//! a batch NCCL adds up the gradients ([`sums`], [`summed`]); layer-wise rates are in [`lars`].

pub mod account;
mod crossing;
mod exchange;
mod fits;
mod hybrid;
mod kept;
mod lanes;
mod lars;
pub mod layout;
mod network;
pub mod norms;
mod parameters;
mod pass;
mod places;
mod portions;
mod profile;
mod signal;
mod sources;
mod step;
mod storage;
mod summed;
mod sums;
mod update;
mod upload;
mod worker;

use crate::data::form::{CropView, Form};
use crate::engine::batch::check_labels;
use crate::engine::exchange::through_main_memory;
use crate::engine::{Engine, Exchange, LayerTime, Rates, Slot, Tensor, in_two};
use crate::gpu::compile::{Compiler, default_cache};
use crate::gpu::device::Device;
use crate::gpu::launch::Launch;
use crate::gpu::library;
use crate::gpu::nccl::{Id, Nccl};
use crate::gpu::precision::Wanted;
use crate::gpu::watch::{ending, watched};
use crate::layers::Run;
use crate::layers::softmax::Tally;
use crate::network::{BufferId, Plan};
use crate::note;
use anyhow::{Result, bail};
use fits::{check_memory, check_precision};
pub use hybrid::{Hybrid, Layouts};
use layout::Layout;
use network::Network;
use pass::{Step, Update};
use rayon::prelude::*;
use signal::GaveUp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use sums::Sums;
use upload::Host;
use worker::{Order, Worker};

/// A network in the memory of GPUs.
pub struct Cuda {
    // In this order: workers end before the memory that they use.
    workers: Vec<Worker>,
    host: Host,
    network: Arc<Network>,
    steps: u64,
    updates: u64,
    /// Images of the last pass.
    last_batch: usize,
    /// Of the passes in [`Network::kept`]: the number and the images.
    passes: [(u64, usize); kept::PASSES],
    /// Times are taken.
    profiled: bool,
    /// How gradients of several processes are added up here.
    sums: Option<Arc<Sums>>,
}

/// What a pass does besides gradients.
#[derive(Default)]
struct Besides {
    update: Option<Update>,
    /// Gradients are added up over the processes that share a batch of so many images.
    whole: Option<usize>,
}

impl Cuda {
    /// `plan`'s network on these GPUs, by the plan's device numbers; parameters are zero.
    pub fn new(mut plan: Plan, gpus: &[usize]) -> Result<Cuda> {
        let devices = open(gpus)?[..plan.data.len()].to_vec();
        let least = devices.iter().map(|device| device.capability).min().unwrap_or((0, 0));
        plan.precision = plan.wanted.on(least);
        tell_precision(&plan);
        check_precision(&plan, &devices)?;
        let multiprocessors: Vec<usize> = devices.iter().map(|d| d.multiprocessors).collect();
        let layout = Layout::new(&plan, plan.batch, &multiprocessors)?;
        check_memory(&plan, &devices, &layout, &multiprocessors)?;
        let network = Arc::new(Network::new(plan, devices, layout)?);
        let host = Host::new(&network)?;
        let workers = (0..network.devices.len())
            .map(|d| Worker::start(network.clone(), d))
            .collect::<Result<Vec<_>>>()?;
        let passes = Default::default();
        Ok(Cuda {
            workers,
            host,
            network,
            steps: 0,
            updates: 0,
            last_batch: 0,
            passes,
            profiled: false,
            sums: None,
        })
    }

    /// Gives each worker an order and waits until all have queued it; the GPUs may not be done.
    fn order(&self, order: Order) -> Result<Vec<Vec<LayerTime>>> {
        for worker in &self.workers {
            worker.order(order.clone())?;
        }
        let answers = self.workers.iter().zip(&self.network.devices);
        let answers = answers.map(|(worker, device)| watched(device.index, || worker.answer()));
        all_or_cause(answers.collect()).inspect_err(ending)
    }

    /// Queues one pass, and waits until the batch has left the host's memory. The pass before,
    /// whose input the batch follows, may still be at work.
    fn pass(
        &mut self,
        run: &Run,
        images: CropView<'_>,
        labels: Option<&[u32]>,
        besides: Besides,
    ) -> Result<()> {
        let queued = self.network.upload(&mut self.host, run, images, labels).and_then(|()| {
            self.steps += 1;
            self.last_batch = run.batch;
            let (backward, floats) = (labels.is_some(), matches!(images, CropView::Floats(_)));
            let update = besides.update.map(Arc::new);
            let sums = self.sums.clone().filter(|_| besides.whole.is_some());
            let (number, whole) = (self.steps, besides.whole.unwrap_or(run.batch));
            let step = Step { run: *run, number, backward, floats, update, whole, sums };
            self.order(Order::Step(step))
        });
        let sent = self.network.devices.iter().map(|d| d.upload.wait()).collect::<Vec<_>>();
        queued?;
        sent.into_iter().collect()
    }

    /// The number of an update that is about to be queued by itself.
    fn count_update(&mut self) -> u64 {
        self.updates += 1;
        self.updates
    }
}

impl Engine for Cuda {
    fn plan(&self) -> &Plan {
        &self.network.plan
    }

    fn profile(&mut self) {
        self.profiled = true;
        // A worker that has ended says so at the next step.
        let _ = self.order(Order::Profile);
    }

    fn times(&self) -> Vec<LayerTime> {
        let mut sum: Vec<LayerTime> = Vec::new();
        for times in self.order(Order::Times).unwrap_or_default() {
            sum.resize(sum.len().max(times.len()), LayerTime::default());
            sum.iter_mut().zip(times).for_each(|(sum, times)| *sum += times);
        }
        sum
    }

    fn read_into(&self, slot: Slot, tensor: usize, memory: Vec<f32>) -> Result<Tensor> {
        self.network.read_parameter(slot, tensor, memory)
    }

    fn write(&mut self, slot: Slot, tensor: usize, values: &[f32]) -> Result<()> {
        self.network.write_parameter(slot, tensor, values)
    }

    fn form(&mut self, mean: &[f32]) -> Result<Form> {
        self.network.form(mean)
    }

    fn forward(&mut self, run: &Run, images: CropView<'_>) -> Result<()> {
        self.pass(run, images, None, Besides::default())?;
        self.passes[self.steps as usize % kept::PASSES] = (self.steps, run.batch);
        Ok(())
    }

    fn ahead(&self) -> usize {
        kept::PASSES - 1
    }

    fn left_by(&self, ago: usize, buffer: BufferId) -> Result<Vec<f32>> {
        let number = self.steps.saturating_sub(ago as u64);
        let slot = number as usize % kept::PASSES;
        let (of, images) = self.passes[slot];
        if of != number || ago >= kept::PASSES {
            bail!("a pass that is over is asked for; this is an error in the program");
        }
        let (network, stored) = (&self.network, self.network.layout.buffers[buffer]);
        let mut bytes = vec![0; stored.bytes(images)];
        network.kept[slot].read(network.last(), buffer, &mut bytes)?;
        Ok(stored.format.decode(&bytes))
    }

    fn probabilities(&self) -> Result<Vec<f32>> {
        self.network.read(self.network.plan.probabilities(), self.last_batch)
    }

    fn left_in(&self, buffer: BufferId) -> Result<Vec<f32>> {
        self.network.read(buffer, self.last_batch)
    }

    fn gradients(&mut self, run: &Run, images: CropView<'_>, labels: &[u32]) -> Result<Tally> {
        check_labels(&self.network.plan, run, labels)?;
        self.pass(run, images, Some(labels), Besides::default())?;
        self.network.tally(run.batch)
    }

    fn gpus(&self) -> usize {
        self.network.devices.len()
    }

    fn connect(&mut self, nccl: &Arc<Nccl>, ids: &[Id], place: (usize, usize)) -> Result<()> {
        self.sums = Some(Arc::new(Sums::connect(&self.network, nccl, ids, place)?));
        Ok(())
    }

    fn disconnect(&mut self) {
        self.sums = None;
    }

    fn is_connected(&self) -> bool {
        self.sums.is_some()
    }

    fn exchanged_step(
        &mut self,
        run: &Run,
        batch: (CropView<'_>, &[u32], usize),
        update: (f32, &[Option<Rates>]),
        exchange: &mut dyn Exchange,
    ) -> Result<Tally> {
        match self.sums.clone() {
            Some(sums) => self.summed(run, batch, update, (&sums, exchange)),
            None => through_main_memory(self, run, batch, update, exchange),
        }
    }

    fn step(
        &mut self,
        run: &Run,
        images: CropView<'_>,
        labels: &[u32],
        momentum: f32,
        rates: &[Option<Rates>],
    ) -> Result<Tally> {
        // The loss is on one device, times are taken of each thing by itself, and layer-wise rates
        // are known when the whole gradient is.
        if self.network.devices.len() > 1 || self.profiled || self.network.lars.is_some() {
            return in_two(self, run, (images, labels), momentum, rates);
        }
        check_labels(&self.network.plan, run, labels)?;
        let update = Some(Update { momentum, rates: rates.to_vec(), number: 0, sums: None });
        self.pass(run, images, Some(labels), Besides { update, whole: None })?;
        self.network.tally(run.batch)
    }

    fn update(&mut self, momentum: f32, rates: &[Option<Rates>]) -> Result<()> {
        let (rates, number) = (rates.to_vec(), self.count_update());
        let constants = Update { momentum, rates, number, sums: None };
        self.order(Order::Update(Arc::new(constants))).map(|_| ())
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        watched(self.network.devices[0].index, || self.workers.clear());
        // After an error sums may wait for others without end.
        if self.network.board.has_failed() {
            self.sums = None;
        }
        // The loss is on its way to pinned memory; an error has been told already.
        for device in &self.network.devices {
            let _ = device.wait();
        }
    }
}

/// Every answer; or the error of the worker that failed, not of those that gave up for it.
fn all_or_cause<T>(answers: Vec<Result<T>>) -> Result<Vec<T>> {
    let gave_up = |answer: &Result<T>| answer.as_ref().is_err_and(|e| e.is::<GaveUp>());
    let (gave_up, answers): (Vec<_>, Vec<_>) = answers.into_iter().partition(gave_up);
    answers.into_iter().chain(gave_up).collect()
}

/// The GPUs of these numbers.
fn open(gpus: &[usize]) -> Result<Vec<Arc<Device>>> {
    let compiler = Arc::new(Compiler::new(library::driver_version()?, default_cache())?);
    gpus.iter().map(|&gpu| Ok(Arc::new(Device::open(gpu, compiler.clone())?))).collect()
}

/// Says which precision the program has chosen.
fn tell_precision(plan: &Plan) {
    if plan.wanted == Wanted::Auto {
        note!("precision \"auto\": {} on this GPU", plan.precision.name());
    }
}

/// Compiles and loads these kernels, different ones side by side.
fn load(devices: &[Arc<Device>], launches: &[(usize, &Launch)]) -> Result<()> {
    let begun = Instant::now();
    let mut different = HashMap::new();
    for (d, launch) in launches {
        let key = (devices[*d].capability, launch.source.name, format!("{:?}", launch.constants));
        different.entry(key).or_insert((*d, *launch));
    }
    let different: Vec<_> = different.into_values().collect();
    let compiler = devices[0].compiler();
    let before = compiler.compiled();
    different.par_iter().try_for_each(|(d, launch)| launch.load(&devices[*d]))?;
    let compiled = compiler.compiled() - before;
    if compiled > 0 {
        let kept = compiler.cache().map_or(String::new(), |f| format!(", kept in {}", f.display()));
        let seconds = begun.elapsed().as_secs_f64();
        note!("{compiled} kernels compiled in {seconds:.0} s{kept}");
    }
    launches.iter().try_for_each(|(d, launch)| launch.load(&devices[*d]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn the_worker_that_failed_is_told_of() {
        let gave_up = || Err(GaveUp).context("layer fc6, joining the input").context("on GPU 0");
        let failed = || Err::<u32, _>(anyhow!("out of memory")).context("on GPU 1");
        let told = |answers| all_or_cause(answers).map_err(|e| format!("{e:#}"));
        assert_eq!(told(vec![gave_up(), failed()]), Err("on GPU 1: out of memory".into()));
        assert_eq!(told(vec![Ok(1), failed(), gave_up()]), Err("on GPU 1: out of memory".into()));
        assert!(told(vec![Ok(1), gave_up()]).unwrap_err().contains("another GPU's worker"));
        assert_eq!(told(vec![Ok(1), Ok(2)]), Ok(vec![1, 2]));
    }
}
