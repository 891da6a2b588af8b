//! Data sets whose images are stored as JPEG.

use super::*;
use alexnet::data::augment::{Augmentation, Geometry};
use alexnet::data::dataset::Dataset;
use alexnet::data::form::{CropView, Form};
use alexnet::data::loader::{Crops, Loader, Request};
use alexnet::data::order::Order;
use alexnet::data::shard::Store;
use std::sync::Arc;

const ALL: &str = "image-folder @src --size 40 --val-fraction 0.2";

#[test]
fn jpeg_records_are_near_the_raw_ones_and_smaller() {
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("src"));
    run(folder.path(), &format!("{ALL} --out @raw")).unwrap();
    run(folder.path(), &format!("{ALL} --out @jpeg --store jpeg")).unwrap();
    run(folder.path(), &format!("{ALL} --out @low --store jpeg --quality 40 --workers 1")).unwrap();
    run(folder.path(), &format!("{ALL} --out @low3 --store jpeg --quality 40 --workers 3"))
        .unwrap();
    let all = |name: &str| contents(&folder.path().join(name));
    assert!(all("low") == all("low3"), "workers change nothing");
    let open = |name: &str| Dataset::open(&folder.path().join(name)).unwrap();
    let (raw, jpeg, low) = (open("raw"), open("jpeg"), open("low"));
    assert_eq!((raw.header.store, raw.header.quality), (Store::Raw, None));
    assert_eq!((jpeg.header.store, jpeg.header.quality), (Store::Jpeg, Some(95)));
    let bytes = |data: &Dataset| data.header.splits["train"].shards[0].bytes;
    assert!(bytes(&jpeg) * 2 < bytes(&raw) && bytes(&low) < bytes(&jpeg));
    let splits = [&raw, &jpeg].map(|data| data.split("train").unwrap());
    assert_eq!(labels(&splits[0]), labels(&splits[1]));
    let mut sum = vec![0f64; 40 * 40 * 3];
    for i in 0..splits[0].len() {
        let [a, b] = [0, 1].map(|s| pixels(&splits[s], i, [40, 40, 3]));
        let off: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
        assert!(off / 4800.0 < 3.0, "image {i}: {}", off / 4800.0);
        sum.iter_mut().zip(b).for_each(|(s, x)| *s += f64::from(x));
    }
    // The mean image is that of the pixels which a reader gets.
    for (mean, sum) in jpeg.statistics.mean.iter().zip(sum) {
        assert!((f64::from(*mean) - sum / splits[1].len() as f64).abs() < 1e-4);
    }
    fails(
        folder.path(),
        &format!("{ALL} --out @o --quality 90"),
        2,
        "--quality is for --store jpeg",
    );
}

#[test]
fn the_loader_reads_them_with_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("src"));
    run(folder.path(), &format!("{ALL} --out @out --store jpeg")).unwrap();
    let data = Dataset::open(&folder.path().join("out")).unwrap();
    let batches = |threads| {
        let geometry = Geometry { height: 40, width: 40, channels: 3, crop: 32 };
        let mean = vec![100.0; geometry.crop_len()];
        let images = Arc::new(data.split("train").unwrap());
        let mut loader = Loader::start(Request {
            images,
            augmentation: Arc::new(Augmentation {
                geometry,
                flip: true,
                noise: None,
                random_crops: true,
                shared_crops: 1,
                scale: [1.0; 4],
                mean,
            }),
            crops: Crops::Centre,
            form: Form::Floats,
            batch: 10,
            seed: 1,
            order: Order::Sequential,
            epochs: 0..1,
            first_batch: 0,
            color_noise: Box::new(|_| true),
            prefetch: 2,
            threads,
        })
        .unwrap();
        let mut all = Vec::new();
        while let Some(batch) = loader.next().unwrap() {
            let CropView::Floats(images) = batch.images.view() else { panic!("not floats") };
            all.extend_from_slice(images);
        }
        all
    };
    let one = batches(1);
    assert!(one == batches(4));
    let first = pixels(&data.split("train").unwrap(), 0, [40, 40, 3]);
    assert_eq!(one[0], f32::from(first[(4 * 40 + 4) * 3]) - 100.0);
}

#[test]
fn a_damaged_jpeg_record_is_named() {
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("src"));
    run(folder.path(), &format!("{ALL} --out @out --store jpeg")).unwrap();
    let shard = folder.path().join("out/train-00000.shard");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[64 + 700] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let train = Dataset::open(&folder.path().join("out")).unwrap().split("train").unwrap();
    let error = errors::sentence(&train.read(0, &Area::all(40, 40), &mut [0; 4800]).unwrap_err());
    assert!(error.contains("record 0 (from Eel/"), "{error}");
    assert!(error.contains("train-00000.shard is damaged"), "{error}");
    train.read(5, &Area::all(40, 40), &mut [0; 4800]).unwrap();
}
