//! Joining the maps of towers and taking them apart (`kernels/towers.cu`).

use super::{constants, device, each, launch, noise, read, standin};
use alexnet::gpu::compile::Constant;
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

/// What one launch does for both towers on one GPU has the bits of a launch for each.
#[test]
fn both_towers_at_once() {
    standin::run("towers::both_towers_at_once", &[], || {
        let device = device(0);
        for (pixels, first, joined) in [(13, 5, 12), (6, 8, 24)] {
            let of = |channels: usize, channel: usize| {
                constants(&[
                    ("PIXELS", pixels),
                    ("CHANNELS", channels),
                    ("JOINED_C", joined),
                    ("CHANNEL", channel),
                ])
            };
            let others = joined - first;
            let parts = [noise(pixels * first, 1), noise(pixels * others, 2)];
            let parts = parts.each_ref().map(|v| device.buffer_of(v).unwrap());
            let wholes = [3, 4].map(|seed| noise(pixels * joined, seed));
            let wholes = wholes.each_ref().map(|v| device.buffer_of(v).unwrap());
            let run = |name, all: &[Constant], count, buffers: &[&Buffer<f32>]| {
                let kernel = (kernel_source!("towers.cu"), all, name);
                launch(&device, kernel, each(count), |a| {
                    buffers.iter().fold(a, |a, buffer| a.buffer(buffer))
                });
            };
            let halves = [(of(first, 0), first), (of(others, first), others)];

            let [one, two] = [(); 2].map(|()| device.buffer(pixels * joined).unwrap());
            for (part, (all, channels)) in parts.iter().zip(&halves) {
                run("join", all, pixels * channels, &[part, &two]);
            }
            run("join_both", &halves[0].0, pixels * joined, &[&parts[0], &parts[1], &one]);
            assert_eq!(read(&device, &one), read(&device, &two));

            for readers in [1, 2] {
                let [one, two] = halves.each_ref().map(|(_, channels)| {
                    [(); 2].map(|()| device.buffer(pixels * channels).unwrap())
                });
                for ((all, channels), [apart, _]) in halves.iter().zip([&one, &two]) {
                    run("take", all, pixels * channels, &[&wholes[0], apart]);
                    if readers == 2 {
                        run("take_add", all, pixels * channels, &[&wholes[1], apart]);
                    }
                }
                let all = [&halves[0].0[..], &constants(&[("READERS", readers)])].concat();
                let buffers = [&wholes[0], &wholes[1], &one[1], &two[1]];
                run("take_both", &all, pixels * joined, &buffers);
                for [apart, both] in [one, two] {
                    assert_eq!(read(&device, &apart), read(&device, &both));
                }
            }
        }
    });
}
