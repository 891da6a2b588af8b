//! Neurons and images that processes share: rows against blocks (`kernels/shares.cu`), and the sums
//! of their parts (`kernels/parts.cu`).

use super::{constants, device, each, launch, noise, read, standin};
use alexnet::gpu::memory::Buffer;
use alexnet::kernel_source;
use alexnet::network::Share;

/// Thirteen neurons of one, of three, of five and of as many processes; four images where there is
/// room for six.
#[test]
fn rows_of_all_neurons_and_blocks_of_each_process() {
    standin::run("shares::rows_of_all_neurons_and_blocks_of_each_process", &[], || {
        let device = device(0);
        let (room, images, all) = (6, 4, 13);
        for ranks in [1, 3, 5, 13] {
            let constants = constants(&[("ROOM", room), ("ALL", all), ("RANKS", ranks)]);
            let run = |name, from: &Buffer<f32>, to: &Buffer<f32>| {
                let kernel = (kernel_source!("shares.cu"), &constants[..], name);
                launch(&device, kernel, each(room * all), |a| {
                    a.buffer(from).word(images as u32).buffer(to)
                });
            };
            let (rows, before) = (noise(room * all, 1), noise(room * all, 2));
            let mut blocks = before.clone();
            let mut next = 0;
            for own in (Share { rank: 0, ranks }).each(all) {
                for image in 0..images {
                    let row = &rows[image * all..][own.clone()];
                    blocks[next..next + own.len()].copy_from_slice(row);
                    next += own.len();
                }
            }
            assert_eq!(next, images * all);
            let [rows_gpu, other] = [&rows, &before].map(|v| device.buffer_of(v).unwrap());
            run("into_blocks", &rows_gpu, &other);
            assert_eq!(read(&device, &other), blocks, "{ranks} processes");
            let again = device.buffer_of(&before).unwrap();
            run("into_rows", &other, &again);
            let want = [&rows[..images * all], &before[images * all..]].concat();
            assert_eq!(read(&device, &again), want, "{ranks} processes");
        }
    });
}

/// The second tower's five channels of twelve, of seven pixels where there is room for nine.
#[test]
fn sums_of_all_processes_parts() {
    standin::run("shares::sums_of_all_processes_parts", &[], || {
        let device = device(0);
        let (room, pixels, c, joined, channel) = (9, 7, 5, 12, 7);
        for ranks in [1, 2, 4] {
            let constants = constants(&[
                ("PIXELS", room),
                ("CHANNELS", c),
                ("JOINED_C", joined),
                ("CHANNEL", channel),
                ("RANKS", ranks),
            ]);
            let parts = noise(ranks * pixels * joined, 4);
            let part =
                |rank: usize, i: usize| parts[(rank * pixels + i / c) * joined + channel + i % c];
            let sum = |i: usize| (1..ranks).fold(part(0, i), |sum, rank| sum + part(rank, i));
            let want: Vec<f32> =
                (0..room * c).map(|i| if i / c < pixels { sum(i) } else { 0.0 }).collect();
            let from = device.buffer_of(&parts).unwrap();
            let to = device.buffer_of(&noise(room * c, 5)).unwrap();
            let kernel = (kernel_source!("parts.cu"), &constants[..], "sum_parts");
            launch(&device, kernel, each(room * c), |a| {
                a.buffer(&from).word(pixels as u32).buffer(&to)
            });
            assert_eq!(read(&device, &to), want, "{ranks} processes");
        }
    });
}
