//! One table of layer cases, with three uses: the CPU against a reference in f64 and its
//! differences (`tests/layers.rs`), a GPU's launches against the CPU (`tests/cuda_cases.rs`), and
//! what each pass takes on either (`benches/layers.rs`).
//!
//! To add a layer kind, touch two places: rows in [`all`] here, and a function in [`reference`].
//! What is done with a case stands with those who use the table, never here.

// Each test or benchmark that includes this table uses a part of it.
#![allow(dead_code)]

pub mod reference;

use alexnet::layers::conv::CpuOptions;
use alexnet::layers::{KINDS, Layer, Place, Run, Shape};
use std::fmt;
use std::ops::Range;
use toml::Table;

/// The layer's name in every case: the stream of dropout's random numbers depends on it.
pub const NAME: &str = "case";

/// What a batch of a case is part of: the constants that random numbers depend on.
pub const SEED: u64 = 0x0123_4567_89ab_cdef;
pub const STEP: u32 = 7;
pub const FIRST_IMAGE: u32 = 5;

/// A layer on one tower and what it is fed.
#[derive(Clone, Debug)]
pub struct Case {
    pub kind: &'static str,
    /// Its keys, as in a `[[layer]]`.
    pub settings: Table,
    /// Height, width, channels of its input on this tower.
    pub input: [usize; 3],
    pub batch: usize,
    /// Which of the layer's output channels, counted over all towers, this tower has.
    pub channels: Range<usize>,
    pub all_channels: usize,
    pub training: bool,
    pub values: Values,
}

/// What the input looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Uniform from −1 to 1.
    Uniform,
    /// Of −1, −½, 0, ½ and 1: many equal ones.
    Steps,
    /// Uniform from 490 to 510: whose exponentials overflow.
    Large,
}

/// A case in training on the only tower: `settings` as they stand in an inline TOML table.
pub fn case(kind: &'static str, settings: &str, input: [usize; 3], batch: usize) -> Case {
    let text = format!("settings = {{ {settings} }}");
    let mut table: Table = text.parse().unwrap_or_else(|e| panic!("{settings}: {e}"));
    let Some(toml::Value::Table(settings)) = table.remove("settings") else { unreachable!() };
    let outputs = settings.get("kernels").or(settings.get("outputs"));
    let outputs = outputs.map_or(input[2], |n| n.as_integer().expect("a number") as usize);
    Case {
        kind,
        settings,
        input,
        batch,
        channels: 0..outputs,
        all_channels: outputs,
        training: true,
        values: Values::Uniform,
    }
}

impl Case {
    /// The same on a tower that has `channels` of `all` output channels.
    pub fn tower(self, channels: Range<usize>, all: usize) -> Case {
        Case { channels, all_channels: all, ..self }
    }
    pub fn evaluation(self) -> Case {
        Case { training: false, ..self }
    }
    pub fn values(self, values: Values) -> Case {
        Case { values, ..self }
    }

    /// The layer, planned. Panics with the plan's complaint.
    pub fn layer(&self) -> Box<dyn Layer> {
        let kind = KINDS.iter().find(|k| k.name == self.kind).expect("a kind's name");
        let [height, width, channels] = self.input;
        let place = Place {
            name: NAME,
            input: Shape { height, width, channels },
            channels: self.channels.clone(),
            all_channels: self.all_channels,
            cpu: &CpuOptions::default(),
        };
        let settings = (kind.read)(&self.settings).unwrap_or_else(|e| panic!("{self}: {e}"));
        settings.plan(&place).unwrap_or_else(|e| panic!("{self}: {e}"))
    }

    pub fn run(&self) -> Run {
        Run {
            batch: self.batch,
            training: self.training,
            seed: SEED,
            step: STEP,
            first_image: FIRST_IMAGE,
        }
    }

    /// The input [batch, height, width, channels].
    pub fn images(&self) -> Vec<f32> {
        let n = self.batch * self.input.iter().product::<usize>();
        let of = |v: f32| match self.values {
            Values::Uniform => v,
            Values::Steps => (v * 2.5).round().clamp(-2.0, 2.0) / 2.0,
            Values::Large => 500.0 + 10.0 * v,
        };
        numbers(1, n).into_iter().map(of).collect()
    }

    /// A label for each image, for layers that need them.
    pub fn labels(&self, classes: usize) -> Vec<u32> {
        (0..self.batch).map(|image| (image * 7 % classes) as u32).collect()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.settings.to_string().trim().replace('\n', ", ");
        let (input, batch) = (self.input, self.batch);
        write!(f, "{} {{{settings}}} on {input:?} × {batch}", self.kind)?;
        write!(f, ", channels {:?} of {}", self.channels, self.all_channels)?;
        write!(f, ", {:?}, training {}", self.values, self.training)
    }
}

/// `n` numbers from −1 to 1, the same for the same `seed`: splitmix64, 24 bits of each word.
pub fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0xd134_2543_de82_ef95);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..n).map(|_| (next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// The paper's layers with their names, each on one of two towers (fc8 on the first) as in
/// `configs/ilsvrc2010.toml`: shapes to measure, too large for a reference.
pub fn paper(batch: usize) -> Vec<(&'static str, Case)> {
    let layer = |kind, settings, input| case(kind, settings, input, batch);
    // A tower has the first half of a layer's channels.
    let half = |kind, settings, input| {
        let whole = layer(kind, settings, input);
        let channels = whole.all_channels;
        whole.tower(0..channels / 2, channels)
    };
    let conv1 = "kernels = 96, size = 11, stride = 4, padding = [0, 3, 0, 3]";
    let conv2 = "kernels = 256, size = 5, padding = [2, 2, 2, 2]";
    let conv3 = "kernels = 384, size = 3, padding = [1, 1, 1, 1]";
    let conv5 = "kernels = 256, size = 3, padding = [1, 1, 1, 1]";
    let overlapping = "size = 3, stride = 2";
    vec![
        ("conv1", half("conv", conv1, [224, 224, 3])),
        ("relu1", layer("relu", "", [55, 55, 48])),
        ("lrn1", layer("lrn", "", [55, 55, 48])),
        ("pool1", layer("max-pool", overlapping, [55, 55, 48])),
        ("conv2", half("conv", conv2, [27, 27, 48])),
        ("relu2", layer("relu", "", [27, 27, 128])),
        ("lrn2", layer("lrn", "", [27, 27, 128])),
        ("pool2", layer("max-pool", overlapping, [27, 27, 128])),
        ("conv3", half("conv", conv3, [13, 13, 256])),
        ("relu3", layer("relu", "", [13, 13, 192])),
        ("conv4", half("conv", conv3, [13, 13, 192])),
        ("relu4", layer("relu", "", [13, 13, 192])),
        ("conv5", half("conv", conv5, [13, 13, 192])),
        ("relu5", layer("relu", "", [13, 13, 128])),
        ("pool5", layer("max-pool", overlapping, [13, 13, 128])),
        ("fc6", half("fc", "outputs = 4096", [6, 6, 256])),
        ("relu6", layer("relu", "", [1, 1, 2048])),
        ("drop6", layer("dropout", "", [1, 1, 2048]).tower(0..2048, 4096)),
        ("fc7", half("fc", "outputs = 4096", [1, 1, 4096])),
        ("relu7", layer("relu", "", [1, 1, 2048])),
        ("drop7", layer("dropout", "", [1, 1, 2048]).tower(0..2048, 4096)),
        ("fc8", layer("fc", "outputs = 1000", [1, 1, 4096])),
        ("softmax", layer("softmax", "", [1, 1, 1000])),
    ]
}

/// The table.
pub fn all() -> Vec<Case> {
    use Values::{Large, Steps};
    let mut cases = vec![
        // One channel, one pixel, one kernel.
        case("conv", "kernels = 1, size = 1", [1, 1, 1], 1),
        case("conv", "kernels = 5, size = 1", [3, 4, 7], 2),
        // Windows over every edge, each padding side of its own, remainders at the far edges.
        case("conv", "kernels = 6, size = 3, padding = [1, 1, 1, 1]", [5, 4, 3], 2),
        case("conv", "kernels = 3, size = 4, padding = [3, 1, 0, 2]", [5, 7, 2], 2),
        case("conv", "kernels = 3, size = 4, stride = 3, padding = [1, 0, 3, 2]", [7, 9, 2], 2),
        case("conv", "kernels = 2, size = 5, stride = 2, padding = [2, 2, 2, 2]", [2, 3, 1], 3),
        case("conv", "kernels = 4, size = 3, stride = 2", [6, 8, 3], 2),
        // Strides larger than the kernel: input that no window sees.
        case("conv", "kernels = 3, size = 2, stride = 3", [7, 9, 2], 2),
        case("conv", "kernels = 9, size = 1, stride = 2", [4, 5, 3], 2),
        // Kernels just below, at and above the widths of vectors.
        case("conv", "kernels = 7, size = 2", [4, 3, 5], 2),
        case("conv", "kernels = 17, size = 3, padding = [1, 1, 1, 1]", [3, 3, 3], 2),
        case("conv", "kernels = 33, size = 1", [2, 3, 4], 2),
        case("conv", "kernels = 16, size = 3", [3, 3, 8], 1),
        // Groups, and a tower's share of the kernels.
        case("conv", "kernels = 6, size = 3, groups = 2, padding = [1, 0, 0, 1]", [4, 5, 4], 2),
        case("conv", "kernels = 9, size = 2, groups = 3, stride = 2", [5, 4, 6], 2),
        case("conv", "kernels = 8, size = 3, groups = 2", [4, 4, 2], 2).tower(4..8, 8),
        case("conv", "kernels = 5, size = 3", [4, 4, 2], 2).tower(2..5, 5),
        // The paper's conv1: the last windows hang over the right and bottom edge.
        case("conv", "kernels = 4, size = 11, stride = 4, padding = [0, 3, 0, 3]", [20, 20, 3], 1),
        case("conv", "kernels = 3, size = 11, stride = 4, padding = [2, 2, 2, 2]", [16, 20, 3], 1),
        // Batches that are cut into parts unevenly.
        case("conv", "kernels = 3, size = 2", [3, 3, 2], 17),
        case("conv", "kernels = 3, size = 2", [3, 2, 2], 33),
        // More patches than a block of them holds, with groups.
        case("conv", "kernels = 3, size = 5, padding = [2, 2, 2, 2]", [19, 20, 32], 1),
        case("conv", "kernels = 4, size = 5, groups = 2, padding = [2, 2, 2, 2]", [23, 25, 48], 1),
        // Winograd's way: channels by 16, kernels of 3 and 5. One tile, edges that cut tiles,
        // several panels of columns and a narrower one, groups, blocks of images of different
        // sizes.
        case("conv", "kernels = 16, size = 3, padding = [1, 1, 1, 1]", [4, 4, 16], 1),
        case("conv", "kernels = 16, size = 3, padding = [1, 1, 1, 1]", [4, 4, 16], 35),
        case("conv", "kernels = 48, size = 3, padding = [1, 1, 1, 1]", [13, 6, 16], 2),
        case("conv", "kernels = 112, size = 3, padding = [2, 0, 0, 1]", [5, 6, 16], 2),
        case("conv", "kernels = 16, size = 3", [7, 10, 48], 2),
        case("conv", "kernels = 64, size = 3, groups = 2, padding = [1, 1, 1, 1]", [6, 5, 32], 2),
        // Tiles of four and five: both in both directions, several images in a block and one over,
        // each beside one size only, the last hanging over the edge.
        case("conv", "kernels = 16, size = 3, padding = [1, 1, 1, 1]", [13, 13, 16], 3),
        case("conv", "kernels = 16, size = 3, padding = [1, 1, 1, 1]", [13, 13, 16], 3)
            .evaluation(),
        case("conv", "kernels = 32, size = 3, groups = 2, padding = [1, 1, 1, 1]", [13, 9, 32], 2),
        case("conv", "kernels = 16, size = 3, padding = [1, 1, 1, 1]", [5, 5, 16], 33),
        case("conv", "kernels = 16, size = 3, padding = [0, 2, 1, 1]", [5, 9, 16], 2),
        case("conv", "kernels = 64, size = 3, padding = [2, 0, 2, 0]", [13, 4, 16], 2),
        case("conv", "kernels = 16, size = 3, padding = [1, 1, 1, 1]", [14, 18, 16], 1),
        case("conv", "kernels = 32, size = 5, padding = [2, 2, 2, 2]", [9, 10, 16], 2),
        case("conv", "kernels = 32, size = 5, groups = 2, padding = [0, 4, 3, 1]", [8, 9, 64], 2),
        case("conv", "kernels = 16, size = 5, padding = [2, 2, 2, 2]", [27, 9, 16], 1),
        // Strides folded away: the paper's conv1, a kernel that a fold fills, grey images.
        case("conv", "kernels = 16, size = 11, stride = 4, padding = [0, 3, 0, 3]", [24, 32, 3], 2),
        case("conv", "kernels = 16, size = 11, stride = 4, padding = [2, 2, 2, 2]", [27, 40, 3], 1),
        case("conv", "kernels = 16, size = 6, stride = 2, padding = [3, 1, 2, 5]", [15, 18, 4], 2),
        case("conv", "kernels = 16, size = 17, stride = 4, padding = [1, 1, 1, 1]", [32, 33, 1], 1),
        case("local", "kernels = 1, size = 1", [1, 1, 1], 1),
        case("local", "kernels = 5, size = 1", [2, 3, 3], 2),
        case("local", "kernels = 3, size = 3, padding = [1, 1, 1, 1]", [4, 3, 2], 2),
        case("local", "kernels = 2, size = 4, stride = 2, padding = [3, 1, 0, 2]", [5, 7, 2], 3),
        case("local", "kernels = 3, size = 2, stride = 3", [7, 6, 2], 2),
        case("local", "kernels = 6, size = 2, groups = 2, padding = [0, 1, 1, 0]", [3, 4, 4], 2),
        case("local", "kernels = 6, size = 3, groups = 3, stride = 2", [5, 5, 3], 2),
        case("local", "kernels = 7, size = 2", [3, 3, 2], 2).tower(3..7, 7),
        case("local", "kernels = 2, size = 2", [3, 3, 1], 17),
        case("local", "kernels = 9, size = 2", [2, 3, 1], 33),
        case("fc", "outputs = 1", [1, 1, 1], 1),
        case("fc", "outputs = 7", [1, 1, 5], 3),
        // On maps: the outside world's order of the inputs is channel, row, column.
        case("fc", "outputs = 5", [3, 4, 2], 2),
        case("fc", "outputs = 17", [2, 3, 5], 17),
        case("fc", "outputs = 9", [2, 2, 3], 2).tower(4..9, 9),
        // Batches that our own kernel takes: whole vectors, remainders of panels, pieces and tasks.
        case("fc", "outputs = 16", [1, 1, 16], 16),
        case("fc", "outputs = 208", [2, 2, 4], 17),
        case("fc", "outputs = 32", [3, 3, 32], 33),
        case("fc", "outputs = 272", [1, 1, 208], 16),
        // More inputs and outputs than one task takes.
        case("fc", "outputs = 131", [5, 5, 6], 2),
        case("fc", "outputs = 3", [7, 7, 6], 33),
        case("fc", "outputs = 257", [1, 2, 2], 2),
        // The paper's constants, with activations that they barely touch.
        case("lrn", "", [2, 3, 7], 2),
        case("lrn", "alpha = 0.5", [2, 3, 7], 2),
        // As many maps as vectors have lanes, one less, one more.
        case("lrn", "alpha = 0.5", [2, 3, 16], 2),
        case("lrn", "alpha = 0.9, n = 7", [1, 2, 15], 2),
        case("lrn", "alpha = 0.9, n = 3", [2, 2, 33], 1),
        case("lrn", "alpha = 1.0, k = 1", [1, 1, 1], 1),
        // Fewer maps than n, and as many.
        case("lrn", "alpha = 0.7, n = 5", [2, 2, 2], 2),
        case("lrn", "alpha = 0.7, n = 9", [2, 2, 4], 2),
        case("lrn", "alpha = 0.7, n = 5", [1, 2, 5], 2),
        case("lrn", "alpha = 0.6, n = 1", [3, 2, 4], 2),
        case("lrn", "alpha = 0.6, n = 3, beta = 0.5, k = 1.5", [3, 2, 9], 2),
        case("lrn", "alpha = 0.8, n = 3, beta = 1.3", [3, 2, 6], 2),
        case("lrn", "alpha = 1.0, n = 5, divide_alpha = true", [2, 3, 11], 2),
        case("lrn", "alpha = 0.3, n = 3, region = \"within-map\"", [4, 5, 3], 2),
        case("lrn", "alpha = 0.3, n = 5, region = \"within-map\"", [3, 2, 2], 2),
        case("lrn", "alpha = 1.0, n = 1, region = \"within-map\"", [3, 3, 1], 2),
        case(
            "lrn",
            "alpha = 1.0, n = 3, region = \"within-map\", divide_alpha = true",
            [5, 3, 2],
            2,
        ),
        case("lrn", "alpha = 0.2, n = 7, region = \"within-map\", beta = 0.6", [9, 8, 2], 1),
        case("softmax", "", [1, 1, 2], 1),
        case("softmax", "", [1, 1, 10], 4),
        case("softmax", "", [1, 1, 17], 33),
        case("softmax", "", [1, 1, 12], 5).values(Large),
        case("softmax", "", [1, 1, 6], 3).values(Steps),
        case("squared-error", "", [1, 1, 1], 1),
        case("squared-error", "", [2, 3, 5], 4),
        case("squared-error", "", [1, 1, 300], 33),
        case("relu", "", [1, 1, 1], 1),
        case("relu", "", [3, 5, 7], 3),
        case("relu", "", [3, 5, 7], 3).values(Steps),
        case("relu", "", [75, 74, 3], 1),
        case("tanh", "", [3, 5, 7], 3),
        case("tanh", "", [75, 74, 3], 1),
        case("tanh", "", [1, 2, 3], 2).values(Large),
    ];
    for kind in ["max-pool", "average-pool"] {
        cases.extend([
            case(kind, "size = 1, stride = 1", [3, 4, 3], 2),
            // The paper's: overlapping; windows that fit, that hang over one edge, over both.
            case(kind, "size = 3, stride = 2", [7, 7, 3], 2),
            case(kind, "size = 3, stride = 2", [8, 7, 2], 2),
            case(kind, "size = 3, stride = 2", [6, 8, 5], 2),
            case(kind, "size = 3, stride = 2", [4, 5, 17], 3),
            case(kind, "size = 2, stride = 2", [5, 4, 3], 2),
            // Gaps between windows; the last begins inside the map or is left out.
            case(kind, "size = 2, stride = 3", [7, 9, 2], 2),
            case(kind, "size = 1, stride = 2", [5, 4, 2], 2),
            case(kind, "size = 2, stride = 5", [5, 6, 1], 2),
            // Rounded down: what no window sees at the edge; plain pooling (paper section 3.4).
            case(kind, "size = 2, stride = 2, rounding = \"down\"", [5, 4, 3], 2),
            case(kind, "size = 3, stride = 2, rounding = \"down\"", [8, 6, 5], 2),
            case(kind, "size = 2, stride = 5, rounding = \"down\"", [6, 7, 1], 2),
            // Windows as large as the map.
            case(kind, "size = 2, stride = 1", [2, 3, 2], 2),
            case(kind, "size = 1, stride = 3", [1, 1, 1], 1),
            case(kind, "size = 3, stride = 1", [4, 4, 3], 17),
            // Equal values: a maximum's gradient goes to the first.
            case(kind, "size = 3, stride = 2", [6, 8, 3], 2).values(Steps),
            case(kind, "size = 3, stride = 1", [5, 4, 2], 2).values(Steps),
        ]);
    }
    let trained = "rate = 0.3, scale = \"train\"";
    for rate in ["", "rate = 0.3", "rate = 0.0", "rate = 0.875", trained] {
        cases.extend([
            case("dropout", rate, [3, 4, 5], 3),
            case("dropout", rate, [1, 1, 19], 3),
            // The second tower's channels: blocks of four random words lie across the border.
            case("dropout", rate, [2, 3, 5], 3).tower(5..10, 10),
            case("dropout", rate, [1, 1, 16], 2).tower(15..31, 31),
            case("dropout", rate, [3, 2, 2], 2).tower(3..5, 5),
            case("dropout", rate, [1, 1, 140], 2).tower(2..142, 150),
            case("dropout", rate, [2, 3, 5], 3).evaluation(),
        ]);
    }
    cases
}
