use super::*;
use crate::data::augment::{Geometry, Noise};
use crate::data::form::{Bytes, CropView};
use crate::data::order::Shuffle;
use std::sync::atomic::{AtomicUsize, Ordering};

const ALL: Area = Area { rows: 0..GEOMETRY.height, columns: 0..GEOMETRY.width };
const GEOMETRY: Geometry = Geometry { height: 12, width: 14, channels: 3, crop: 9 };

/// What a made-up data set does at one image.
#[derive(Clone, Copy)]
enum At {
    Nothing,
    /// This and all later images are damaged; the one before is so slow that a later one may be
    /// found first.
    Fail(usize),
    Panic(usize),
    /// Panics at an image while the read of the other never returns.
    PanicBesideSleep(usize, usize),
}

/// Images whose bytes follow from their index, counting the reads.
struct MadeUp {
    n: usize,
    at: At,
    reads: AtomicUsize,
}

impl Images for MadeUp {
    fn len(&self) -> usize {
        self.n
    }
    fn label(&self, index: usize) -> u32 {
        index as u32 * 10
    }
    fn read(&self, index: usize, _: &Area, pixels: &mut [u8]) -> Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        match self.at {
            At::Fail(at) => {
                if index + 1 == at {
                    std::thread::sleep(Duration::from_millis(50));
                }
                ensure!(index < at, "record {index} is damaged");
            }
            At::Panic(at) => assert!(index != at, "planted panic"),
            At::PanicBesideSleep(at, asleep) => {
                if index == asleep {
                    std::thread::sleep(Duration::from_secs(3600));
                }
                assert!(index != at, "planted panic");
            }
            At::Nothing => {}
        }
        for (i, pixel) in pixels.iter_mut().enumerate() {
            *pixel = (i * 7 + index * 31 + i * index) as u8;
        }
        Ok(())
    }
}

fn made_up(n: usize, at: At) -> Arc<MadeUp> {
    Arc::new(MadeUp { n, at, reads: AtomicUsize::new(0) })
}

fn augmentation() -> Augmentation {
    let mean = (0..GEOMETRY.crop_len()).map(|i| i as f32 * 0.3).collect();
    let noise = Noise { sigma: 0.1, vectors: vec![50.0; 9], rescale: true };
    Augmentation {
        geometry: GEOMETRY,
        flip: true,
        noise: Some(noise),
        random_crops: true,
        shared_crops: 1,
        mean,
        scale: [0.5, 1.0, 0.017, 1.0],
    }
}

fn request(images: Arc<MadeUp>) -> Request {
    Request {
        images,
        augmentation: Arc::new(augmentation()),
        crops: Crops::Random,
        form: Form::Floats,
        batch: 8,
        seed: 5,
        order: Order::Shuffled(Shuffle::Full),
        epochs: 1..4,
        first_batch: 0,
        color_noise: Box::new(|epoch| epoch != 2),
        prefetch: 2,
        threads: 2,
    }
}

/// What a batch held when it came.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    /// Crops as floats; of crops as bytes their colours.
    images: Vec<f32>,
    bytes: Vec<u8>,
    labels: Vec<u32>,
    indices: Vec<u32>,
    /// Epoch, number, whether it is the last.
    place: (u32, u32, bool),
}

impl Seen {
    fn of(batch: &Batch) -> Seen {
        let (images, bytes) = match batch.images.view() {
            CropView::Floats(images) => (images, &[][..]),
            CropView::Bytes { pixels, colours } => (colours, pixels),
        };
        Seen {
            images: images.to_vec(),
            bytes: bytes.to_vec(),
            labels: batch.labels.clone(),
            indices: batch.indices.clone(),
            place: (batch.epoch, batch.number, batch.last),
        }
    }
}

/// Bytes in plain memory, counting how often it is taken.
fn bytes(taken: &Arc<AtomicUsize>) -> Form {
    let taken = Arc::clone(taken);
    Form::Bytes(Arc::new(move |bytes| {
        taken.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(vec![0xaa_u8; bytes]) as Bytes)
    }))
}

fn all(request: Request) -> Vec<Seen> {
    let mut loader = Loader::start(request).unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = loader.next().unwrap() {
        batches.push(Seen::of(&batch));
        loader.recycle(batch);
    }
    assert!(loader.next().unwrap().is_none());
    batches
}

/// Every value of three epochs, from the data set, the order and the draws, image by image.
#[test]
fn batches_hold_the_drawn_crops_in_the_order_of_the_epoch() {
    for shared_crops in [1, 5] {
        let a = Augmentation { shared_crops, ..augmentation() };
        let images = made_up(21, At::Nothing);
        let request = Request { augmentation: Arc::new(a.clone()), ..request(images.clone()) };
        let mut batches = all(request).into_iter();
        let mut order = Vec::new();
        let mut orders = Vec::new();
        for epoch in 1..4 {
            Order::Shuffled(Shuffle::Full).fill(&mut order, 5, epoch, 21);
            orders.push(order.clone());
            for (number, indices) in order.chunks(8).enumerate() {
                let batch = batches.next().unwrap();
                assert_eq!(batch.place, (epoch, number as u32, number == 2));
                assert_eq!(batch.indices, indices);
                assert_eq!(batch.labels, indices.iter().map(|i| i * 10).collect::<Vec<_>>());
                assert_eq!(batch.images.len(), indices.len() * GEOMETRY.crop_len());
                for (i, out) in batch.images.chunks(GEOMETRY.crop_len()).enumerate() {
                    let mut pixels = vec![0; GEOMETRY.image_len()];
                    images.read(indices[i] as usize, &ALL, &mut pixels).unwrap();
                    let position = (number * 8 + i) as u32;
                    let draw = a.training(5, epoch, indices[i], position, epoch != 2);
                    let mut expected = vec![0.0; GEOMETRY.crop_len()];
                    a.apply(&mut expected, &pixels, &draw);
                    assert_eq!(out, expected);
                }
            }
        }
        assert!(batches.next().is_none());
        assert_ne!(orders[0], orders[1]);
        assert_ne!(orders[1], orders[2]);
    }
}

#[test]
fn any_number_of_threads_gives_the_same_batches() {
    for form in [Form::Floats, bytes(&Arc::default())] {
        let with = |threads, prefetch, crops| {
            let (form, request) = (form.clone(), request(made_up(50, At::Nothing)));
            all(Request { form, threads, prefetch, crops, ..request })
        };
        for crops in [Crops::Random, Crops::Centre, Crops::Ten] {
            let one = with(1, 1, crops);
            assert_eq!(one.len(), 21);
            assert!(one == with(2, 3, crops) && one == with(8, 0, crops));
        }
    }
}

/// With the arithmetic at the head of `augment`, bytes become the floats in every bit: flipped or
/// not, with noise and rescaled (not in epoch 2), one crop and ten, in colour and grey.
#[test]
fn bytes_become_the_same_floats() {
    for channels in [1, 3] {
        let geometry = Geometry { channels, ..GEOMETRY };
        let mean: Vec<f32> = (0..geometry.crop_len()).map(|i| i as f32 * 0.37).collect();
        let noise = (channels == 3).then(|| augmentation().noise.unwrap());
        let a = Arc::new(Augmentation { geometry, noise, mean, ..augmentation() });
        for crops in [Crops::Random, Crops::Centre, Crops::Ten] {
            let with = |form| {
                let request = request(made_up(21, At::Nothing));
                all(Request { augmentation: a.clone(), crops, form, ..request })
            };
            let (floats, bytes) = (with(Form::Floats), with(bytes(&Arc::default())));
            assert_eq!(floats.len(), bytes.len());
            for (floats, bytes) in floats.iter().zip(&bytes) {
                let images = bytes.bytes.chunks(geometry.crop_len());
                let ours: Vec<u32> = images
                    .zip(bytes.images.chunks(2 * channels))
                    .flat_map(|(pixels, colours)| {
                        let values = pixels.iter().zip(&a.mean).enumerate();
                        values.map(move |(i, (&pixel, mean))| {
                            let centred = f32::from(pixel) - mean;
                            let (shift, scale) =
                                (colours[i % channels], colours[channels + i % channels]);
                            ((centred + shift) * scale).to_bits()
                        })
                    })
                    .collect();
                let theirs: Vec<u32> = floats.images.iter().map(|v| v.to_bits()).collect();
                assert!(ours == theirs, "{crops:?}, {channels} channels, {:?}", bytes.place);
                let seen = Seen { images: vec![], bytes: vec![], ..floats.clone() };
                assert_eq!(seen, Seen { images: vec![], bytes: vec![], ..bytes.clone() });
            }
        }
    }
}

#[test]
fn continuing_at_any_batch_gives_the_rest_of_the_run() {
    let batches = |shared_crops, epochs, first_batch| {
        let augmentation = Arc::new(Augmentation { shared_crops, ..augmentation() });
        let order = Order::Shuffled(Shuffle::Window { block: 4, window: 3 });
        let request = request(made_up(50, At::Nothing));
        all(Request { augmentation, order, epochs, first_batch, ..request })
    };
    for shared_crops in [1, 32] {
        let whole = batches(shared_crops, 1..4, 0);
        for done in [1, 6, 7, 9, 20] {
            let rest = batches(shared_crops, 1 + done / 7..4, done % 7);
            assert!(rest == whole[done as usize..], "{done}");
        }
        // The end of an epoch may be given as its last batch, too.
        assert!(batches(shared_crops, 1..4, 7) == whole[7..]);
    }
    assert!(batches(1, 1..1, 0).is_empty());
}

#[test]
fn centre_and_ten_crops_are_those_of_the_augmentation() {
    let a = augmentation();
    let sequential = |crops| {
        let request = request(made_up(10, At::Nothing));
        all(Request { crops, order: Order::Sequential, epochs: 0..1, ..request })
    };
    let (centre, ten) = (sequential(Crops::Centre), sequential(Crops::Ten));
    assert_eq!(ten[1].indices, [8, 9]);
    assert_eq!(ten[1].images.len(), 20 * GEOMETRY.crop_len());
    let mut pixels = vec![0; GEOMETRY.image_len()];
    made_up(10, At::Nothing).read(9, &ALL, &mut pixels).unwrap();
    for (i, draw) in a.ten().iter().enumerate() {
        let mut expected = vec![0.0; GEOMETRY.crop_len()];
        a.apply(&mut expected, &pixels, draw);
        assert_eq!(ten[1].images.chunks(GEOMETRY.crop_len()).nth(10 + i).unwrap(), expected);
    }
    let mut expected = vec![0.0; GEOMETRY.crop_len()];
    a.apply(&mut expected, &pixels, &a.centre());
    assert_eq!(centre[1].images[GEOMETRY.crop_len()..], expected);
}

/// The first damaged image of the order is the one reported, after all batches before it.
#[test]
fn a_read_error_comes_in_its_place_with_its_context() {
    for threads in [1, 2, 8] {
        let request = request(made_up(100, At::Fail(37)));
        let order = Order::Sequential;
        let mut loader = Loader::start(Request { order, threads, ..request }).unwrap();
        for number in 0..4 {
            assert_eq!(loader.next().unwrap().unwrap().number, number);
        }
        let error = format!("{:#}", loader.next().unwrap_err());
        assert_eq!(error, "cannot load image 37 of the data set: record 37 is damaged");
        assert!(loader.next().unwrap_err().to_string().contains("stopped after an error"));
    }
}

#[test]
fn a_panic_in_a_worker_is_an_error_within_5_seconds() {
    for at in [At::Panic(20), At::PanicBesideSleep(20, 16)] {
        let since = Instant::now();
        let order = Order::Sequential;
        let mut loader = Loader::start(Request { order, ..request(made_up(100, at)) }).unwrap();
        let error = loop {
            if let Err(error) = loader.next() {
                break error;
            }
        };
        assert!(error.to_string().contains("planted panic"), "{error}");
        assert!(loader.next().is_err());
        drop(loader);
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    }
    // It does not wait for its turn behind batches that are ready.
    let order = Order::Sequential;
    let mut loader =
        Loader::start(Request { order, ..request(made_up(100, At::Panic(20))) }).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(loader.next().unwrap_err().to_string().contains("planted panic"));
    let color_noise = Box::new(|_| panic!("planted panic"));
    let request = Request { color_noise, ..request(made_up(100, At::Nothing)) };
    let error = Loader::start(request).unwrap().next().unwrap_err();
    assert!(error.to_string().contains("planted panic"), "{error}");
}

#[test]
fn dropping_a_loader_ends_its_threads() {
    for taken in [0, 1, 5] {
        let images = made_up(100_000, At::Nothing);
        let mut loader = Loader::start(request(Arc::clone(&images))).unwrap();
        for _ in 0..taken {
            loader.next().unwrap();
        }
        let since = Instant::now();
        drop(loader);
        assert!(since.elapsed() < PATIENCE, "{:?}", since.elapsed());
        // The loader's thread is gone, since nothing holds the images any more.
        assert_eq!(Arc::strong_count(&images), 1);
        // Those taken, two in the queue, one waiting and one being made, of 8 images each.
        assert!(images.reads.load(Ordering::Relaxed) <= (taken + 4) * 8);
    }
}

#[test]
fn buffers_go_round() {
    let rounds = || Request { epochs: 1..40, ..request(made_up(50, At::Nothing)) };
    let mut loader = Loader::start(rounds()).unwrap();
    let mut buffers = std::collections::BTreeSet::new();
    let mut count = 0;
    while let Some(batch) = loader.next().unwrap() {
        let CropView::Floats(images) = batch.images.view() else { panic!("not floats") };
        buffers.insert((images.as_ptr(), batch.labels.as_ptr(), batch.indices.as_ptr()));
        count += 1;
        loader.recycle(batch);
    }
    assert_eq!(count, 39 * 7);
    // Two in the queue, one waiting for room, one in the caller's hands.
    assert!(buffers.len() <= 4, "{} buffers", buffers.len());

    let taken = Arc::default();
    let form = bytes(&taken);
    all(Request { form, ..rounds() });
    let taken = taken.load(Ordering::Relaxed);
    assert!((1..=4).contains(&taken), "memory is taken {taken} times");
}

#[test]
fn memory_that_cannot_be_taken_is_an_error() {
    let form = Form::Bytes(Arc::new(|bytes| Err(anyhow!("no {bytes} bytes of pinned memory"))));
    let mut loader = Loader::start(Request { form, ..request(made_up(50, At::Nothing)) }).unwrap();
    let error = loader.next().unwrap_err().to_string();
    assert_eq!(error, format!("no {} bytes of pinned memory", 8 * GEOMETRY.crop_len()));
}

/// A device that is slower than the loader finds its batches ready.
#[test]
fn a_batch_that_is_ready_is_not_waited_for() {
    let images = made_up(400, At::Nothing);
    let mut loader = Loader::start(Request { epochs: 0..1, ..request(images.clone()) }).unwrap();
    for number in 0..49 {
        // The next batch is begun after this one is in the queue.
        while images.reads.load(Ordering::Relaxed) <= (number + 1) * 8 {
            std::thread::sleep(Duration::from_micros(100));
        }
        let batch = loader.next().unwrap().unwrap();
        assert_eq!(batch.number as usize, number);
        loader.recycle(batch);
    }
    assert_eq!(loader.waited(), Duration::ZERO);
}

#[test]
fn waiting_is_counted() {
    struct Slow;
    impl Images for Slow {
        fn len(&self) -> usize {
            4
        }
        fn label(&self, _: usize) -> u32 {
            0
        }
        fn read(&self, _: usize, _: &Area, _: &mut [u8]) -> Result<()> {
            std::thread::sleep(Duration::from_millis(25));
            Ok(())
        }
    }
    let request = request(made_up(4, At::Nothing));
    let request = Request { images: Arc::new(Slow), epochs: 0..1, threads: 1, ..request };
    let mut loader = Loader::start(request).unwrap();
    assert_eq!(loader.waited(), Duration::ZERO);
    while loader.next().unwrap().is_some() {}
    assert!(loader.waited() > Duration::from_millis(50), "{:?}", loader.waited());
}

#[test]
fn a_request_that_does_not_hold_together_is_refused() {
    let message = |request| Loader::start(request).err().unwrap().to_string();
    let good = || request(made_up(50, At::Nothing));
    assert!(message(request(made_up(0, At::Nothing))).contains("no images"));
    assert!(message(Request { batch: 0, ..good() }).contains("batch of 0"));
    assert!(message(Request { threads: 0, ..good() }).contains("0 loader threads"));
    assert!(message(Request { first_batch: 8, ..good() }).contains("has 7 (50 images"));
    let augmentation = Arc::new(Augmentation { mean: vec![], ..augmentation() });
    assert!(message(Request { augmentation, ..good() }).contains("mean has 0 values"));
}
