//! `train.distribute = "hybrid"`: each process has its own images of a batch below the first fully
//! connected layer, and its own neurons for all images from there on. What comes of it is what one
//! process makes, but for rounding.

use super::launchers;
use super::{close, ok};
use crate::common::{NETWORK, World};

/// Twelve steps, the last of two images, which are the first process's.
const TRAIN: &str = "train --set train.batch=8 --set train.epochs=1 --set schedule.rate=0.005";

/// Three fully connected layers, of 16, 13 and 3 neurons, with what lies between them; `deep.toml`
/// with two towers, `deep-1.toml` with one.
fn world() -> World {
    let world = World::new();
    let more = "[[layer]]\nname = \"fc5\"\nkind = \"fc\"\noutputs = 13\nweight_sigma = 0.1\n\
                [[layer]]\nname = \"tanh5\"\nkind = \"tanh\"\n[[layer]]\nname = \"fc4\"";
    let deep = NETWORK.replace("[[layer]]\nname = \"fc4\"", more);
    assert_ne!(deep, NETWORK);
    world.write("deep.toml", &deep);
    world.write("deep-1.toml", &deep.replace("towers = 2", "towers = 1"));
    world
}

#[test]
fn hybrid_is_data_but_for_rounding() {
    let Some(launcher) = launchers::any() else { return };
    let world = world();
    for config in ["deep-1", "deep"] {
        let train = format!("{TRAIN} --config {config}.toml");
        world.ok(&format!("{train} --run {config}"));
        for ranks in [1, 2, 3] {
            let run = format!("{config}-{ranks}");
            let hybrid = format!("{train} --set train.distribute=hybrid --run {run}");
            ok(&world, &launcher, ranks, &hybrid);
            let last = |run: &str| world.path(&format!("{run}/last.safetensors"));
            close(&last(&run), &last(config));
        }
    }
}
