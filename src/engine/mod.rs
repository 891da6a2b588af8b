//! Who computes. An [`Engine`] holds a network's memory on its devices and carries out the plan's
//! tasks; the trainer and the commands know nothing else of a device.

mod batch;
mod choice;
pub mod cpu;
pub mod cuda;
mod exchange;
mod owned;
pub mod profile;
mod tensors;

pub use choice::{Choice, Placement};
pub use exchange::Exchange;

use crate::data::form::{CropView, Form};
use crate::files::mapped::MappedFloats;
use crate::gpu::nccl::{Id, Nccl};
use crate::layers::softmax::Tally;
use crate::layers::{Rule, Run};
use crate::network::{BufferId, Plan};
use anyhow::{Result, bail};
use std::sync::Arc;

/// Values with a shape, row by row, as the outside world sees them.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The first dimension runs over all towers.
    pub shape: Vec<usize>,
    /// Row by row.
    pub values: Vec<f32>,
}

/// Which of the values that the update rule keeps for a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The parameter itself.
    Value,
    /// The last batch's gradient of the mean loss.
    Gradient,
    /// The update rule's v.
    Momentum,
}

/// The constants of one update for one layer: v ← m·v − (decay·rate)·w − rate·g, w ← w + v
/// (paper section 5). A rate of 0 freezes: neither w nor v changes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Learning rate of the weights.
    pub weight: f32,
    /// Weight decay times rate.
    pub weight_decay: f32,
    /// Learning rate of the biases.
    pub bias: f32,
    /// Their weight decay times their rate.
    pub bias_decay: f32,
    /// LARS: rate and decay of the weights are multiplied with the layer's trust ratio, this
    /// coefficient times ‖w‖ / (‖g‖ + decay·‖w‖). None: the rule as it stands.
    pub trust: Option<f32>,
}

impl Rates {
    /// The rules for weights and biases; none where they are frozen.
    pub fn rules(&self, momentum: f32) -> [Option<Rule>; 2] {
        [(self.weight, self.weight_decay), (self.bias, self.bias_decay)]
            .map(|(rate, decay)| (rate != 0.0).then_some(Rule { momentum, decay, rate }))
    }
}

/// Seconds that one layer has taken since [`Engine::profile`], all its towers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayerTime {
    /// From input to output.
    pub forward: f64,
    /// Gradient to the input; of layers without weights the whole backward pass.
    pub backward_input: f64,
    /// Gradients of weights and biases.
    pub backward_weights: f64,
    /// Joining and splitting at layers that read all towers.
    pub copies: f64,
    /// The update rule, where it is a step of its own.
    pub update: f64,
}

impl std::ops::AddAssign for LayerTime {
    fn add_assign(&mut self, more: LayerTime) {
        self.forward += more.forward;
        self.backward_input += more.backward_input;
        self.backward_weights += more.backward_weights;
        self.copies += more.copies;
        self.update += more.update;
    }
}

/// What looks at gradients where they lie; see [`Engine::each_gradient`].
pub type EachGradient<'a> = dyn FnMut(&mut [f32]) -> Result<()> + 'a;

/// A network in a device's memory.
pub trait Engine: Send {
    /// What it carries out.
    fn plan(&self) -> &Plan;
    /// Begins to take the time of each layer, from zero.
    fn profile(&mut self);
    /// One entry a layer of the plan; empty where no times are taken.
    fn times(&self) -> Vec<LayerTime>;
    /// Reads one parameter, all towers joined; `tensor` is an index into [`Plan::tensors`].
    fn read(&self, slot: Slot, tensor: usize) -> Result<Tensor> {
        self.read_into(slot, tensor, Vec::new())
    }
    /// As [`Engine::read`], into memory that is there already: fresh pages cost as much as the
    /// copy.
    fn read_into(&self, slot: Slot, tensor: usize, memory: Vec<f32>) -> Result<Tensor>;
    /// Whether each of several processes has a part of this parameter only. Then what is read is
    /// that part, zeros in the others' place.
    fn is_shared(&self, _tensor: usize) -> bool {
        false
    }
    /// As [`Engine::read_into`]; of a parameter that is shared rank 0 gets all, and all ranks must
    /// call this for the same ones in the same order.
    fn collect_into(&self, slot: Slot, tensor: usize, memory: Vec<f32>) -> Result<Tensor> {
        self.read_into(slot, tensor, memory)
    }
    /// All ranks have been given what was written on rank 0.
    fn handed_out(&mut self) {}
    /// Writes one parameter, all towers joined.
    fn write(&mut self, slot: Slot, tensor: usize, values: &[f32]) -> Result<()>;
    /// Takes a parameter's values, all towers joined, to compute with them where they lie in a
    /// file, if that serves; else as [`Engine::write`].
    fn adopt(&mut self, tensor: usize, values: &MappedFloats) -> Result<()> {
        self.write(Slot::Value, tensor, values)
    }
    /// The form in which the passes take images. An engine that takes bytes centres them itself,
    /// from now on on `mean` `[input]`, the centre crop of the mean image.
    fn form(&mut self, mean: &[f32]) -> Result<Form>;
    /// `images`, run.batch crops, to class probabilities [run.batch, classes]. When it returns,
    /// nothing reads `images` any more.
    fn forward(&mut self, run: &Run, images: CropView<'_>) -> Result<()>;
    /// In the place of [`Engine::forward`], where other processes have images and this one has
    /// none.
    fn sit_out(&mut self) -> Result<()> {
        Ok(())
    }
    /// The probabilities of the last forward pass [run.batch, classes].
    fn probabilities(&self) -> Result<Vec<f32>>;
    /// What the last pass has left in one of the plan's buffers [run.batch, values]; empty where a
    /// pass of several layers keeps it to itself.
    fn left_in(&self, buffer: BufferId) -> Result<Vec<f32>>;
    /// How many passes may begin before what an earlier one came to is asked for: 0 for an engine
    /// that computes while [`Engine::forward`] is called, else at most 1.
    fn ahead(&self) -> usize {
        0
    }
    /// What the forward pass `ago` before the last, at most [`Engine::ahead`], has left in
    /// [`Plan::probabilities`] or [`Plan::logits`]. Waits for that pass, not for the last one.
    fn left_by(&self, ago: usize, buffer: BufferId) -> Result<Vec<f32>> {
        if ago > 0 {
            bail!("a pass that is over is asked for; this is an error in the program");
        }
        self.left_in(buffer)
    }
    /// Forward, loss and all gradients of one batch. A GPU may still be at the backward pass when
    /// it returns, but reads `images` no more; whatever is asked of the engine next finds the
    /// gradients complete.
    fn gradients(&mut self, run: &Run, images: CropView<'_>, labels: &[u32]) -> Result<Tally>;
    /// [`Engine::gradients`] of one part of a batch of `whole` images: its share of the gradient of
    /// their mean loss. The tally is the part's.
    ///
    /// # Errors
    /// Where an engine computes whole batches only.
    fn part_gradients(
        &mut self,
        run: &Run,
        images: CropView<'_>,
        labels: &[u32],
        whole: usize,
    ) -> Result<Tally> {
        if run.batch != whole {
            bail!("batches in parts are computed on the CPU only");
        }
        self.gradients(run, images, labels)
    }
    /// [`Engine::part_gradients`] of this process's share of a batch, perhaps no image, and the
    /// update with the sum of all processes' gradients. They travel while others are computed, if
    /// they are in main memory or added up by NCCL; else once all are there. The tally is the whole
    /// batch's; one whose loss is no number updates nothing.
    ///
    /// # Errors
    /// Those of `exchange` and of the device.
    fn exchanged_step(
        &mut self,
        run: &Run,
        batch: (CropView<'_>, &[u32], usize),
        update: (f32, &[Option<Rates>]),
        exchange: &mut dyn Exchange,
    ) -> Result<Tally> {
        exchange::through_main_memory(self, run, batch, update, exchange)
    }
    /// GPUs that it computes on; 0: the CPU.
    fn gpus(&self) -> usize {
        0
    }
    /// Whether it can do nothing until [`Engine::connect`].
    fn needs_nccl(&self) -> bool {
        false
    }
    /// From now on [`Engine::exchanged_step`] adds up gradients on the GPUs, by NCCL: `ids` of the
    /// communicators, one a GPU, and this process's rank and how many there are. All processes call
    /// this at the same time.
    ///
    /// # Errors
    /// Those of the library; then everything is as it was.
    fn connect(&mut self, _nccl: &Arc<Nccl>, _ids: &[Id], _place: (usize, usize)) -> Result<()> {
        bail!("gradients in main memory are not added up by NCCL")
    }
    /// The reverse of [`Engine::connect`].
    fn disconnect(&mut self) {}
    /// Whether gradients are added up by NCCL.
    fn is_connected(&self) -> bool {
        false
    }
    /// Calls `each` with the last gradients of all parameters that learn, piece by piece in an
    /// order of the engine's own, to be read and changed before [`Engine::update`].
    ///
    /// # Errors
    /// Those of `each`; where an engine has its gradients elsewhere than in main memory.
    fn each_gradient(&mut self, _each: &mut EachGradient<'_>) -> Result<()> {
        bail!("gradients are joined on the CPU only")
    }
    /// The update rule on all parameters; `rates` has one entry a layer of the plan.
    fn update(&mut self, momentum: f32, rates: &[Option<Rates>]) -> Result<()>;
    /// [`Engine::gradients`] and [`Engine::update`] of one batch, with the same bits; a loss that
    /// is no number updates nothing. An engine may update weights as their gradient comes into
    /// being; the gradient of those is not there to be read afterwards.
    fn step(
        &mut self,
        run: &Run,
        images: CropView<'_>,
        labels: &[u32],
        momentum: f32,
        rates: &[Option<Rates>],
    ) -> Result<Tally> {
        in_two(self, run, (images, labels), momentum, rates)
    }
}

/// [`Engine::step`] as [`Engine::gradients`] and [`Engine::update`].
fn in_two<E: Engine + ?Sized>(
    engine: &mut E,
    run: &Run,
    (images, labels): (CropView<'_>, &[u32]),
    momentum: f32,
    rates: &[Option<Rates>],
) -> Result<Tally> {
    let tally = engine.gradients(run, images, labels)?;
    if tally.loss.is_finite() {
        engine.update(momentum, rates)?;
    }
    Ok(tally)
}
