//! How an engine's gradients are joined with those of other processes while it still computes
//! others.

use super::{Engine, Rates, Slot};
use crate::data::form::CropView;
use crate::layers::Run;
use crate::layers::softmax::Tally;
use anyhow::Result;
use std::time::Duration;

/// The other processes, as an engine sees them in one step. Gradients are sent in the same order by
/// all of them, each with a key of its own.
pub trait Exchange {
    /// Tells the others this process's `tally`; that of the whole batch.
    ///
    /// # Errors
    /// What has ended another process, or keeps it from answering. Nothing has been sent yet.
    fn agree(&mut self, tally: Tally) -> Result<Tally>;
    /// Parameters are about to change; the first [`Exchange::receive`] says so, too.
    fn begins(&mut self);
    /// So long others were waited for otherwise than in [`Exchange::receive`].
    fn waited(&mut self, time: Duration);
    /// A gradient that is complete here, on its way from now on.
    fn send(&mut self, key: usize, gradient: Vec<f32>);
    /// All are on their way.
    fn flush(&mut self);
    /// The sum of all processes' gradients of this key, in the memory that was sent.
    ///
    /// # Errors
    /// As [`Exchange::agree`]; the gradients are lost.
    fn receive(&mut self, key: usize) -> Result<Vec<f32>>;
}

/// [`Engine::exchanged_step`] of an engine whose gradients are not in main memory: once all are
/// there they are copied to it, exchanged, and copied back. Each process has the gradient of its
/// own images' mean loss, which counts as many times as it has images.
pub(super) fn through_main_memory<E: Engine + ?Sized>(
    engine: &mut E,
    run: &Run,
    (images, labels, whole): (CropView<'_>, &[u32], usize),
    (momentum, rates): (f32, &[Option<Rates>]),
    exchange: &mut dyn Exchange,
) -> Result<Tally> {
    let plan = engine.plan();
    let tensors: Vec<(usize, usize)> = plan
        .tensors()
        .iter()
        .enumerate()
        .filter(|(_, tensor)| plan.layers[tensor.layer].learns())
        .map(|(index, tensor)| (index, tensor.len()))
        .collect();
    // What can go wrong on the device does so before others wait for this process.
    let (mut mine, mut gradients) = (Tally::default(), Vec::new());
    if run.batch > 0 {
        mine = engine.gradients(run, images, labels)?;
        let share = run.batch as f32 / whole as f32;
        for &(index, _) in &tensors {
            let mut gradient = engine.read(Slot::Gradient, index)?.values;
            gradient.iter_mut().for_each(|value| *value *= share);
            gradients.push(gradient);
        }
    } else {
        gradients.extend(tensors.iter().map(|&(_, len)| vec![0.0; len]));
    }
    let tally = exchange.agree(mine)?;
    if !tally.loss.is_finite() {
        return Ok(tally);
    }
    gradients.into_iter().enumerate().for_each(|(key, gradient)| exchange.send(key, gradient));
    exchange.flush();
    let sums: Vec<Vec<f32>> =
        (0..tensors.len()).map(|key| exchange.receive(key)).collect::<Result<_>>()?;
    for (&(index, _), sum) in tensors.iter().zip(&sums) {
        engine.write(Slot::Gradient, index, sum)?;
    }
    engine.update(momentum, rates)?;
    Ok(tally)
}
