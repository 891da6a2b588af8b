//! Every kernel of the paper's network on one of two towers, with its constants and its launch: for
//! compiling it with the real compiler, and for counting its memory accesses on the stand-in.
#![allow(dead_code)] // each test binary uses its part

use alexnet::gpu::compile::Constant;
use alexnet::gpu::kernels::KernelSource;
use alexnet::gpu::precision::Precision;
use alexnet::gpu::product::{ProductShape, Tiling};
use alexnet::kernel_source;
use alexnet::layers::window::cuda::windows_depth;

/// One compiled form of a kernel.
#[derive(Clone)]
pub struct Variant {
    pub label: String,
    pub source: KernelSource,
    pub kernel: &'static str,
    pub constants: Vec<Constant>,
    pub grid: (usize, usize, usize),
    pub block: (usize, usize, usize),
    /// Lengths of the buffers it takes, in order; the last is the result, or all of its parts.
    pub buffers: Vec<usize>,
    /// Bytes of shared memory that a launch asks for.
    pub shared: usize,
    /// Parts of the result, which a second kernel adds up where there are several.
    pub splits: usize,
}

impl Variant {
    /// Whether it needs tensor cores, which compute capability 8.0 begins to have for TF32 and
    /// bfloat16.
    pub fn on_tensor_cores(&self) -> bool {
        let tensor = |name| name == "TILE_TENSOR" || name == "BF16";
        self.constants.iter().any(|(name, value)| tensor(*name) && value == "1")
    }

    pub fn threads(&self) -> usize {
        self.block.0 * self.block.1 * self.block.2
    }
}

fn constants(pairs: &[(&'static str, usize)]) -> Vec<Constant> {
    pairs.iter().map(|(name, value)| (*name, value.to_string())).collect()
}

/// A layer that is a product: name, input and output (side, channels), kernel side, stride,
/// padding.
type Layer = (&'static str, [usize; 2], [usize; 2], usize, usize, usize);

/// The paper's layers with weights, each on one tower (fc8: on the first), and one local layer of
/// the CIFAR-10 nets.
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

/// A layer's products for batches of `images`.
struct Products<'a> {
    layer: Layer,
    images: usize,
    precision: Precision,
    /// The ways in which a product is shared out, of its shape for a batch of 128.
    ways: &'a dyn Fn(ProductShape) -> Vec<Tiling>,
}

impl Products<'_> {
    fn is_local(&self) -> bool {
        self.layer.0.starts_with("local")
    }

    /// Channels of the input as they are stored: colours in bfloat16 as 4.
    fn stored(&self) -> usize {
        let [_, channels] = self.layer.1;
        channels.next_multiple_of(self.precision.pack().min(4))
    }

    /// The constants of `kernels/patches.cuh`, with ReLU.
    fn shape(&self) -> Vec<Constant> {
        let (_, [side, real], [out_side, out_channels], kernel, stride, pad) = self.layer;
        constants(&[
            ("IMAGES", self.images),
            ("IN_H", side),
            ("IN_W", side),
            ("IN_C", self.stored()),
            ("REAL_C", real),
            ("OUT_H", out_side),
            ("OUT_W", out_side),
            ("OUT_C", out_channels),
            ("KERNEL_H", kernel),
            ("KERNEL_W", kernel),
            ("STRIDE", stride),
            ("PAD_TOP", pad),
            ("PAD_LEFT", pad),
            ("GROUPS", 1),
            ("LOCAL", self.is_local().into()),
            ("RELU", 1),
        ])
    }

    /// The kernel `name`, each way, with its product as a function of the batch, the lengths of its
    /// inputs and of its result.
    fn variant(
        &self,
        (name, source): (&'static str, KernelSource),
        product: impl Fn(usize) -> ProductShape,
        inputs: &[usize],
        out: usize,
    ) -> Vec<Variant> {
        let variant = |way: Tiling| {
            let tiling = Tiling::new(product(self.images), way.tile(), way.splits);
            let mut constants = self.shape();
            constants.extend(tiling.constants());
            Variant {
                label: format!("{} {}", self.layer.0, name.trim_start_matches("conv_")),
                source,
                kernel: name,
                constants,
                grid: tiling.grid(),
                block: tiling.block(),
                shared: tiling.shared(),
                buffers: [inputs, &[out * tiling.splits]].concat(),
                splits: tiling.splits,
            }
        };
        (self.ways)(product(128)).into_iter().map(variant).collect()
    }

    /// Forward, to the input (not of conv1, which has no layer below) and to the weights.
    fn variants(&self) -> Vec<Variant> {
        let (name, [side, channels], [out_side, out_channels], kernel, stride, pad) = self.layer;
        let (local, images, stored) = (self.is_local(), self.images, self.stored());
        let places = out_side * out_side;
        let depth =
            windows_depth([kernel, kernel], [side, stored], 1, stride, pad, self.precision.pack());
        let bias = out_channels * if local { places } else { 1 };
        let weights = kernel * kernel * channels * bias;
        let (x, y) = (images * side * side * stored, images * places * out_channels);
        let product = |lines, columns, depth| ProductShape {
            lines,
            columns,
            depth,
            count: if local { places } else { 1 },
            wide: true,
            may_split: !local,
            precision: self.precision,
        };
        let (places_in, places_out) = if local { (1, 1) } else { (side * side, places) };
        let taps = kernel * kernel * out_channels;
        let forward = self.variant(
            ("conv_forward", kernel_source!("conv_forward.cu")),
            |images| product(images * places_out, out_channels, depth),
            &[x, weights / channels * stored, bias],
            y,
        );
        let input = self.variant(
            ("conv_backward_input", kernel_source!("conv_backward_input.cu")),
            |images| product(images * places_in, channels, taps),
            &[y, weights, x],
            x,
        );
        let weights = self.variant(
            ("conv_backward_weights", kernel_source!("conv_backward_weights.cu")),
            |images| product(depth, out_channels, images * places_out),
            &[x, y],
            weights,
        );
        let input = if name == "conv1" { Vec::new() } else { input };
        [forward, input, weights].concat()
    }
}

/// The products for a GPU with 108 multiprocessors (A100), tiled as for a batch of 128 whatever
/// `images` is.
pub fn products(images: usize, precision: Precision) -> Vec<Variant> {
    products_each(images, precision, &|product| vec![Tiling::choose(product, 108)])
}

/// The products in each of these ways.
pub fn products_each(
    images: usize,
    precision: Precision,
    ways: &dyn Fn(ProductShape) -> Vec<Tiling>,
) -> Vec<Variant> {
    let of = |layer| Products { layer, images, precision, ways }.variants();
    LAYERS.into_iter().flat_map(of).collect()
}

/// A kernel with one thread for each of `count` elements.
fn each(
    label: &str,
    (kernel, source): (&'static str, KernelSource),
    constants: &[Constant],
    count: usize,
    buffers: &[usize],
) -> Variant {
    Variant {
        label: label.into(),
        source,
        kernel,
        constants: constants.to_vec(),
        grid: (count.div_ceil(256), 1, 1),
        block: (256, 1, 1),
        buffers: buffers.to_vec(),
        shared: 0,
        splits: 1,
    }
}

/// All kernels: the products, and the rest at one typical shape each.
pub fn variants(images: usize) -> Vec<Variant> {
    let mut all = products(images, Precision::F32);
    for precision in [Precision::Tf32, Precision::Bf16] {
        for mut variant in products(images, precision) {
            variant.label += &format!(", {}", precision.name());
            all.push(variant);
        }
    }
    all.extend(normalisation(images));
    all.extend(pooling(images));
    all.extend(normalised_pooling(images));
    all.extend(pointwise(images));
    all.extend(loss(images));
    all.extend(copies(images));
    all.extend(sums(images));
    all
}

/// lrn1: 55 x 55 pixels of 48 maps.
fn normalisation(images: usize) -> Vec<Variant> {
    let maps = images * 55 * 55 * 48;
    let mut all = constants(&[
        ("IMAGES", images),
        ("HEIGHT", 55),
        ("WIDTH", 55),
        ("CHANNELS", 48),
        ("SIZE", 5),
        ("WITHIN", 0),
    ]);
    all.extend(
        [("OFFSET", "2.0"), ("ALPHA", "1e-4"), ("BETA", "0.75")].map(|(n, v)| (n, v.into())),
    );
    let lrn = kernel_source!("lrn.cu");
    vec![
        each("lrn1 forward", ("lrn_forward", lrn), &all, maps, &[maps; 3]),
        each("lrn1 backward", ("lrn_backward", lrn), &all, maps, &[maps; 4]),
    ]
}

/// pool1's windows.
fn pool1(images: usize) -> Vec<Constant> {
    constants(&[
        ("IMAGES", images),
        ("IN_H", 55),
        ("IN_W", 55),
        ("CHANNELS", 48),
        ("OUT_H", 27),
        ("OUT_W", 27),
        ("SIZE", 3),
        ("STRIDE", 2),
    ])
}

/// lrn1 and pool1 in one pass.
fn normalised_pooling(images: usize) -> Vec<Variant> {
    let (maps, out) = (images * 55 * 55 * 48, images * 27 * 27 * 48);
    let mut all = pool1(images);
    all.extend(constants(&[("NEIGHBOURS", 5), ("MASK", 1)]));
    let numbers = [("OFFSET", "2.0"), ("ALPHA", "1e-4"), ("BETA", "0.75")];
    all.extend(numbers.map(|(n, v)| (n, v.into())));
    let of = |bf16: bool| {
        let mut all = all.clone();
        all.extend(bf16.then(|| ("BF16", "1".into())));
        let label = |way: &str| format!("lrn1 and pool1 {way}{}", if bf16 { ", bf16" } else { "" });
        let source = kernel_source!("lrn_pool.cu");
        let (forward, backward) = (("lrn_pool_forward", source), ("lrn_pool_backward", source));
        [
            each(&label("forward"), forward, &all, out, &[maps, out, out]),
            each(&label("backward"), backward, &all, maps, &[maps, out, out, maps]),
        ]
    };
    [of(false), of(true)].concat()
}

/// pool1, and averages over the same windows.
fn pooling(images: usize) -> Vec<Variant> {
    let (maps, out) = (images * 55 * 55 * 48, images * 27 * 27 * 48);
    let all = pool1(images);
    let add = |label, kernel, count, buffers: &[usize]| {
        each(label, (kernel, kernel_source!("pool.cu")), &all, count, buffers)
    };
    vec![
        add("pool1 forward", "max_forward", out, &[maps, out, out]),
        add("pool1 backward", "max_backward", maps, &[out, out, out, maps]),
        add("average pooling forward", "average_forward", out, &[maps, out]),
        add("average pooling backward", "average_backward", maps, &[out, maps]),
    ]
}

/// Activation functions and the update of as many values as conv1's maps, dropout as of fc6.
fn pointwise(images: usize) -> Vec<Variant> {
    let maps = images * 55 * 55 * 48;
    let count = constants(&[("COUNT", maps), ("OUT_C", 48), ("REAL_C", 1), ("IN_C", 1)]);
    let (functions, update) = (kernel_source!("activation.cu"), kernel_source!("update.cu"));
    let mut all: Vec<Variant> = [
        ("relu_forward", functions, 2),
        ("relu_backward", functions, 3),
        ("tanh_forward", functions, 2),
        ("tanh_backward", functions, 3),
        ("update", update, 3),
    ]
    .into_iter()
    .map(|(kernel, source, buffers)| {
        each(kernel, (kernel, source), &count, maps, &vec![maps; buffers])
    })
    .collect();
    let mut dropout = constants(&[
        ("IMAGES", images),
        ("PIXELS", 1),
        ("CHANNELS", 2048),
        ("JOINED_C", 4096),
        ("CHANNEL", 2048),
    ]);
    dropout.push(("PURPOSE", "1u".into()));
    let source = kernel_source!("dropout.cu");
    let buffers = [images * 2048; 2];
    all.push(each("dropout", ("dropout", source), &dropout, images * 2048, &buffers));
    all
}

/// Softmax over 1000 classes.
fn loss(images: usize) -> Vec<Variant> {
    let all = constants(&[("IMAGES", images), ("CLASSES", 1000), ("TOP", 5), ("TRAINING", 1)]);
    let source = kernel_source!("softmax.cu");
    vec![
        each("softmax", ("softmax", source), &all, images * 256, &[images * 1000; 3]),
        each("sum of scores", ("sum_scores", source), &all, 32, &[images * 3, 3]),
    ]
}

/// What moves between towers before conv3, and the way of the crops into the network.
fn copies(images: usize) -> Vec<Variant> {
    let towers = constants(&[
        ("PIXELS", images * 169),
        ("CHANNELS", 128),
        ("JOINED_C", 256),
        ("CHANNEL", 128),
    ]);
    let (part, joined) = (images * 169 * 128, images * 169 * 256);
    let source = kernel_source!("towers.cu");
    let input = constants(&[
        ("IMAGES", images),
        ("HEIGHT", 224),
        ("WIDTH", 224),
        ("CHANNELS", 3),
        ("STORED_C", 3),
    ]);
    let (image, pixels) = (224 * 224 * 3, images * 224 * 224 * 3);
    let crops = ("input", kernel_source!("input.cu"));
    vec![
        each("join", ("join", source), &towers, part, &[part, joined]),
        each("take", ("take", source), &towers, part, &[joined, part]),
        each("take_add", ("take_add", source), &towers, part, &[joined, part]),
        each("input", crops, &input, pixels, &[pixels, image, images * 4, pixels]),
    ]
}

/// The sums of conv1's gradient to weights and biases.
fn sums(images: usize) -> Vec<Variant> {
    let weights = 11 * 11 * 3 * 48;
    let all = constants(&[("COUNT", weights), ("SPLITS", images), ("BIASES", 48)]);
    let source = kernel_source!("reduce.cu");
    let parts = images * (weights + 48);
    let buffers = [parts, 48, 48, weights, 48];
    vec![each("reduce splits", ("reduce_splits", source), &all, weights, &buffers)]
}
