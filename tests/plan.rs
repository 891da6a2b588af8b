//! The shipped configs as plans, against the numbers of the paper and of its code.

use alexnet::config::Config;
use alexnet::layers::Classes;
use alexnet::network::{Fusion, Mode, OnCpu, OnGpu, Pass, Plan, Task};
use std::path::Path;

fn plan(name: &str, devices: &[usize]) -> Plan {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
    let config = Config::read(&path, &[]).unwrap();
    Plan::new(&config, config.train.batch, Mode::Training, devices, Classes::Any).unwrap()
}

#[test]
fn the_papers_network_has_its_published_sizes() {
    let plan = plan("ilsvrc2010.toml", &[0, 1]);
    assert_eq!(plan.parameters(), 60_965_224);
    assert_eq!(plan.neurons(), 659_272);
    assert_eq!(plan.multiply_adds(), 724_406_816);
    let neurons: Vec<u64> = plan.layers.iter().map(|l| l.neurons()).filter(|&n| n > 0).collect();
    // Figure 2, but 55×55×96 where its caption has the slip 253,440.
    assert_eq!(neurons, [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]);
}

#[test]
fn only_conv3_and_the_fully_connected_layers_cross() {
    let crossings: Vec<(String, u64, u64)> = plan("ilsvrc2010.toml", &[0, 1])
        .crossings()
        .into_iter()
        .map(|c| (c.layer, c.bytes_forward, c.bytes_backward))
        .collect();
    let expected =
        [("conv3", 22_151_168), ("fc6", 4_718_592), ("fc7", 2_097_152), ("fc8", 1_048_576)];
    assert_eq!(crossings, expected.map(|(name, bytes)| (name.to_string(), bytes, bytes)));
}

#[test]
fn the_one_tower_net_has_its_published_size() {
    let plan = plan("ilsvrc2010-one-tower.toml", &[0]);
    assert_eq!(plan.parameters(), 59_798_312);
    assert!(plan.crossings().is_empty());
}

#[test]
fn two_towers_on_one_device_share_the_input_batch() {
    let one = plan("ilsvrc2010.toml", &[0, 0]);
    let two = plan("ilsvrc2010.toml", &[0, 1]);
    let batch = (128 * 224 * 224 * 3 * 4) as u64;
    assert_eq!(one.data.len(), 1);
    // A workspace for each device, too.
    let scratch = 4 * two.workspace(1) as u64;
    assert_eq!(one.memory_bytes()[0] + batch + scratch, two.memory_bytes().iter().sum::<u64>());
    assert!(one.memory_bytes()[0] < 4 << 30);
}

/// Every part of a layer that the tasks do one way, (layer, part) in order, for a pass all that it
/// takes in.
fn done<P>(fusions: &[Fusion<P>], tasks: &[Task]) -> Vec<(usize, usize)> {
    let mut done = Vec::new();
    for task in tasks {
        match *task {
            Task::Forward { layer, part, fusion } | Task::Backward { layer, part, fusion } => {
                match fusion.map(|fusion| &fusions[fusion]) {
                    Some(pass) => {
                        assert_eq!((layer, part), (pass.at, pass.part));
                        done.extend(pass.layers.clone().map(|layer| (layer, part)));
                    }
                    None => done.push((layer, part)),
                }
            }
            Task::Join { .. } | Task::Split { .. } => {}
        }
    }
    done.sort();
    done
}

/// What `fusions` take in, by name, and the part.
fn names<P>(plan: &Plan, fusions: &[Fusion<P>]) -> Vec<(String, usize)> {
    let name = |layer: usize| plan.layers[layer].name.as_str();
    let of = |f: &Fusion<P>| f.layers.clone().map(name).collect::<Vec<_>>().join("+");
    fusions.iter().map(|f| (of(f), f.part)).collect()
}

#[test]
fn a_pass_takes_the_place_of_its_layers() {
    let plan = plan("ilsvrc2010.toml", &[0, 1]);
    let layers = plan.layers.iter().enumerate();
    let parts = layers.flat_map(|(l, layer)| (0..layer.parts.len()).map(move |part| (l, part)));
    let parts: Vec<(usize, usize)> = parts.collect();
    // On the CPU normalisation forward and backward, ReLU of the other convolutions forward with
    // theirs, backward with pooling of maxima.
    let fusions = plan.fusions::<OnCpu>();
    let both = |name: &str| [(name.to_string(), 0), (name.to_string(), 1)];
    let passes = ["relu1+lrn1+pool1", "relu2+lrn2+pool2", "conv3+relu3", "conv4+relu4"]
        .into_iter()
        .chain(["conv5+relu5", "relu5+pool5"]);
    assert_eq!(names(&plan, &fusions), passes.map(both).collect::<Vec<_>>().concat());
    for fusion in &fusions {
        let name = plan.layers[fusion.layers.start].name.as_str();
        let ways = (fusion.pass.goes_forward(), fusion.pass.goes_back());
        let lowest = ["conv", "relu1", "relu2"].map(|begin| name.starts_with(begin));
        assert_eq!(ways, (lowest.contains(&true), !lowest[0]), "{name}");
    }
    assert_eq!(done(&fusions, &plan.forward(&fusions)), parts);
    assert_eq!(done(&fusions, &plan.backward(&fusions)), parts);

    // On GPUs: layers with weights and their ReLU forward only, the others both ways.
    let fusions = plan.fusions::<OnGpu>();
    let passes = ["conv1+relu1", "lrn1+pool1", "conv2+relu2", "lrn2+pool2", "conv3+relu3"]
        .into_iter()
        .chain(["conv4+relu4", "conv5+relu5", "fc6+relu6", "fc7+relu7"]);
    assert_eq!(names(&plan, &fusions), passes.map(both).collect::<Vec<_>>().concat());
    assert_eq!(done(&fusions, &plan.forward(&fusions)), parts);
    let backward = plan.backward(&fusions);
    for task in &backward {
        if let Task::Backward { layer, fusion: Some(_), .. } = task {
            assert!(["lrn1", "lrn2"].contains(&plan.layers[*layer].name.as_str()));
        }
    }
    assert_eq!(done(&fusions, &backward), parts);
}
