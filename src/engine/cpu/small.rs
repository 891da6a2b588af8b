//! Small networks for the tests of this folder, with the same images and labels for all.

use super::Cpu;
use super::beside::Sides;
use crate::config::Config;
use crate::data::form::CropView;
use crate::engine::{Engine, Slot};
use crate::layers::{Classes, Run};
use crate::network::{Mode, Plan};
use crate::random::numbers;

pub const BATCH: usize = 20;

/// What `text` describes, of two towers.
pub fn plan(text: &str, batch: usize, mode: Mode) -> Plan {
    let config = Config::parse(text, &[], "test").unwrap();
    Plan::new(&config, batch, mode, &[0, 0], Classes::Any).unwrap()
}

/// The network that `text` describes.
pub fn network(text: &str, mode: Mode) -> Cpu {
    let mut cpu = Cpu::new(plan(text, BATCH, mode)).unwrap();
    write(&mut cpu, 0);
    cpu
}

/// The same, every layer a pass of its own, and what goes to another tower copied.
pub fn layer_by_layer(text: &str, mode: Mode) -> Cpu {
    let mut cpu = Cpu::with(plan(text, BATCH, mode), Vec::new(), Sides::new()).unwrap();
    write(&mut cpu, 0);
    cpu
}

/// Small numbers for all parameters, others for another `seed`.
pub fn write(cpu: &mut Cpu, seed: u32) {
    for (index, tensor) in cpu.plan.tensors().iter().enumerate() {
        let small: Vec<f32> =
            numbers(tensor.len(), index as u32 + seed + 1).iter().map(|v| v / 10.0).collect();
        cpu.write(Slot::Value, index, &small).unwrap();
    }
}

pub fn run(training: bool) -> Run {
    Run { batch: BATCH, training, seed: 1, step: 1, first_image: 0 }
}

pub fn images(cpu: &Cpu) -> Vec<f32> {
    numbers(BATCH * cpu.plan.input.len(), 99)
}

/// The probabilities.
pub fn evaluate(cpu: &mut Cpu) -> Vec<f32> {
    let images = images(cpu);
    cpu.forward(&run(false), CropView::Floats(&images)).unwrap();
    cpu.probabilities().unwrap()
}

/// The gradients of all parameters.
pub fn gradients(cpu: &mut Cpu) -> Vec<Vec<f32>> {
    let images = images(cpu);
    let labels: Vec<u32> = (0..BATCH as u32).map(|i| i % 4).collect();
    cpu.gradients(&run(true), CropView::Floats(&images), &labels).unwrap();
    let mut all = Vec::new();
    cpu.each_gradient(&mut |gradient| {
        all.push(gradient.to_vec());
        Ok(())
    })
    .unwrap();
    all
}
