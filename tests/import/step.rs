//! Training goes on as it would have in PyTorch: two steps of the imported network against
//! torch.optim.SGD (`steps.safetensors`), without dropout, whose random numbers are each program's
//! own.

use crate::{data, import, world};
use alexnet::config::Config;
use alexnet::data::form::CropView;
use alexnet::engine::cpu::Cpu;
use alexnet::engine::{Engine, Slot};
use alexnet::layers::{Classes, Run};
use alexnet::network::{Mode, Plan};
use alexnet::train::checkpoint::Checkpoint;
use alexnet::train::rates::rates;
use safetensors::SafeTensors;

#[test]
fn steps_of_training_are_pytorchs() {
    let world = world();
    let said = import(&world, "torch.pth", "x.safetensors", "");
    let checkpoint = Checkpoint::open(&world.path("x.safetensors")).unwrap();
    let set = ["layer.drop5.rate=0", "layer.drop6.rate=0"].map(String::from);
    let config = Config::parse(&checkpoint.config, &set, "x").unwrap();
    let plan = Plan::new(&config, 1, Mode::Training, &[0], Classes::Known(7)).unwrap();
    let tensors = plan.tensors();
    let mut engine = Cpu::new(plan).unwrap();
    checkpoint.load(&mut engine, false).unwrap();

    // As torchvision makes it: (pixel − mean) / deviation of the centre.
    let image = image::open(data("photo.png")).unwrap().into_rgb8();
    let (mean, deviation) = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]);
    let mut input = Vec::new();
    for (y, x) in (16..240).flat_map(|y| (16..240).map(move |x| (y, x))) {
        let pixel = image.get_pixel(x, y).0;
        input.extend((0..3).map(|c| ((f64::from(pixel[c]) - mean[c]) / deviation[c]) as f32));
    }
    let state = config.schedule.begin();
    for step in 1..=2 {
        let run = Run { batch: 1, training: true, seed: config.seed, step, first_image: 0 };
        engine.gradients(&run, CropView::Floats(&input), &[3]).unwrap();
        let rates = rates(engine.plan(), &state, &config.train);
        engine.update(config.train.momentum as f32, &rates).unwrap();
    }
    let bytes = std::fs::read(data("steps.safetensors")).unwrap();
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    for (index, tensor) in tensors.iter().enumerate() {
        let ways = said["tensors"].as_array().unwrap();
        let name = ways.iter().find(|way| way["to"] == tensor.name.as_str()).unwrap()["from"]
            .as_str()
            .unwrap();
        let floats = |data: &[u8]| -> Vec<f32> {
            data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
        };
        let after = floats(theirs.tensor(name).unwrap().data());
        let before = checkpoint.tensor(&tensor.name).unwrap().values;
        let ours = engine.read(Slot::Value, index).unwrap().values;
        // What the steps did, not what was there before them.
        let far =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let (moved, off) = (far(&after, &before), far(&ours, &after));
        assert!(moved > 1e-5 && off <= 1e-3 * moved + 1e-7, "{name}: moved {moved}, off by {off}");
    }
}
