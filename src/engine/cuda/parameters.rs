//! What the outside world reads and writes of a network in the GPUs' memory: parameters, the mean
//! image, the loss.

use super::network::Network;
use crate::data::form::{Bytes, Form};
use crate::engine::tensors::{self, pair, pair_mut};
use crate::engine::{Slot, Tensor};
use crate::gpu::device::Device;
use crate::gpu::memory::Buffer;
use crate::layers::softmax::Tally;
use crate::network::TensorPlan;
use anyhow::{Context, Result, bail};
use std::sync::Arc;

impl Network {
    /// See [`Engine::read_into`](crate::engine::Engine::read_into).
    pub fn read_parameter(&self, slot: Slot, tensor: usize, memory: Vec<f32>) -> Result<Tensor> {
        tensors::read(&self.plan, tensor, memory, |of, part, learn, world| {
            let (device, buffer) = self.parameter(slot, of, part)?;
            let mut own = vec![0.0; buffer.len()];
            device.compute.read(buffer, &mut own)?;
            learn.unpack_for_gpu(pair_mut(of.is_bias, world), pair(of.is_bias, &own));
            Ok(())
        })
    }

    /// See [`Engine::write`](crate::engine::Engine::write).
    pub fn write_parameter(&self, slot: Slot, tensor: usize, values: &[f32]) -> Result<()> {
        tensors::write(&self.plan, tensor, values, |of, part, learn, world| {
            let (device, buffer) = self.parameter(slot, of, part)?;
            let mut own = vec![0.0; world.len()];
            learn.pack_for_gpu(pair_mut(of.is_bias, &mut own), pair(of.is_bias, world));
            device.compute.write(&own, buffer)?;
            if slot == Slot::Value && !of.is_bias {
                self.round_off(of, part)?;
            }
            Ok(())
        })
    }

    /// Makes a layer's weights anew as its products read them, where those are others.
    fn round_off(&self, of: &TensorPlan, part: usize) -> Result<()> {
        let own = self.parameters[of.layer][part].as_ref();
        let work = self.layout.parts[of.layer][part].factors.as_ref();
        let (Some(own), Some((_, work))) = (own, work) else { return Ok(()) };
        let Some(factors) = &own.factors else { return Ok(()) };
        let device = &self.devices[self.plan.layers[of.layer].parts[part].device];
        // SAFETY: `round_off` reads the weights and writes factors, whose sizes its constants are
        // from.
        unsafe { work.run(&device.compute, |a| a.buffer(&own.value[0]).buffer(factors))? };
        device.compute.wait()
    }

    /// One part of a tensor in its device's memory.
    fn parameter(
        &self,
        slot: Slot,
        of: &TensorPlan,
        part: usize,
    ) -> Result<(&Device, &Buffer<f32>)> {
        let own = self.parameters[of.layer][part].as_ref();
        let own = own.context("a layer without its parameters; this is an error in the program")?;
        let both = match slot {
            Slot::Value => Some(&own.value),
            Slot::Gradient => own.gradient.as_ref(),
            Slot::Momentum => own.momentum.as_ref(),
        };
        let both = both.context("in evaluation there are no gradients and momenta")?;
        let device = self.plan.layers[of.layer].parts[part].device;
        Ok((&self.devices[device], &both[usize::from(of.is_bias)]))
    }

    /// See [`Engine::form`](crate::engine::Engine::form).
    pub fn form(&self, mean: &[f32]) -> Result<Form> {
        let values = self.plan.input.len();
        if mean.len() != values {
            bail!(
                "a mean of {} values does not fit a network whose input has {values}",
                mean.len()
            );
        }
        for (device, input) in self.devices.iter().zip(&self.inputs) {
            device.compute.write(mean, &input.mean)?;
        }
        let first = self.devices[0].clone();
        Ok(Form::Bytes(Arc::new(move |bytes| Ok(Box::new(first.pinned::<u8>(bytes)?) as Bytes))))
    }

    /// What the last pass over so many images came to, as soon as its loss is there.
    pub fn tally(&self, images: usize) -> Result<Tally> {
        self.scored.wait()?;
        let totals = self.totals.lock().unwrap_or_else(|e| e.into_inner());
        Ok(Tally {
            images: images as u64,
            loss: totals[0].into(),
            top1_wrong: totals[1] as u64,
            top5_wrong: totals[2] as u64,
        })
    }
}
