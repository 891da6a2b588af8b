//! How images reach a network on a GPU: as bytes out of pinned memory, with the CPU's bits after
//! the kernel's arithmetic, and read no more once a pass has returned. On the stand-in for GPU and
//! NVRTC (`tests/standin`), whose copies read the host's memory as late as the program's waits
//! allow.

mod common;
mod standin;

use alexnet::config::Config;
use alexnet::data::augment::{Augmentation, Draw, Geometry, Noise};
use alexnet::data::form::{CropBuffer, CropView, Form};
use alexnet::engine::cuda::Cuda;
use alexnet::engine::{Engine, Rates, Slot};
use alexnet::gpu::compile::Compiler;
use alexnet::gpu::device::Device;
use alexnet::gpu::library::driver_version;
use alexnet::kernel_source;
use alexnet::layers::{Classes, Run};
use alexnet::network::{Mode, Plan};
use std::sync::Arc;

/// Augmentation with everything that there is: flips, and in colour noise that rescales.
fn augmentation(geometry: Geometry) -> Augmentation {
    let vectors = vec![30.0, 31.0, 29.0, -4.0, 0.5, 3.7, 1.0, -2.3, 1.1];
    let noise = Noise { sigma: 0.1, vectors, rescale: true };
    Augmentation {
        geometry,
        flip: true,
        noise: (geometry.channels == 3).then_some(noise),
        random_crops: true,
        shared_crops: 1,
        mean: (0..geometry.crop_len()).map(|i| 100.0 + (i % 97) as f32 * 0.3).collect(),
        scale: [0.017, 0.5, 3.0, f32::NAN],
    }
}

/// Image `index`, without a pattern.
fn image(geometry: &Geometry, index: u32) -> Vec<u8> {
    let byte = |i| alexnet::random::philox([i, index, 0, 0], [3, 4])[0] as u8;
    (0..geometry.image_len() as u32).map(byte).collect()
}

/// A buffer of `form` with a training crop of each of `count` images and, if `ten`, the ten of
/// another.
fn crops(form: &Form, a: &Augmentation, count: u32, ten: bool) -> CropBuffer {
    let draw = |i| -> (u32, Draw) { (i, a.training(1, 2, i, i, i % 3 != 2)) };
    let mut draws: Vec<_> = (0..count).map(draw).collect();
    draws.extend(a.ten().into_iter().filter(|_| ten).map(|draw| (count, draw)));
    let mut buffer = CropBuffer::new(form, &a.geometry, draws.len()).unwrap();
    buffer.resize(draws.len());
    for (crop, (index, draw)) in draws.iter().enumerate() {
        buffer.view_mut().write(crop, &image(&a.geometry, *index), draw, a);
    }
    assert!(draws.iter().any(|(_, draw)| draw.flip) && draws.iter().any(|(_, draw)| !draw.flip));
    buffer
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn the_kernel_gives_the_cpus_bits() {
    standin::run("the_kernel_gives_the_cpus_bits", &[("STANDIN_ORDER", "random")], || {
        let compiler = Compiler::new(driver_version().unwrap(), None).unwrap();
        let device = Arc::new(Device::open(0, Arc::new(compiler)).unwrap());
        for channels in [1, 3] {
            let a = augmentation(Geometry { height: 24, width: 23, channels, crop: 19 });
            let floats = crops(&Form::Floats, &a, 7, true);
            let CropView::Floats(want) = floats.view() else { panic!("not floats") };
            let from = device.clone();
            let pinned = Form::Bytes(Arc::new(move |n| Ok(Box::new(from.pinned::<u8>(n)?))));
            let given = crops(&pinned, &a, 7, true);
            let CropView::Bytes { pixels, colours } = given.view() else { panic!("not bytes") };
            // Room for two images more than there are.
            let (images, values) = (17, a.geometry.crop_len());
            let all =
                [("IMAGES", images + 2), ("HEIGHT", 19), ("WIDTH", 19), ("CHANNELS", channels)];
            let all = all.map(|(name, value)| (name, value.to_string()));
            let kernel = device.kernel(kernel_source!("input.cu"), &all, "input").unwrap();
            let crops = device.buffer_of(pixels).unwrap();
            let [mean, colours] = [&a.mean, colours].map(|v| device.buffer_of(v).unwrap());
            let y = device.buffer::<f32>((images + 2) * values).unwrap();
            let launch = kernel.arguments().buffer(&crops).buffer(&mean).buffer(&colours);
            let launch = launch.word(images as u32).buffer(&y);
            // SAFETY: the arguments are those of `input`: crops of 17 images, all that it is told
            // of, a mean of one image, colours of 17, and room for IMAGES of them.
            unsafe { launch.on_each(&device.compute, y.len()).unwrap() };
            let mut got = vec![0.0; y.len()];
            device.compute.read(&y, &mut got).unwrap();
            let (got, behind) = got.split_at(images * values);
            assert!(bits(got) == bits(want), "{channels} channels");
            assert_eq!(bits(behind), vec![0; 2 * values]);
        }
    });
}

const GEOMETRY: Geometry = Geometry { height: 16, width: 16, channels: 3, crop: 12 };

/// The small network of the tests on two devices, with parameters, and what it takes.
fn engine(purpose: Mode, a: &Augmentation) -> (Cuda, Form) {
    let config = Config::parse(common::NETWORK, &[], "net.toml").unwrap();
    let plan = Plan::new(&config, 10, purpose, &[0, 1], Classes::Known(3)).unwrap();
    let mut engine = Cuda::new(plan, &[0, standin::gpu(1)]).unwrap();
    alexnet::train::initial::initialise(&mut engine).unwrap();
    let form = engine.form(&a.mean).unwrap();
    (engine, form)
}

fn run(batch: usize, training: bool, step: u32) -> Run {
    Run { batch, training, seed: 3, step, first_image: 0 }
}

/// Other images and colours in the same memory.
fn overwrite(buffer: &mut CropBuffer, a: &Augmentation, crops: usize) {
    for crop in 0..crops {
        let draw = Draw { shift: [99.0; 4], ..a.centre() };
        buffer.view_mut().write(crop, &vec![7; GEOMETRY.image_len()], &draw, a);
    }
}

#[test]
fn a_batch_may_be_written_again_when_a_pass_returns() {
    standin::run("a_batch_may_be_written_again_when_a_pass_returns", &[], || {
        let a = augmentation(GEOMETRY);
        let outcome = |again: bool| {
            let (mut engine, form) = engine(Mode::Evaluation, &a);
            let mut all = Vec::new();
            // A batch that is full, and a smaller one after it.
            for count in [10, 6] {
                let mut buffer = crops(&form, &a, count, false);
                engine.forward(&run(count as usize, false, 0), buffer.view()).unwrap();
                if again {
                    overwrite(&mut buffer, &a, count as usize);
                }
                all.push(bits(&engine.probabilities().unwrap()));
            }
            all
        };
        assert!(outcome(true) == outcome(false), "forward");
        let outcome = |again: bool| {
            let (mut engine, form) = engine(Mode::Training, &a);
            let mut buffer = crops(&form, &a, 10, false);
            for step in 1..4 {
                buffer = if again { buffer } else { crops(&form, &a, 10, false) };
                for crop in 0..10 {
                    let draw = a.training(5, step, crop, crop, true);
                    buffer.view_mut().write(crop as usize, &image(&GEOMETRY, crop), &draw, &a);
                }
                let labels: Vec<u32> = (0..10).map(|i| (i + step) % 3).collect();
                engine.gradients(&run(10, true, step), buffer.view(), &labels).unwrap();
                if again {
                    overwrite(&mut buffer, &a, 10);
                }
                let rate = Rates {
                    weight: 0.01,
                    weight_decay: 5e-6,
                    bias: 0.02,
                    bias_decay: 0.0,
                    trust: None,
                };
                let layers = &engine.plan().layers;
                let rates: Vec<_> =
                    layers.iter().map(|l| l.weights.as_ref().map(|_| rate)).collect();
                engine.update(0.9, &rates).unwrap();
            }
            let tensors = 0..engine.plan().tensors().len();
            tensors.map(|t| bits(&engine.read(Slot::Value, t).unwrap().values)).collect::<Vec<_>>()
        };
        assert!(outcome(true) == outcome(false), "gradients");
    });
}

#[test]
fn bytes_go_up_and_no_more_than_the_batch_has() {
    standin::only("bytes_go_up_and_no_more_than_the_batch_has", &[], || {
        let a = augmentation(GEOMETRY);
        let (mut engine, form) = engine(Mode::Evaluation, &a);
        for count in [10, 6] {
            let buffer = crops(&form, &a, count, false);
            let before = standin::counters().upload_bytes;
            engine.forward(&run(count as usize, false, 0), buffer.view()).unwrap();
            engine.probabilities().unwrap();
            // To both devices: a byte a value, and six floats for the colours.
            let image = GEOMETRY.crop_len() as u64 + 4 * 6;
            assert_eq!(standin::counters().upload_bytes - before, 2 * u64::from(count) * image);
        }
    });
}

#[test]
fn what_does_not_fit_the_plan_is_refused() {
    standin::run("what_does_not_fit_the_plan_is_refused", &[], || {
        let a = augmentation(GEOMETRY);
        let (mut engine, form) = engine(Mode::Evaluation, &a);
        let refused = |engine: &mut Cuda, batch, images: CropView<'_>, words: &str| {
            let error = engine.forward(&run(batch, false, 0), images).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        let buffer = crops(&form, &a, 11, false);
        refused(&mut engine, 11, buffer.view(), "a batch of 11 images");
        refused(&mut engine, 10, buffer.view(), "at most 10 of 432 and 6");
        // Input that is no image comes as floats.
        refused(&mut engine, 1, CropView::Floats(&[0.0; 431]), "431 values");
        let error = engine.form(&[0.0; 3]).err().unwrap().to_string();
        assert!(error.contains("a mean of 3 values") && error.contains("432"), "{error}");
    });
}
