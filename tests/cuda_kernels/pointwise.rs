//! What is done element by element: activation functions, dropout, the update.

use super::{constants, device, each, launch, near, noise, read, standin};
use alexnet::gpu::format::Format;
use alexnet::gpu::memory::Buffer;
use alexnet::kernel_source;

#[test]
fn activations() {
    standin::run("pointwise::activations", &[], || {
        let device = device(0);
        let len = 777;
        let x: Vec<f32> = noise(len, 1).iter().map(|v| v * 5.0).collect();
        let dy = noise(len, 2);
        let [x_gpu, dy_gpu] = [&x, &dy].map(|v| device.buffer_of(v).unwrap());
        let [y, dx] = [(); 2].map(|()| device.buffer::<f32>(len).unwrap());
        let all = constants(&[("COUNT", len)]);
        type Function = fn(f64) -> f64;
        let reference: [(&str, Function, Function); 2] = [
            ("relu", |x| x.max(0.0), |x| f64::from(u8::from(x > 0.0))),
            ("tanh", f64::tanh, |x| 1.0 - x.tanh() * x.tanh()),
        ];
        for (name, value, slope) in reference {
            let kernel = |way: &str| format!("{name}_{way}");
            let source = kernel_source!("activation.cu");
            launch(&device, (source, &all, &kernel("forward")), each(len), |a| {
                a.buffer(&x_gpu).buffer(&y)
            });
            launch(&device, (source, &all, &kernel("backward")), each(len), |a| {
                a.buffer(&y).buffer(&dy_gpu).buffer(&dx)
            });
            let want_y: Vec<f64> = x.iter().map(|&x| value(x.into())).collect();
            let want_dx: Vec<f64> =
                x.iter().zip(&dy).map(|(&x, &d)| f64::from(d) * slope(x.into())).collect();
            near(name, &read(&device, &y), &want_y, 1e-6);
            near(name, &read(&device, &dx), &want_dx, 1e-6);
        }
    });
}

#[test]
fn dropout_keeps_what_the_cpu_keeps() {
    standin::run("pointwise::dropout_keeps_what_the_cpu_keeps", &[], || {
        let device = device(0);
        // A tower with 5 of 12 channels from the third on, of a layer with 2 x 3 pixels.
        let (images, pixels, c, joined, channel) = (4, 6, 5, 12, 3);
        let (seed, step, first_image, purpose) = (0x1234_5678_9abc_def0u64, 17, 256, 0x0212_3456);
        let (threshold, len) = (1u32 << 30, images * pixels * c);
        let mut all = constants(&[
            ("IMAGES", images),
            ("PIXELS", pixels),
            ("CHANNELS", c),
            ("JOINED_C", joined),
        ]);
        all.push(("PURPOSE", format!("{purpose}u")));
        let x = noise(len, 1);
        let x_gpu = device.buffer_of(&x).unwrap();
        let y = device.buffer::<f32>(len).unwrap();
        let kernel = |name| (kernel_source!("dropout.cu"), &all[..], name);
        launch(&device, kernel("dropout"), each(len), |a| {
            let a = a.buffer(&x_gpu).own_word(channel as u64).word(threshold);
            let a = a.word(seed as u32).word((seed >> 32) as u32);
            a.word(step).word(first_image).float(1.25).buffer(&y)
        });
        let want: Vec<f32> = (0..len)
            .map(|i| {
                let (image, pixel) = (i / c / pixels, i / c % pixels);
                let neuron = (pixel * joined + channel + i % c) as u32;
                let counter = [neuron / 4, first_image + image as u32, step, purpose];
                let words = alexnet::random::philox(counter, [seed as u32, (seed >> 32) as u32]);
                if words[neuron as usize % 4] >= threshold { x[i] * 1.25 } else { 0.0 }
            })
            .collect();
        assert_eq!(read(&device, &y), want);
        let kept = want.iter().filter(|&&y| y != 0.0).count();
        assert!((60..=110).contains(&kept), "{kept} of {len} kept at a rate of a quarter");
        // In evaluation all are kept.
        launch(&device, kernel("scale"), each(len), |a| a.buffer(&x_gpu).float(0.5).buffer(&y));
        assert_eq!(read(&device, &y), x.iter().map(|x| x * 0.5).collect::<Vec<_>>());
    });
}

/// Above a ReLU in the same memory: the bits of dropout's backward pass and then the ReLU's, for
/// those that the ReLU let through and dropout dropped, too.
#[test]
fn dropout_and_relu_go_back_in_one() {
    standin::run("pointwise::dropout_and_relu_go_back_in_one", &[], || {
        let device = device(0);
        for format in [Format::Float, Format::Bf16] {
            for channels in [16, 5] {
                let (images, pixels) = (3, 4);
                let len = images * pixels * channels;
                let mut all = constants(&[
                    ("IMAGES", images),
                    ("PIXELS", pixels),
                    ("CHANNELS", channels),
                    ("JOINED_C", 2 * channels),
                ]);
                all.extend(format.constant());
                let count = [constants(&[("COUNT", len)]), Vec::from_iter(format.constant())];
                let count = count.concat();
                all.push(("PURPOSE", "33620054u".into()));
                let upload = |v: &[f32]| device.buffer_of(&format.encode(v)).unwrap();
                let relu: Vec<f32> = noise(len, 1).iter().map(|v| v.max(0.0)).collect();
                let (relu, dy) = (upload(&relu), upload(&noise(len, 2)));
                let [y, both, dx] = [(); 3].map(|()| upload(&vec![9.0; len]));
                let kernel = |name| (kernel_source!("dropout.cu"), &all[..], name);
                let dropout = |from: &Buffer<u8>, to: &Buffer<u8>| {
                    launch(&device, kernel("dropout"), each(len), |a| {
                        let a = a.buffer(from).own_word(channels as u64).word(1 << 30);
                        a.word(7).word(0).word(1).word(0).float(4.0 / 3.0).buffer(to)
                    });
                };
                dropout(&relu, &y);
                dropout(&dy, &dx);
                let relu_backward = (kernel_source!("activation.cu"), &count[..], "relu_backward");
                launch(&device, relu_backward, each(len), |a| a.buffer(&y).buffer(&dx).buffer(&dx));
                launch(&device, kernel("dropout_relu_backward"), each(len), |a| {
                    a.buffer(&y).buffer(&dy).float(4.0 / 3.0).buffer(&both)
                });
                let read = |buffer: &Buffer<u8>| {
                    let mut bytes = vec![0; buffer.len()];
                    device.compute.read(buffer, &mut bytes).unwrap();
                    bytes
                };
                assert_eq!(read(&both), read(&dx), "{format:?}, {channels} channels");
                let [relu, dx] = [&relu, &both].map(|b| format.decode(&read(b)));
                let goes = relu.iter().zip(&dx).filter(|(r, d)| **r > 0.0 && **d == 0.0).count();
                assert!(goes > len / 20, "{goes} of {len} are dropped above 0");
            }
        }
    });
}

#[test]
fn update_agrees_in_every_bit() {
    standin::run("pointwise::update_agrees_in_every_bit", &[], || {
        let device = device(0);
        // Weights and biases, in packs and not; and biases alone.
        for sizes in [[1000, 30], [1001, 28], [0, 300]] {
            let blocks =
                sizes.map(|n: usize| (n / if n.is_multiple_of(4) { 4 } else { 1 }).div_ceil(256));
            let grid = ((blocks[0] + blocks[1], 1, 1), (256, 1, 1));
            let rules = [[0.9f32, 0.0005 * 0.01, 0.01], [0.8, 0.0001, 0.02]];
            let host: Vec<[Vec<f32>; 3]> =
                sizes.iter().map(|&n| [1, 2, 3].map(|seed| noise(n, seed + n as u32))).collect();
            let gpu: Vec<_> = host
                .iter()
                .map(|all| all.each_ref().map(|v| device.buffer_of(v).unwrap()))
                .collect();
            let out_c = ("OUT_C", sizes[0].max(1));
            let all =
                [("COUNT", sizes[0]), ("BIASES", sizes[1]), out_c, ("REAL_C", 1), ("IN_C", 1)];
            let all = constants(&all);
            // `which` of the two have a rule.
            let update = |loss: f32, which: [bool; 2]| {
                let loss = device.buffer_of(&[loss]).unwrap();
                launch(&device, (kernel_source!("update.cu"), &all, "update"), grid, |mut a| {
                    for ((own, rule), given) in gpu.iter().zip(rules).zip(which) {
                        for buffer in own {
                            a = a.optional(given.then_some(buffer));
                        }
                        a = rule.into_iter().fold(a, |a, number| a.float(number));
                    }
                    a.nothing().buffer(&loss).nothing()
                });
            };
            let check = |changed: [bool; 2], what: &str| {
                for (i, [w, v, g]) in host.iter().enumerate() {
                    let [momentum, decay, rate] = rules[i];
                    let step = |j: usize| (momentum * v[j] - decay * w[j]) - rate * g[j];
                    let want_v: Vec<f32> =
                        (0..w.len()).map(|j| if changed[i] { step(j) } else { v[j] }).collect();
                    let want_w: Vec<f32> = (0..w.len())
                        .map(|j| if changed[i] { w[j] + want_v[j] } else { w[j] })
                        .collect();
                    assert_eq!(read(&device, &gpu[i][0]), want_w, "{what}, {sizes:?}, w {i}");
                    assert_eq!(read(&device, &gpu[i][1]), want_v, "{what}, {sizes:?}, v {i}");
                }
            };
            for loss in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                update(loss, [true; 2]);
                check([false; 2], &format!("loss {loss}"));
            }
            update(1.5, [false, true]);
            check([false, true], "biases");
            update(1.5, [true, false]);
            check([true; 2], "weights, too");
        }
    });
}
