//! Joining the maps of towers and taking them apart (`kernels/towers.cu`).

use super::{constants, device, each, launch, noise, read, standin};
use alexnet::gpu::memory::Buffer;
use alexnet::kernel_source;

#[test]
fn joining_and_splitting_towers() {
    standin::run("towers::joining_and_splitting_towers", &[], || {
        let device = device(0);
        let (pixels, c, joined_c, channel) = (13, 5, 12, 4);
        let all = constants(&[
            ("PIXELS", pixels),
            ("CHANNELS", c),
            ("JOINED_C", joined_c),
            ("CHANNEL", channel),
        ]);
        let run = |name, from: &Buffer<f32>, to: &Buffer<f32>| {
            let kernel = (kernel_source!("towers.cu"), &all[..], name);
            launch(&device, kernel, each(pixels * c), |a| a.buffer(from).buffer(to));
        };
        let (part, other, whole) =
            (noise(pixels * c, 1), noise(pixels * c, 2), noise(pixels * joined_c, 3));
        let inside = |i: usize| i / c * joined_c + channel + i % c;
        let [part_gpu, other_gpu, whole_gpu] =
            [&part, &other, &whole].map(|v| device.buffer_of(v).unwrap());

        let mut want = whole.clone();
        part.iter().enumerate().for_each(|(i, &v)| want[inside(i)] = v);
        run("join", &part_gpu, &whole_gpu);
        assert_eq!(read(&device, &whole_gpu), want);

        run("take_add", &whole_gpu, &other_gpu);
        let want: Vec<f32> = part.iter().zip(&other).map(|(a, b)| a + b).collect();
        assert_eq!(read(&device, &other_gpu), want);

        run("take", &whole_gpu, &other_gpu);
        assert_eq!(read(&device, &other_gpu), part);

        run("add", &part_gpu, &other_gpu);
        assert_eq!(read(&device, &other_gpu), part.iter().map(|v| v + v).collect::<Vec<_>>());
    });
}
