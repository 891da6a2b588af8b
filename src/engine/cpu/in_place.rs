//! Layers that change each value by itself, above one another: some of them in the same memory,
//! where each still has to find what its backward pass reads.

use super::Cpu;
use super::small::{BATCH, gradients, images, network, run};
use crate::data::form::CropView;
use crate::engine::{Engine, Slot};
use crate::network::Mode;
use crate::random::numbers;

/// Half the distance of central differences in f32: their error is then some 10⁻³ of a gradient.
const H: f32 = 0.02;

fn with(pair: [&str; 2]) -> Cpu {
    let [below, above] = pair.map(|kind| match kind {
        "dropout" => "kind = \"dropout\"\nrate = 0.5\nscale = \"train\"".to_string(),
        other => format!("kind = \"{other}\""),
    });
    let text = format!(
        "towers = 2\n[data]\ncrop = 3\nclasses = 4\n[train]\nbatch = {BATCH}\n[schedule]\n\
         rate = 0.1\n[[layer]]\nname = \"fc1\"\nkind = \"fc\"\noutputs = 32\n\
         [[layer]]\nname = \"below\"\n{below}\n[[layer]]\nname = \"above\"\n{above}\n\
         [[layer]]\nname = \"fc2\"\nkind = \"fc\"\noutputs = 4\ninput = \"same-tower\"\n\
         [[layer]]\nname = \"fc3\"\nkind = \"fc\"\noutputs = 4\ntower = 0\n\
         [[layer]]\nname = \"softmax\"\nkind = \"softmax\"\n"
    );
    let mut cpu = network(&text, Mode::Training);
    // Values that reach where a tangent bends.
    for (index, tensor) in cpu.plan.tensors().iter().enumerate() {
        cpu.write(Slot::Value, index, &numbers(tensor.len(), index as u32 + 1)).unwrap();
    }
    cpu
}

/// The mean loss of a training step's images with one value of fc1's biases changed.
fn loss(cpu: &mut Cpu, biases: &[f32], value: usize, by: f32) -> f64 {
    let mut biases = biases.to_vec();
    biases[value] += by;
    cpu.write(Slot::Value, 1, &biases).unwrap();
    let images = images(cpu);
    cpu.forward(&run(true), CropView::Floats(&images)).unwrap();
    let probabilities = cpu.probabilities().unwrap();
    let each = probabilities.chunks_exact(4).enumerate().map(|(i, p)| -f64::from(p[i % 4]).ln());
    each.sum::<f64>() / BATCH as f64
}

/// Of a layer whose derivative is written in its output, whatever stands above it.
#[test]
fn gradients_are_the_differences_of_the_loss() {
    for pair in [
        ["tanh", "dropout"],
        ["dropout", "tanh"],
        ["tanh", "tanh"],
        ["tanh", "relu"],
        ["relu", "tanh"],
        ["relu", "dropout"],
        ["dropout", "relu"],
    ] {
        let mut cpu = with(pair);
        let gradient = gradients(&mut cpu)[1].clone();
        let largest = gradient.iter().fold(0f32, |most, g| most.max(g.abs()));
        let biases = cpu.read(Slot::Value, 1).unwrap().values;
        let mut far = 0;
        for (value, own) in gradient.iter().enumerate() {
            let [up, down] = [H, -H].map(|by| loss(&mut cpu, &biases, value, by));
            let difference = ((up - down) / f64::from(2.0 * H)) as f32;
            far += usize::from((difference - own).abs() > 0.02 * largest);
        }
        // A ReLU may bend between the two.
        let bends = if pair.contains(&"relu") { 3 } else { 0 };
        assert!(largest > 0.01 && far <= bends, "{pair:?}: {far} of {}", gradient.len());
    }
}
