//! Normalisation and max-pooling in one pass (`kernels/lrn_pool.cu`): against the two passes
//! (`kernels/lrn.cu`, `kernels/pool.cu`) in every bit, and against the definition.

use super::{constants, device, each, launch, near, noise, standin};
use alexnet::gpu::compile::Constant;
use alexnet::gpu::device::Device;
use alexnet::gpu::format::Format;
use alexnet::gpu::memory::Buffer;
use alexnet::kernel_source;

const OFFSET: f64 = 1.5;
const ALPHA: f64 = 0.3;
const BETA: f64 = 0.75;

/// The two layers.
struct Both {
    /// Images, height, width and channels.
    input: [usize; 4],
    /// In a sum.
    maps: usize,
    size: usize,
    stride: usize,
    /// Whether windows that hang over the edge are left out.
    down: bool,
    /// Whether the input is a ReLU's output.
    masked: bool,
}

/// What a pass comes to, as it is stored.
#[derive(PartialEq, Debug)]
struct Outcome {
    y: Vec<u8>,
    choice: Vec<u8>,
    dx: Vec<u8>,
}

impl Both {
    fn output(&self) -> [usize; 2] {
        let [_, h, w, _] = self.input;
        [h, w].map(|extent| {
            let steps = extent - self.size;
            1 + if self.down { steps / self.stride } else { steps.div_ceil(self.stride) }
        })
    }

    fn values(&self) -> [usize; 2] {
        let ([n, _, _, c], [oh, ow]) = (self.input, self.output());
        [self.input.iter().product(), n * oh * ow * c]
    }

    /// What all three sources have in common; `masked`: the gradient is that to a ReLU's input.
    fn common(&self, masked: bool, format: Format) -> Vec<Constant> {
        let [n, _, _, c] = self.input;
        let mut all = constants(&[("IMAGES", n), ("CHANNELS", c), ("MASK", masked.into())]);
        all.extend(format.constant());
        all
    }

    fn normalisation(&self, maps: &'static str) -> Vec<Constant> {
        let numbers = [("OFFSET", OFFSET), ("ALPHA", ALPHA), ("BETA", BETA)];
        let numbers = numbers.map(|(name, value)| (name, format!("{value:?}")));
        [constants(&[(maps, self.maps)]), numbers.to_vec()].concat()
    }

    fn windows(&self) -> Vec<Constant> {
        let ([_, h, w, _], [oh, ow]) = (self.input, self.output());
        constants(&[
            ("IN_H", h),
            ("IN_W", w),
            ("OUT_H", oh),
            ("OUT_W", ow),
            ("SIZE", self.size),
            ("STRIDE", self.stride),
        ])
    }

    fn in_one(&self, device: &Device, x: &[u8], dy: &[u8], format: Format) -> Outcome {
        let [inputs, outputs] = self.values();
        let all =
            [self.common(self.masked, format), self.normalisation("NEIGHBOURS"), self.windows()]
                .concat();
        let [x, dy] = [x, dy].map(|v| device.buffer_of(v).unwrap());
        let (y, choice) = (filled(device, dy.len()), filled(device, outputs));
        let dx = filled(device, x.len());
        let kernel = |name| (kernel_source!("lrn_pool.cu"), &all[..], name);
        launch(device, kernel("lrn_pool_forward"), each(outputs), |a| {
            a.buffer(&x).buffer(&y).buffer(&choice)
        });
        launch(device, kernel("lrn_pool_backward"), each(inputs), |a| {
            a.buffer(&x).buffer(&dy).buffer(&choice).buffer(&dx)
        });
        // Where no backward pass will come.
        let alone = filled(device, dy.len());
        launch(device, kernel("lrn_pool_forward"), each(outputs), |a| {
            a.buffer(&x).buffer(&alone).nothing()
        });
        assert_eq!(bytes(device, &alone), bytes(device, &y));
        Outcome { y: bytes(device, &y), choice: bytes(device, &choice), dx: bytes(device, &dx) }
    }

    fn in_two(&self, device: &Device, x: &[u8], dy: &[u8], format: Format) -> Outcome {
        let ([inputs, outputs], [_, h, w, _]) = (self.values(), self.input);
        let normalise = [
            self.common(self.masked, format),
            self.normalisation("SIZE"),
            constants(&[("HEIGHT", h), ("WIDTH", w), ("WITHIN", 0)]),
        ]
        .concat();
        let pool = [self.common(false, format), self.windows()].concat();
        let [x, dy] = [x, dy].map(|v| device.buffer_of(v).unwrap());
        let (y, choice) = (filled(device, dy.len()), filled(device, outputs));
        let [between, dbetween, dx] = [(); 3].map(|()| filled(device, x.len()));
        let lrn = |name| (kernel_source!("lrn.cu"), &normalise[..], name);
        let pool = |name| (kernel_source!("pool.cu"), &pool[..], name);
        launch(device, lrn("lrn_forward"), each(inputs), |a| {
            a.buffer(&x).nothing().buffer(&between)
        });
        launch(device, pool("max_forward"), each(outputs), |a| {
            a.buffer(&between).buffer(&y).buffer(&choice)
        });
        launch(device, pool("max_backward"), each(inputs), |a| {
            a.buffer(&dy).buffer(&choice).buffer(&y).buffer(&dbetween)
        });
        launch(device, lrn("lrn_backward"), each(inputs), |a| {
            a.buffer(&x).nothing().buffer(&dbetween).buffer(&dx)
        });
        Outcome { y: bytes(device, &y), choice: bytes(device, &choice), dx: bytes(device, &dx) }
    }

    /// y and dx by the definition: a maximum's gradient goes to the first of the largest.
    fn expected(&self, x: &[f32], dy: &[f32]) -> [Vec<f64>; 2] {
        let ([_, h, w, c], [oh, ow]) = (self.input, self.output());
        let half = self.maps / 2;
        let value = |v: &[f32], i: usize| f64::from(v[i]);
        let around = |i: usize| i - (i % c).min(half)..i + (c - i % c).min(half + 1);
        let sum = |i: usize| around(i).map(|j| value(x, j).powi(2)).sum::<f64>();
        let d: Vec<f64> = (0..x.len()).map(|i| OFFSET + ALPHA * sum(i)).collect();
        let b: Vec<f64> = (0..x.len()).map(|i| value(x, i) * d[i].powf(-BETA)).collect();
        let (mut y, mut db) = (Vec::new(), vec![0.0; x.len()]);
        for o in 0..dy.len() {
            let (image, oy, ox, channel) = (o / c / ow / oh, o / c / ow % oh, o / c % ow, o % c);
            let rows = oy * self.stride..(oy * self.stride + self.size).min(h);
            let columns = ox * self.stride..(ox * self.stride + self.size).min(w);
            let at = |r, q| ((image * h + r) * w + q) * c + channel;
            let places = rows.flat_map(|r| columns.clone().map(move |q| at(r, q)));
            let most = places.reduce(|most, i| if b[i] > b[most] { i } else { most }).unwrap();
            y.push(b[most]);
            db[most] += value(dy, o);
        }
        let slope = |i: usize| {
            let shares = around(i).map(|j| db[j] * value(x, j) * d[j].powf(-BETA - 1.0));
            let through = -2.0 * ALPHA * BETA * value(x, i) * shares.sum::<f64>();
            let all = db[i] * d[i].powf(-BETA) + through;
            if self.masked && x[i] <= 0.0 { 0.0 } else { all }
        };
        [y, (0..x.len()).map(slope).collect()]
    }
}

/// Bytes that no kernel writes by chance.
fn filled(device: &Device, len: usize) -> Buffer<u8> {
    device.buffer_of(&vec![0xfe; len]).unwrap()
}

fn bytes(device: &Device, buffer: &Buffer<u8>) -> Vec<u8> {
    let mut values = vec![0; buffer.len()];
    device.compute.read(buffer, &mut values).unwrap();
    values
}

/// The paper's pool1 on a tower; windows over the edge; no packs; windows on every pixel, and sums
/// over more maps than there are; windows with gaps between them, the last left out.
fn layers() -> Vec<Both> {
    let layer =
        |input, maps, size, stride| Both { input, maps, size, stride, down: false, masked: true };
    vec![
        layer([1, 55, 55, 48], 5, 3, 2),
        Both { masked: false, ..layer([2, 8, 7, 24], 5, 3, 2) },
        layer([2, 6, 7, 7], 3, 3, 2),
        layer([1, 6, 6, 8], 9, 2, 1),
        Both { down: true, ..layer([2, 9, 8, 16], 1, 2, 3) },
    ]
}

#[test]
fn one_pass_gives_the_bits_of_two() {
    let name = "lrn_pool::one_pass_gives_the_bits_of_two";
    standin::run(name, &[("STANDIN_ORDER", "random")], || {
        let device = device(0);
        for (layer, format) in
            layers().iter().flat_map(|l| [Format::Float, Format::Bf16].map(|f| (l, f)))
        {
            let [inputs, outputs] = layer.values();
            // As a ReLU leaves it; few different values, so that equal maxima are common.
            let coarse = noise(inputs, 1).into_iter().map(|v| (v * 6.0).round() / 3.0);
            let mut x: Vec<f32> = coarse.map(|v| v.max(0.0)).collect();
            let dy = format.encode(&noise(outputs, 2));
            for diverged in [false, true] {
                if diverged {
                    x[inputs / 2] = f32::NAN;
                    x[inputs / 3] = f32::INFINITY;
                }
                let x = format.encode(&x);
                let one = layer.in_one(&device, &x, &dy, format);
                let two = layer.in_two(&device, &x, &dy, format);
                let what = format!("{:?}, {format:?}, diverged {diverged}", layer.input);
                assert!(one.y == two.y, "{what}: y");
                assert!(one.choice == two.choice, "{what}: choices");
                assert!(one.dx == two.dx, "{what}: dx");
                assert!(one.dx.iter().any(|&byte| byte != 0), "{what}");
            }
        }
    });
}

#[test]
fn normalised_maxima_and_their_gradient() {
    let name = "lrn_pool::normalised_maxima_and_their_gradient";
    standin::run(name, &[], || {
        let device = device(0);
        for layer in layers() {
            let [inputs, outputs] = layer.values();
            let (x, dy) = (noise(inputs, 1), noise(outputs, 2));
            let encode = |values: &[f32]| Format::Float.encode(values);
            let one = layer.in_one(&device, &encode(&x), &encode(&dy), Format::Float);
            let [want_y, want_dx] = layer.expected(&x, &dy);
            near("y", &Format::Float.decode(&one.y), &want_y, 1e-6);
            near("dx", &Format::Float.decode(&one.dx), &want_dx, 1e-6);
        }
    });
}
