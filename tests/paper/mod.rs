//! Every kernel of the paper's network on one of two towers, with its constants and its launch: for
//! compiling it with the real compiler, and for counting its memory accesses on the stand-in.
#![allow(dead_code)] // each test binary uses its part

use alexnet::gpu::compile::Constant;
use alexnet::gpu::kernels::KernelSource;
use alexnet::gpu::product::{ProductShape, Tiling};
use alexnet::kernel_source;
use alexnet::layers::window::cuda::windows_depth;

/// One compiled form of a kernel.
pub struct Variant {
    pub label: String,
    pub source: KernelSource,
    pub kernel: &'static str,
    pub constants: Vec<Constant>,
    pub grid: (usize, usize, usize),
    pub block: (usize, usize, usize),
    /// Lengths of the buffers it takes, in order.
    pub buffers: Vec<usize>,
}

impl Variant {
    pub fn threads(&self) -> usize {
        self.block.0 * self.block.1 * self.block.2
    }
}

fn constants(pairs: &[(&'static str, usize)]) -> Vec<Constant> {
    pairs.iter().map(|(name, value)| (*name, value.to_string())).collect()
}

/// A layer that is a product: name, input and output (side, channels), kernel side, stride, padding.
type Layer = (&'static str, [usize; 2], [usize; 2], usize, usize, usize);

/// The paper's layers with weights, each on one tower (fc8: on the first), and one local layer of the
/// CIFAR-10 nets.
const LAYERS: [Layer; 9] = [
    ("conv1", [224, 3], [55, 48], 11, 4, 0),
    ("conv2", [27, 48], [27, 128], 5, 1, 2),
    ("conv3", [13, 256], [13, 192], 3, 1, 1),
    ("conv4", [13, 192], [13, 192], 3, 1, 1),
    ("conv5", [13, 192], [13, 128], 3, 1, 1),
    ("fc6", [1, 9216], [1, 2048], 1, 1, 0),
    ("fc7", [1, 4096], [1, 2048], 1, 1, 0),
    ("fc8", [1, 4096], [1, 1000], 1, 1, 0),
    ("local3", [6, 64], [6, 32], 3, 1, 1),
];

/// The products for a GPU with 108 multiprocessors (A100), tiled as for a batch of 128 whatever
/// `images` is.
pub fn products(images: usize) -> Vec<Variant> {
    let mut all = Vec::new();
    for (name, [side, channels], [out_side, out_channels], kernel, stride, pad) in LAYERS {
        let local = name.starts_with("local");
        let (pixels, out_pixels) = (images * side * side, images * out_side * out_side);
        let places = out_side * out_side;
        let depth = windows_depth([kernel, kernel], [side, channels], 1, stride, pad);
        let weights = kernel * kernel * channels * out_channels * if local { places } else { 1 };
        let bias = out_channels * if local { places } else { 1 };
        let (x, y) = (pixels * channels, out_pixels * out_channels);
        let shape = constants(&[
            ("IMAGES", images),
            ("IN_H", side),
            ("IN_W", side),
            ("IN_C", channels),
            ("OUT_H", out_side),
            ("OUT_W", out_side),
            ("OUT_C", out_channels),
            ("KERNEL_H", kernel),
            ("KERNEL_W", kernel),
            ("STRIDE", stride),
            ("PAD_TOP", pad),
            ("PAD_LEFT", pad),
            ("GROUPS", 1),
            ("LOCAL", local.into()),
            ("RELU", 1),
        ]);
        // Lines, columns and depth of a product, for any number of images.
        let count = if local { places } else { 1 };
        let product = |lines, columns, depth| ProductShape {
            lines,
            columns,
            depth,
            count,
            wide: true,
            may_split: !local,
        };
        let (places_in, places_out) = if local { (1, 1) } else { (side * side, places) };
        let mut add = |source,
                       kernel,
                       product: &dyn Fn(usize) -> ProductShape,
                       inputs: &[usize],
                       out: usize| {
            let plan = Tiling::choose(product(128), 108);
            let plan = Tiling::new(product(images), plan.tile(), plan.splits);
            let mut constants = shape.clone();
            constants.extend(plan.constants());
            let mut buffers = inputs.to_vec();
            buffers.push(out * plan.splits);
            all.push(Variant {
                label: format!("{name} {}", kernel_label(kernel)),
                source,
                kernel,
                constants,
                grid: plan.grid(),
                block: plan.block(),
                buffers,
            });
        };
        add(
            kernel_source!("conv_forward.cu"),
            "conv_forward",
            &|images| product(images * places_out, out_channels, depth),
            &[x, weights, bias],
            y,
        );
        if name != "conv1" {
            let taps = kernel * kernel * out_channels;
            add(
                kernel_source!("conv_backward_input.cu"),
                "conv_backward_input",
                &|images| product(images * places_in, channels, taps),
                &[y, weights],
                x,
            );
        }
        add(
            kernel_source!("conv_backward_weights.cu"),
            "conv_backward_weights",
            &|images| product(depth, out_channels, images * places_out),
            &[x, y],
            weights,
        );
    }
    all
}

fn kernel_label(kernel: &str) -> &str {
    match kernel {
        "conv_forward" => "forward",
        "conv_backward_input" => "backward_input",
        _ => "backward_weights",
    }
}

/// All kernels: the products, and the rest at one typical shape each.
pub fn variants(images: usize) -> Vec<Variant> {
    let mut all = products(images);
    let mut add =
        |label: &str, source, kernel, constants: &[Constant], count: usize, buffers: &[usize]| {
            all.push(Variant {
                label: label.into(),
                source,
                kernel,
                constants: constants.to_vec(),
                grid: (count.div_ceil(256), 1, 1),
                block: (256, 1, 1),
                buffers: buffers.to_vec(),
            });
        };
    let maps = images * 55 * 55 * 48;
    let mut lrn = constants(&[
        ("IMAGES", images),
        ("H", 55),
        ("W", 55),
        ("C", 48),
        ("SIZE", 5),
        ("WITHIN", 0),
    ]);
    lrn.extend([("K", "2.0"), ("ALPHA", "1e-4"), ("BETA", "0.75")].map(|(n, v)| (n, v.into())));
    add("lrn1 forward", kernel_source!("lrn.cu"), "lrn_forward", &lrn, maps, &[maps; 3]);
    add("lrn1 backward", kernel_source!("lrn.cu"), "lrn_backward", &lrn, maps, &[maps; 4]);
    let pooled = images * 27 * 27 * 48;
    let pool = constants(&[
        ("IMAGES", images),
        ("IN_H", 55),
        ("IN_W", 55),
        ("C", 48),
        ("OUT_H", 27),
        ("OUT_W", 27),
        ("SIZE", 3),
        ("STRIDE", 2),
    ]);
    add(
        "pool1 forward",
        kernel_source!("pool.cu"),
        "max_forward",
        &pool,
        pooled,
        &[maps, pooled, pooled],
    );
    add(
        "pool1 backward",
        kernel_source!("pool.cu"),
        "max_backward",
        &pool,
        maps,
        &[pooled, pooled, maps],
    );
    add(
        "average pooling forward",
        kernel_source!("pool.cu"),
        "average_forward",
        &pool,
        pooled,
        &[maps, pooled],
    );
    add(
        "average pooling backward",
        kernel_source!("pool.cu"),
        "average_backward",
        &pool,
        maps,
        &[pooled, maps],
    );
    let count = constants(&[("COUNT", maps)]);
    for (kernel, buffers) in [
        ("relu_forward", 2),
        ("relu_backward", 3),
        ("tanh_forward", 2),
        ("tanh_backward", 3),
        ("update", 3),
    ] {
        let source = match kernel {
            "update" => kernel_source!("update.cu"),
            _ => kernel_source!("activation.cu"),
        };
        add(kernel, source, kernel, &count, maps, &vec![maps; buffers]);
    }
    let mut dropout = constants(&[
        ("IMAGES", images),
        ("PIXELS", 1),
        ("C", 2048),
        ("JOINED_C", 4096),
        ("CHANNEL", 2048),
    ]);
    dropout.push(("PURPOSE", "1u".into()));
    add(
        "dropout",
        kernel_source!("dropout.cu"),
        "dropout",
        &dropout,
        images * 2048,
        &[images * 2048; 2],
    );
    let softmax = constants(&[("IMAGES", images), ("CLASSES", 1000), ("TOP", 5), ("TRAINING", 1)]);
    add(
        "softmax",
        kernel_source!("softmax.cu"),
        "softmax",
        &softmax,
        images * 256,
        &[images * 1000; 3],
    );
    add(
        "sum of scores",
        kernel_source!("softmax.cu"),
        "sum_scores",
        &softmax,
        32,
        &[images * 3, 3],
    );
    let towers =
        constants(&[("PIXELS", images * 169), ("C", 128), ("JOINED_C", 256), ("CHANNEL", 128)]);
    let (part, joined) = (images * 169 * 128, images * 169 * 256);
    add("join", kernel_source!("towers.cu"), "join", &towers, part, &[part, joined]);
    add("take", kernel_source!("towers.cu"), "take", &towers, part, &[joined, part]);
    add("take_add", kernel_source!("towers.cu"), "take_add", &towers, part, &[joined, part]);
    let input = constants(&[("IMAGES", images), ("H", 224), ("W", 224), ("C", 3)]);
    let pixels = images * 224 * 224 * 3;
    add(
        "input",
        kernel_source!("input.cu"),
        "input",
        &input,
        pixels,
        &[pixels, 224 * 224 * 3, images * 4, pixels],
    );
    let sums = constants(&[("ROWS", images * 3025), ("COLUMNS", 48), ("SPLITS", 128)]);
    add("column sums", kernel_source!("reduce.cu"), "column_sums", &sums, 48, &[maps, 48 * 128]);
    add(
        "reduce splits",
        kernel_source!("reduce.cu"),
        "reduce_splits",
        &sums,
        48,
        &[48 * 128, 48, 48],
    );
    all
}
