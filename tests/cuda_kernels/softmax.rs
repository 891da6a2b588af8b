//! Softmax, log-loss, errors and the loss's gradient (`kernels/softmax.cu`).

use super::{constants, device, launch, near, noise, read, standin};
use alexnet::kernel_source;

#[test]
fn softmax_loss_and_errors() {
    standin::run("softmax::softmax_loss_and_errors", &[("STANDIN_ORDER", "random")], || {
        let device = device(0);
        // Up to scores so far apart that a probability is 0 and its loss some hundreds.
        let cases = [
            (3, 10, 3, 1.0),
            (5, 1000, 4, 1.0),
            (40, 7, 40, 1.0),
            (9, 10, 9, 9.0),
            (6, 3, 5, 60.0),
        ];
        for (images, classes, real, spread) in cases {
            // Coarse values, so that classes tie.
            let coarse = |v: &f32| (v * 20.0).round() / 2.0 * spread;
            let x: Vec<f32> = noise(images * classes, 1).iter().map(coarse).collect();
            let labels: Vec<i32> = (0..images).map(|i| (i * 7 % classes) as i32).collect();
            let all =
                constants(&[("IMAGES", images), ("CLASSES", classes), ("TOP", 5), ("TRAINING", 1)]);
            let kernel = |name| (kernel_source!("softmax.cu"), &all[..], name);
            let (x_gpu, label) =
                (device.buffer_of(&x).unwrap(), device.buffer_of(&labels).unwrap());
            let [p, dx] = [(); 2].map(|()| device.buffer::<f32>(images * classes).unwrap());
            let scores = device.buffer::<f32>(images * 3).unwrap();
            let totals = device.buffer::<f32>(3).unwrap();
            let grid = ((images, 1, 1), (256, 1, 1));
            launch(&device, kernel("softmax"), grid, |a| {
                let a = a.buffer(&x_gpu).buffer(&label).word(real as u32).float(real as f32);
                a.buffer(&p).buffer(&dx).buffer(&scores)
            });
            launch(&device, kernel("sum_scores"), ((1, 1, 1), (32, 1, 1)), |a| {
                a.buffer(&scores).buffer(&totals)
            });
            let (mut want_p, mut want_dx, mut want_totals) = (vec![], vec![], [0f64; 3]);
            for (image, row) in x.chunks(classes).enumerate() {
                let most = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                let exp = |x: f32| (f64::from(x) - most).exp();
                let sum: f64 = row.iter().map(|&x| exp(x)).sum();
                let right = labels[image] as usize;
                let before = (0..classes)
                    .filter(|&c| row[c] > row[right] || (row[c] == row[right] && c < right))
                    .count();
                for (c, &x) in row.iter().enumerate() {
                    let p = exp(x) / sum;
                    want_p.push(p);
                    let gradient = (p - f64::from(u8::from(c == right))) / real as f64;
                    want_dx.push(if image < real { gradient } else { 0.0 });
                }
                if image < real {
                    want_totals[0] += sum.ln() + most - f64::from(row[right]);
                    want_totals[1] += f64::from(u8::from(before >= 1));
                    want_totals[2] += f64::from(u8::from(before >= 5));
                }
            }
            near("probabilities", &read(&device, &p), &want_p, 1e-6);
            near("gradient", &read(&device, &dx), &want_dx, 1e-6);
            let got = read(&device, &totals);
            assert!((f64::from(got[0]) / want_totals[0] - 1.0).abs() < 1e-6, "{got:?}");
            assert_eq!([got[1], got[2]].map(f64::from), [want_totals[1], want_totals[2]]);
        }
    });
}
