//! The CUDA engine: a network on one or two GPUs.
//!
//! Everything that is needed is planned ([`layout`]), refused if there is too little, and taken at
//! the start ([`network`]). A worker thread a GPU ([`worker`]) queues the plan's tasks ([`tasks`])
//! on that GPU's compute stream; this thread hands over batches, as bytes in pinned memory that go
//! to the GPUs from where the loader wrote them, and reads the loss. It waits for nothing else of a
//! step: while the GPUs are still at its backward pass and update, the next batch comes in on the
//! upload streams.

mod crossing;
mod kept;
mod lanes;
pub mod layout;
mod network;
mod profile;
mod signal;
mod tasks;
mod worker;

use crate::data::form::{Bytes, CropView, Form};
use crate::engine::batch::{check_images, check_labels};
use crate::engine::tensors::{self, pair, pair_mut};
use crate::engine::{Engine, LayerTime, Rates, Slot, Tensor};
use crate::errors::{BATCH_OPTION, TooLarge};
use crate::gpu::compile::{Compiler, default_cache};
use crate::gpu::device::Device;
use crate::gpu::library;
use crate::gpu::memory::{Buffer, Pinned};
use crate::gpu::precision::Wanted;
use crate::layers::Run;
use crate::layers::softmax::Tally;
use crate::network::{BufferId, Plan, TensorPlan};
use crate::{config_error, note};
use anyhow::{Context, Error, Result, bail};
use layout::Layout;
use network::Network;
use rayon::prelude::*;
use signal::GaveUp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tasks::Step;
use worker::{Order, Worker};

/// A network in the memory of GPUs.
pub struct Cuda {
    // In this order: workers end before the memory that they use.
    workers: Vec<Worker>,
    host: Host,
    network: Arc<Network>,
    steps: u64,
    /// Images of the last pass.
    last_batch: usize,
    /// Of the passes in [`Network::kept`]: the number and the images.
    passes: [(u64, usize); kept::PASSES],
}

/// Pinned memory for what goes to the GPUs with a batch's crops, which lie in pinned memory of
/// their own.
struct Host {
    /// [images, 2 * channels]
    colours: Pinned<f32>,
    /// `[images]`
    labels: Pinned<i32>,
}

impl Cuda {
    /// `plan`'s network on these GPUs, by the plan's device numbers; parameters are zero.
    pub fn new(mut plan: Plan, gpus: &[usize]) -> Result<Cuda> {
        let compiler = Arc::new(Compiler::new(library::driver_version()?, default_cache())?);
        let devices = gpus
            .iter()
            .map(|&gpu| Ok(Arc::new(Device::open(gpu, compiler.clone())?)))
            .collect::<Result<Vec<_>>>()?;
        let devices = devices[..plan.data.len()].to_vec();
        let least = devices.iter().map(|device| device.capability).min().unwrap_or((0, 0));
        plan.precision = plan.wanted.on(least);
        if plan.wanted == Wanted::Auto {
            note!("precision \"auto\": {} on this GPU", plan.precision.name());
        }
        check_precision(&plan, &devices)?;
        let multiprocessors: Vec<usize> = devices.iter().map(|d| d.multiprocessors).collect();
        let layout = Layout::new(&plan, plan.batch, &multiprocessors)?;
        check_memory(&plan, &devices, &layout, &multiprocessors)?;
        let network = Arc::new(Network::new(plan, devices, layout)?);
        let (first, input) = (&network.devices[0], network.plan.input);
        let host = Host {
            colours: first.pinned(network.plan.batch * 2 * input.channels)?,
            labels: first.pinned(network.plan.batch)?,
        };
        let workers = (0..network.devices.len())
            .map(|d| Worker::start(network.clone(), d))
            .collect::<Result<Vec<_>>>()?;
        let passes = Default::default();
        Ok(Cuda { workers, host, network, steps: 0, last_batch: 0, passes })
    }

    /// Gives each worker an order and waits until all have queued it; the GPUs may not be done.
    fn order(&self, order: Order) -> Result<Vec<Vec<LayerTime>>> {
        for worker in &self.workers {
            worker.order(order.clone())?;
        }
        all_or_cause(self.workers.iter().map(Worker::answer).collect())
    }

    /// Sends a batch off to all GPUs. Until the upload streams are done, `images` must stay.
    fn upload(&mut self, run: &Run, images: CropView<'_>, labels: Option<&[u32]>) -> Result<()> {
        let (pixels, colours) = match images {
            CropView::Bytes { pixels, colours } => (pixels, colours),
            CropView::Floats(values) => return self.upload_floats(run, values, labels),
        };
        let (plan, Host { colours: host_colours, labels: host_labels }) =
            (&self.network.plan, &mut self.host);
        let (values, colour_len) = (plan.input.len(), 2 * plan.input.channels);
        let given = [("bytes", pixels.len(), values), ("colours", colours.len(), colour_len)];
        check_images(plan, run, &given)?;
        host_colours[..colours.len()].copy_from_slice(colours);
        for (to, &label) in host_labels.iter_mut().zip(labels.unwrap_or_default()) {
            *to = label as i32;
        }
        for (device, input) in self.network.devices.iter().zip(&self.network.inputs) {
            device.upload.wait_for(&input.taken)?;
            // SAFETY: `step` waits for the upload streams before anything of this changes.
            unsafe {
                device.upload.write_later(pixels, &input.crops)?;
                device.upload.write_later(&host_colours[..colours.len()], &input.colours)?;
                // The step before has read its labels: its loss has been waited for.
                if labels.is_some() && Arc::ptr_eq(device, self.network.last()) {
                    device.upload.write_later(host_labels, &self.network.loss.labels)?;
                }
            }
            device.upload.record(&input.uploaded)?;
        }
        Ok(())
    }

    /// As [`Cuda::upload`], of input that is no image; waits for the pass before, which may still
    /// read its own, and until all is there.
    fn upload_floats(&mut self, run: &Run, values: &[f32], labels: Option<&[u32]>) -> Result<()> {
        let plan = &self.network.plan;
        check_images(plan, run, &[("values", values.len(), plan.input.len())])?;
        let labels: Vec<i32> = labels.unwrap_or_default().iter().map(|&l| l as i32).collect();
        let encoded = self.encoded(values);
        for (d, device) in self.network.devices.iter().enumerate() {
            let data = &self.network.buffers[plan.data[d]];
            if run.batch < plan.batch {
                device.compute.zero(data)?;
            }
            device.compute.wait()?;
            // SAFETY: waited for right here, while what is copied is borrowed.
            unsafe {
                device.compute.write_later(&encoded, data)?;
                if !labels.is_empty() && Arc::ptr_eq(device, self.network.last()) {
                    device.compute.write_later(&labels, &self.network.loss.labels)?;
                }
            }
            device.compute.wait()?;
        }
        Ok(())
    }

    /// Queues one pass, and waits until the batch has left the host's memory. The pass before,
    /// whose input the batch follows, may still be at work.
    fn step(&mut self, run: &Run, images: CropView<'_>, labels: Option<&[u32]>) -> Result<()> {
        let queued = self.upload(run, images, labels).and_then(|()| {
            self.steps += 1;
            self.last_batch = run.batch;
            let (backward, floats) = (labels.is_some(), matches!(images, CropView::Floats(_)));
            let step = Step { run: *run, number: self.steps, backward, floats };
            self.order(Order::Step(step))
        });
        let sent = self.network.devices.iter().map(|d| d.upload.wait()).collect::<Vec<_>>();
        queued?;
        sent.into_iter().collect()
    }

    /// Input values as they are stored on the GPUs.
    fn encoded(&self, values: &[f32]) -> Vec<u8> {
        let (plan, stored) =
            (&self.network.plan, self.network.layout.buffers[self.network.plan.data[0]]);
        let (channels, pixels) = (plan.input.channels, plan.input.pixels());
        let zeros = vec![0.0; stored.values / pixels - channels];
        if zeros.is_empty() {
            return stored.format.encode(values);
        }
        let pixel = |pixel: &[f32]| [pixel, &zeros].concat();
        stored.format.encode(&values.chunks(channels).flat_map(pixel).collect::<Vec<_>>())
    }

    /// Makes a layer's weights anew as its products read them, where those are others.
    fn round_off(&self, of: &TensorPlan, part: usize) -> Result<()> {
        let own = self.network.parameters[of.layer][part].as_ref();
        let work = self.network.layout.parts[of.layer][part].factors.as_ref();
        let (Some(own), Some((_, work))) = (own, work) else { return Ok(()) };
        let Some(factors) = &own.factors else { return Ok(()) };
        let device = &self.network.devices[self.network.plan.layers[of.layer].parts[part].device];
        // SAFETY: `round_off` reads the weights and writes factors, whose sizes its constants are
        // from.
        unsafe { work.run(&device.compute, |a| a.buffer(&own.value[0]).buffer(factors))? };
        device.compute.wait()
    }

    /// One part of a tensor in its device's memory.
    fn tensor(&self, slot: Slot, of: &TensorPlan, part: usize) -> Result<(&Device, &Buffer<f32>)> {
        let own = self.network.parameters[of.layer][part].as_ref();
        let own = own.context("a layer without its parameters; this is an error in the program")?;
        let both = match slot {
            Slot::Value => Some(&own.value),
            Slot::Gradient => own.gradient.as_ref(),
            Slot::Momentum => own.momentum.as_ref(),
        };
        let both = both.context("in evaluation there are no gradients and momenta")?;
        let device = self.network.plan.layers[of.layer].parts[part].device;
        Ok((&self.network.devices[device], &both[usize::from(of.is_bias)]))
    }
}

impl Engine for Cuda {
    fn plan(&self) -> &Plan {
        &self.network.plan
    }

    fn profile(&mut self) {
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
        tensors::read(&self.network.plan, tensor, memory, |of, part, learn, world| {
            let (device, buffer) = self.tensor(slot, of, part)?;
            let mut own = vec![0.0; buffer.len()];
            device.compute.read(buffer, &mut own)?;
            learn.unpack_for_gpu(pair_mut(of.is_bias, world), pair(of.is_bias, &own));
            Ok(())
        })
    }

    fn write(&mut self, slot: Slot, tensor: usize, values: &[f32]) -> Result<()> {
        tensors::write(&self.network.plan, tensor, values, |of, part, learn, world| {
            let (device, buffer) = self.tensor(slot, of, part)?;
            let mut own = vec![0.0; world.len()];
            learn.pack_for_gpu(pair_mut(of.is_bias, &mut own), pair(of.is_bias, world));
            device.compute.write(&own, buffer)?;
            if slot == Slot::Value && !of.is_bias {
                self.round_off(of, part)?;
            }
            Ok(())
        })
    }

    fn form(&mut self, mean: &[f32]) -> Result<Form> {
        let values = self.network.plan.input.len();
        if mean.len() != values {
            bail!(
                "a mean of {} values does not fit a network whose input has {values}",
                mean.len()
            );
        }
        for (device, input) in self.network.devices.iter().zip(&self.network.inputs) {
            device.compute.write(mean, &input.mean)?;
        }
        let first = self.network.devices[0].clone();
        Ok(Form::Bytes(Arc::new(move |bytes| Ok(Box::new(first.pinned::<u8>(bytes)?) as Bytes))))
    }

    fn forward(&mut self, run: &Run, images: CropView<'_>) -> Result<()> {
        self.step(run, images, None)?;
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
        let mut bytes = vec![0; images * stored.values * stored.format.bytes()];
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
        self.step(run, images, Some(labels))?;
        self.network.scored.wait()?;
        let totals = self.network.totals.lock().unwrap_or_else(|e| e.into_inner());
        Ok(Tally {
            images: run.batch as u64,
            loss: totals[0].into(),
            top1_wrong: totals[1] as u64,
            top5_wrong: totals[2] as u64,
        })
    }

    fn update(&mut self, momentum: f32, rates: &[Option<Rates>]) -> Result<()> {
        self.order(Order::Update(momentum, Arc::new(rates.to_vec()))).map(|_| ())
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        self.workers.clear();
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

/// Refuses a precision that a GPU does not have.
fn check_precision(plan: &Plan, devices: &[Arc<Device>]) -> Result<()> {
    let needs = plan.precision.needs();
    let Some(old) = devices.iter().find(|device| device.capability < needs) else { return Ok(()) };
    let precision = plan.precision.name();
    Err(config_error!(
        "[gpu] precision = {precision:?}: GPU {} ({}) has compute capability {}.{}, and tensor \
         cores take {} from {}.{} on; use --set gpu.precision=f32",
        old.index,
        old.name,
        old.capability.0,
        old.capability.1,
        precision.to_uppercase(),
        needs.0,
        needs.1
    ))
}

/// For each device what is taken of its GPU: `bytes`, or more where one GPU plays several devices.
fn need_of_gpus(devices: &[Arc<Device>], bytes: &[usize]) -> Vec<usize> {
    let all = |gpu| devices.iter().zip(bytes).filter(move |(d, _)| d.index == gpu);
    devices.iter().map(|d| all(d.index).map(|(_, bytes)| bytes).sum()).collect()
}

/// Refuses a batch for which there is too little memory; says how large a one would fit.
fn check_memory(
    plan: &Plan,
    devices: &[Arc<Device>],
    layout: &Layout,
    multiprocessors: &[usize],
) -> Result<()> {
    // The driver's own and the kernels' code.
    const SPARE: usize = 64 << 20;
    let free = devices.iter().map(|d| d.memory()).collect::<Result<Vec<_>>>()?;
    let need = |layout: &Layout| need_of_gpus(devices, &layout.bytes(plan));
    let fits = |layout: &Layout| {
        need(layout).iter().zip(&free).all(|(need, (free, _))| need + SPARE.min(free / 16) <= *free)
    };
    if fits(layout) {
        return Ok(());
    }
    let (mut most, mut too_many) = (0, plan.batch);
    while too_many - most > 1 {
        let middle = most.midpoint(too_many);
        let fitting = Layout::new(plan, middle, multiprocessors).is_ok_and(|l| fits(&l));
        *(if fitting { &mut most } else { &mut too_many }) = middle;
    }
    let mib = |bytes: usize| bytes.div_ceil(1 << 20);
    let each = devices.iter().zip(need(layout)).zip(&free).map(|((d, need), (free, all))| {
        let (need, free, all) = (mib(need), mib(*free), mib(*all));
        format!("GPU {} needs {need} MiB and has {free} of {all} MiB free", d.index)
    });
    let each: Vec<String> = each.collect();
    Err(Error::new(TooLarge {
        batch: plan.batch,
        why: each.join(", "),
        fits: most,
        none_fits: "use a GPU with more memory, two GPUs, or --device cpu",
        option: BATCH_OPTION,
    }))
}

/// Compiles and loads every kernel, different ones side by side.
fn load(plan: &Plan, devices: &[Arc<Device>], layout: &Layout) -> Result<()> {
    let begun = Instant::now();
    let launches = layout.launches(plan);
    let mut different = HashMap::new();
    for (d, launch) in &launches {
        let key = (devices[*d].capability, launch.source.name, format!("{:?}", launch.constants));
        different.entry(key).or_insert((*d, *launch));
    }
    let different: Vec<_> = different.into_values().collect();
    different.par_iter().try_for_each(|(d, launch)| launch.load(&devices[*d]))?;
    let compiler = devices[0].compiler();
    if compiler.compiled() > 0 {
        let kept = compiler.cache().map_or(String::new(), |f| format!(", kept in {}", f.display()));
        let seconds = begun.elapsed().as_secs_f64();
        note!("{} kernels compiled in {seconds:.0} s{kept}", compiler.compiled());
    }
    launches.iter().try_for_each(|(d, launch)| launch.load(&devices[*d]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

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
