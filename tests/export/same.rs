//! What a file computes beside what `predict` computes.

use crate::common::World;
use crate::graph::Array;

/// The logarithms of the probabilities that `predict` gives `image`, by class.
pub fn predicted(world: &World, checkpoint: &str, image: &str) -> Vec<f64> {
    let command = format!("predict --checkpoint {checkpoint} --json --top 100000 {image}");
    let answers = world.json(&command);
    let top = answers[0]["top"].as_array().unwrap();
    let mut all = vec![f64::NAN; top.len()];
    for one in top {
        let probability = one["probability"].as_f64().unwrap();
        all[one["index"].as_u64().unwrap() as usize] = probability.ln();
    }
    assert!(all.iter().all(|p| p.is_finite()), "{all:?}");
    all
}

/// Logits that agree with `predicted` within 1e-4 of the largest.
#[track_caller]
pub fn assert_same(what: &str, logits: &[f64], predicted: &[f64]) {
    assert_eq!(logits.len(), predicted.len(), "{what}");
    let largest = logits.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = logits.iter().map(|l| (l - largest).exp()).sum();
    let size = logits.iter().fold(0.0f64, |most, l| most.max(l.abs()));
    for (logit, wanted) in logits.iter().zip(predicted) {
        let found = logit - largest - sum.ln();
        assert!(
            (found - wanted).abs() <= 1e-4 * size,
            "{what}: {found} is not {wanted}, of {size}"
        );
    }
    let span = largest - logits.iter().copied().fold(f64::MAX, f64::min);
    assert!(span > 0.05 && size < 1e3, "{what}: the logits {logits:?} tell nothing");
}

/// The middle `crop` × `crop` pixels of an image file, [1, channels, crop, crop].
pub fn crop(world: &World, image: &str, crop: u32, grey: bool) -> Array {
    let image = image::open(world.path(image)).unwrap();
    let (left, top) = ((image.width() - crop) / 2, (image.height() - crop) / 2);
    let image = image.crop_imm(left, top, crop, crop);
    let (channels, pixels) = match grey {
        true => (1, image.to_luma8().into_raw()),
        false => (3, image.to_rgb8().into_raw()),
    };
    let plane = |c: usize| pixels.iter().skip(c).step_by(channels).map(|&p| f64::from(p));
    let side = crop as usize;
    let values = (0..channels).flat_map(plane).collect();
    Array { shape: vec![1, channels, side, side], values }
}
