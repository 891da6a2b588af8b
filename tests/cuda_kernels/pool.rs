//! Pooling (`kernels/pool.cu`) against loops over every window.

use super::{constants, device, each, launch, near, noise, read, standin};
use alexnet::gpu::compile::Constant;
use alexnet::kernel_source;

/// A layer: images, height, width and channels of its input; its windows.
struct Pool {
    input: [usize; 4],
    size: usize,
    stride: usize,
}

impl Pool {
    /// Height and width, rounded up, as long as the last window begins inside the map.
    fn output(&self) -> [usize; 2] {
        let [_, h, w, _] = self.input;
        [h, w].map(|extent| (extent - self.size).div_ceil(self.stride) + 1)
    }

    fn constants(&self) -> Vec<Constant> {
        let ([n, h, w, c], [oh, ow]) = (self.input, self.output());
        constants(&[
            ("IMAGES", n),
            ("IN_H", h),
            ("IN_W", w),
            ("CHANNELS", c),
            ("OUT_H", oh),
            ("OUT_W", ow),
            ("SIZE", self.size),
            ("STRIDE", self.stride),
        ])
    }

    /// The input's elements in the window of output `o`, row by row.
    fn window(&self, o: usize) -> Vec<usize> {
        let ([_, h, w, c], [oh, ow]) = (self.input, self.output());
        let (image, oy, ox, channel) = (o / c / ow / oh, o / c / ow % oh, o / c % ow, o % c);
        let (ys, xs) = (oy * self.stride..h, ox * self.stride..w);
        let at = |y, x| ((image * h + y) * w + x) * c + channel;
        let row = |y| xs.clone().take(self.size).map(move |x| at(y, x));
        ys.take(self.size).flat_map(row).collect()
    }

    /// Of maxima and of averages: y and dx.
    fn expected(&self, x: &[f32], dy: &[f32]) -> [[Vec<f64>; 2]; 2] {
        let zeros = |n| vec![0f64; n];
        let [mut max, mut average] = [(); 2].map(|()| [zeros(dy.len()), zeros(x.len())]);
        for (o, &gradient) in dy.iter().enumerate() {
            let pixels = self.window(o);
            let mut first = pixels[0];
            for &i in &pixels {
                first = if x[i] > x[first] { i } else { first };
                average[0][o] += f64::from(x[i]) / pixels.len() as f64;
                average[1][i] += f64::from(gradient) / pixels.len() as f64;
            }
            max[0][o] = f64::from(x[first]);
            max[1][first] += f64::from(gradient);
        }
        [max, average]
    }
}

#[test]
fn pooling() {
    standin::run("pool::pooling", &[("STANDIN_ORDER", "random")], || {
        let device = device(0);
        // The first is the paper's pool1.
        for (input, size, stride) in [
            ([1, 55, 55, 48], 3, 2),
            ([2, 8, 7, 3], 3, 2),
            ([1, 5, 9, 2], 2, 2),
            ([2, 6, 6, 5], 3, 1),
            ([1, 7, 7, 1], 2, 3),
            ([1, 24, 24, 4], 3, 2),
        ] {
            let layer = Pool { input, size, stride };
            let [n, _, _, c] = input;
            let inputs = input.iter().product();
            let outputs = n * layer.output().iter().product::<usize>() * c;
            // Few different values, so that equal maxima are common.
            let x: Vec<f32> = noise(inputs, 1).iter().map(|v| (v * 3.0).round()).collect();
            let (dy, all) = (noise(outputs, 2), layer.constants());
            let [x_gpu, dy_gpu] = [&x, &dy].map(|v| device.buffer_of(v).unwrap());
            let choice = device.buffer::<u16>(outputs).unwrap();
            let [y_max, y_average] = [(); 2].map(|()| device.buffer::<f32>(outputs).unwrap());
            let [dx_max, dx_average] = [(); 2].map(|()| device.buffer::<f32>(inputs).unwrap());
            let kernel = |name| (kernel_source!("pool.cu"), &all[..], name);
            launch(&device, kernel("max_forward"), each(outputs), |a| {
                a.buffer(&x_gpu).buffer(&y_max).buffer(&choice)
            });
            launch(&device, kernel("max_backward"), each(inputs), |a| {
                a.buffer(&dy_gpu).buffer(&choice).buffer(&y_max).buffer(&dx_max)
            });
            launch(&device, kernel("average_forward"), each(outputs), |a| {
                a.buffer(&x_gpu).buffer(&y_average)
            });
            launch(&device, kernel("average_backward"), each(inputs), |a| {
                a.buffer(&dy_gpu).buffer(&dx_average)
            });
            let [max, average] = layer.expected(&x, &dy);
            near("max forward", &read(&device, &y_max), &max[0], 0.0);
            near("max backward", &read(&device, &dx_max), &max[1], 1e-6);
            near("average forward", &read(&device, &y_average), &average[0], 1e-6);
            near("average backward", &read(&device, &dx_average), &average[1], 1e-6);
        }
    });
}
