//! Response normalisation (`kernels/lrn.cu`) against its definition and the derivative of it.

use super::{constants, device, each, launch, near, noise, read, standin};
use alexnet::gpu::compile::Constant;
use alexnet::kernel_source;

/// A layer: images, height, width, channels; its neighbourhood and its constants.
struct Lrn {
    shape: [usize; 4],
    size: usize,
    within: bool,
    k: f64,
    alpha: f64,
    beta: f64,
}

impl Lrn {
    fn constants(&self) -> Vec<Constant> {
        let [n, h, w, c] = self.shape;
        let mut all = constants(&[
            ("IMAGES", n),
            ("HEIGHT", h),
            ("WIDTH", w),
            ("CHANNELS", c),
            ("SIZE", self.size),
            ("WITHIN", self.within.into()),
        ]);
        let numbers = [("OFFSET", self.k), ("ALPHA", self.alpha), ("BETA", self.beta)];
        all.extend(numbers.map(|(name, value)| (name, format!("{value:?}"))));
        all
    }

    /// By the definition, asking every element of the image.
    fn neighbours(&self, i: usize) -> impl Iterator<Item = usize> {
        let [_, h, w, c] = self.shape;
        let (half, within) = (self.size / 2, self.within);
        let at = move |i: usize| [i / c / w / h, i / c / w % h, i / c % w, i % c];
        let [n0, y0, x0, c0] = at(i);
        let image = n0 * h * w * c..(n0 + 1) * h * w * c;
        let candidates = if within { image } else { i - c0..i - c0 + c };
        candidates.filter(move |&j| {
            let [_, y1, x1, c1] = at(j);
            if within {
                c0 == c1 && y0.abs_diff(y1) <= half && x0.abs_diff(x1) <= half
            } else {
                c0.abs_diff(c1) <= half
            }
        })
    }

    /// y and, by the quotient rule, dx.
    fn expected(&self, x: &[f32], dy: &[f32]) -> [Vec<f64>; 2] {
        let f = |v: &[f32], i: usize| f64::from(v[i]);
        let (k, alpha, beta) = (self.k, self.alpha, self.beta);
        let sum = |i| self.neighbours(i).map(|j| f(x, j) * f(x, j)).sum::<f64>();
        let d: Vec<f64> = (0..x.len()).map(|i| k + alpha * sum(i)).collect();
        let y = (0..x.len()).map(|i| f(x, i) * d[i].powf(-beta)).collect();
        let slope = |i: usize| {
            let through = |j: usize| {
                -2.0 * alpha * beta * f(x, i) * f(x, j) * d[j].powf(-beta - 1.0) * f(dy, j)
            };
            f(dy, i) * d[i].powf(-beta) + self.neighbours(i).map(through).sum::<f64>()
        };
        [y, (0..x.len()).map(slope).collect()]
    }
}

#[test]
fn response_normalisation() {
    standin::run("lrn::response_normalisation", &[("STANDIN_ORDER", "random")], || {
        let device = device(0);
        // Paper: k 2, n 5, alpha 1e-4, beta 0.75 over conv1's 48 maps of a tower; the rest is odd.
        for (shape, size, within, k, alpha, beta) in [
            ([1, 55, 55, 48], 5, false, 2.0, 1e-4, 0.75),
            ([2, 3, 4, 7], 5, false, 1.0, 0.5, 0.75),
            ([1, 2, 3, 2], 9, false, 2.0, 0.3, 0.5),
            ([2, 3, 3, 5], 4, false, 1.5, 0.2, 1.25),
            ([2, 6, 5, 3], 5, true, 1.0, 0.1, 0.75),
            ([1, 4, 4, 4], 3, true, 2.0, 0.7, 0.75),
        ] {
            let layer = Lrn { shape, size, within, k, alpha, beta };
            let len = shape.iter().product();
            let (x, dy, all) = (noise(len, 1), noise(len, 2), layer.constants());
            let [x_gpu, dy_gpu] = [&x, &dy].map(|v| device.buffer_of(v).unwrap());
            let [scale, y, dx] = [(); 3].map(|()| device.buffer::<f32>(len).unwrap());
            let kernel = |name| (kernel_source!("lrn.cu"), &all[..], name);
            launch(&device, kernel("lrn_forward"), each(len), |a| {
                a.buffer(&x_gpu).buffer(&scale).buffer(&y)
            });
            launch(&device, kernel("lrn_backward"), each(len), |a| {
                a.buffer(&x_gpu).buffer(&scale).buffer(&dy_gpu).buffer(&dx)
            });
            let [want_y, want_dx] = layer.expected(&x, &dy);
            near("lrn forward", &read(&device, &y), &want_y, 1e-6);
            near("lrn backward", &read(&device, &dx), &want_dx, 1e-6);
        }
    });
}
