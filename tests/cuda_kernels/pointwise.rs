//! What is done element by element: activation functions, dropout, the update.

use super::{constants, device, each, launch, near, noise, read, standin};
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
            ("CHANNEL", channel),
        ]);
        all.push(("PURPOSE", format!("{purpose}u")));
        let x = noise(len, 1);
        let x_gpu = device.buffer_of(&x).unwrap();
        let y = device.buffer::<f32>(len).unwrap();
        let kernel = |name| (kernel_source!("dropout.cu"), &all[..], name);
        launch(&device, kernel("dropout"), each(len), |a| {
            let a = a.buffer(&x_gpu).word(threshold).word(seed as u32).word((seed >> 32) as u32);
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

#[test]
fn update_agrees_in_every_bit() {
    standin::run("pointwise::update_agrees_in_every_bit", &[], || {
        let device = device(0);
        let len = 1000;
        let (w, v, g) = (noise(len, 1), noise(len, 2), noise(len, 3));
        let (momentum, decay, rate) = (0.9f32, 0.0005 * 0.01f32, 0.01f32);
        let [w_gpu, v_gpu, g_gpu] = [&w, &v, &g].map(|x| device.buffer_of(x).unwrap());
        let kernel = (kernel_source!("update.cu"), &constants(&[("COUNT", len)])[..], "update");
        let update = |loss: f32| {
            let loss = device.buffer_of(&[loss]).unwrap();
            launch(&device, kernel, each(len), |a| {
                let a = a.buffer(&w_gpu).buffer(&v_gpu).buffer(&g_gpu);
                a.float(momentum).float(decay).float(rate).nothing().buffer(&loss).nothing()
            });
        };
        for loss in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            update(loss);
            assert_eq!(read(&device, &w_gpu), w, "loss {loss}");
            assert_eq!(read(&device, &v_gpu), v, "loss {loss}");
        }
        update(1.5);
        let want_v: Vec<f32> =
            (0..len).map(|i| (momentum * v[i] - decay * w[i]) - rate * g[i]).collect();
        let want_w: Vec<f32> = (0..len).map(|i| w[i] + want_v[i]).collect();
        assert_eq!(read(&device, &v_gpu), want_v);
        assert_eq!(read(&device, &w_gpu), want_w);
    });
}
