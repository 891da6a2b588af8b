use super::*;

fn augmentation(height: usize, width: usize, channels: usize, crop: usize) -> Augmentation {
    let geometry = Geometry { height, width, channels, crop };
    let mean = vec![0.0; geometry.crop_len()];
    let scale = [1.0; 4];
    Augmentation {
        geometry,
        flip: true,
        noise: None,
        random_crops: true,
        shared_crops: 1,
        mean,
        scale,
    }
}

/// The paper's geometry, without noise.
fn paper() -> Augmentation {
    augmentation(256, 256, 3, 224)
}

fn noise(rescale: bool) -> Noise {
    // Orthogonal components of lengths 100, 20 and 5, as of colours: mostly brightness.
    let (a, b, c) = (100.0 / 3.0, 20.0 / 3.0, 5.0 / 3.0);
    let vectors = vec![2.0 * a, 2.0 * a, a, -2.0 * b, b, 2.0 * b, c, -2.0 * c, 2.0 * c];
    Noise { sigma: 0.1, vectors, rescale }
}

fn place(top: usize, left: usize, flip: bool) -> Draw {
    Draw { top, left, flip, shift: [0.0; 4], scale: [1.0; 4] }
}

/// An image of 3×4 pixels whose red counts 0, 1, 2 …, green is 100 more and blue 200 more.
#[test]
fn crops_by_hand() {
    let mut a = augmentation(3, 4, 3, 2);
    let image: Vec<u8> = (0..12).flat_map(|i| [i, 100 + i, 200 + i]).collect();
    let mut out = [0.0; 12];
    a.apply(&mut out, &image, &place(1, 2, false));
    assert_eq!(out, [6., 106., 206., 7., 107., 207., 10., 110., 210., 11., 111., 211.]);
    a.apply(&mut out, &image, &place(0, 1, true));
    assert_eq!(out, [2., 102., 202., 1., 101., 201., 6., 106., 206., 5., 105., 205.]);
    // The mean is not flipped: 10 is subtracted on the left of the crop.
    a.mean = [10., 10., 10., 0., 0., 0.].repeat(2);
    let draw =
        Draw { shift: [1.0, -2.0, 4.0, 9.0], scale: [0.5, 0.5, 2.0, 9.0], ..place(0, 1, true) };
    a.apply(&mut out, &image, &draw);
    assert_eq!(out, [-3.5, 45., 392., 1., 49.5, 410., -1.5, 47., 400., 3., 51.5, 418.]);
}

/// CRC-32 of the crops' bytes and two of their values, from numpy:
/// ```python
/// import numpy as np, zlib
/// for c in (3, 1):
///     h, w, crop = 40, 37, 35
///     n = np.arange(h * w * c)
///     image = ((n * 37 + n // 11) % 256).astype(np.uint8).reshape(h, w, c)
///     mean = np.arange(crop * crop * c) % 251 * np.float32(0.7)
///     mean = mean.astype(np.float32).reshape(crop, crop, c)
///     shift = np.array([1.25, -7.3, 0.1], np.float32)[:c]
///     scale = np.float32(1) / np.float32(1.1)
///     for top, left, flip in [(0, 0, 0), (5, 2, 0), (3, 1, 1)]:
///         x = image[top:top + crop, left:left + crop].astype(np.float32)
///         y = (((x[:, ::-1] if flip else x) - mean) + shift) * scale
///         print(hex(zlib.crc32(np.ascontiguousarray(y).tobytes())), y[0, 0, 0], y[-1, -1, -1])
/// ```
#[test]
fn crops_have_the_bits_of_numpy() {
    let golden = [
        (3, 0, 0, false, 0x2d8e3b16, 1.136_363_6, 100.090_904),
        (3, 5, 2, false, 0x6172d6d5, 66.590_904, -67.181_816),
        (3, 3, 1, true, 0xd2ec884f, 107.499_99, 77.363_63),
        (1, 0, 0, false, 0x05d944e6, 1.136_363_6, -94.318_18),
        (1, 5, 2, false, 0xd985f83e, 22.954_544, -72.5),
        (1, 3, 1, true, 0x6647fade, 36.590_908, -24.318_18),
    ];
    for (channels, top, left, flip, crc, first, last) in golden {
        let mut a = augmentation(40, 37, channels, 35);
        a.mean = (0..a.geometry.crop_len()).map(|i| (i % 251) as f32 * 0.7).collect();
        let image: Vec<u8> =
            (0..a.geometry.image_len()).map(|i| ((i * 37 + i / 11) % 256) as u8).collect();
        let mut out = vec![0.0; a.geometry.crop_len()];
        let shift = [1.25, -7.3, 0.1, 0.0];
        a.apply(&mut out, &image, &Draw { shift, scale: [1.0 / 1.1; 4], ..place(top, left, flip) });
        let bytes: Vec<u8> = out.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!((out[0], out[out.len() - 1]), (first, last));
        assert_eq!(crc32fast::hash(&bytes), crc, "{channels} {top} {left} {flip}");
    }
}

/// Places and flips for (seed, epoch, image), from Philox-4x32-10 and Lemire's method written in
/// Python from their papers: key = seed, counter = [0, image, epoch, 4 << 24]; the first word gives
/// the row in 0..33, the second the column, the third the flip.
#[test]
fn draws_have_the_values_of_python() {
    let golden = [
        ((1, 1, 0), (19, 22, true)),
        ((1, 1, 1), (13, 30, false)),
        ((1, 2, 0), (3, 7, true)),
        ((7 << 32, 90, 1_281_166), (3, 13, true)),
    ];
    for ((seed, epoch, image), (top, left, flip)) in golden {
        assert_eq!(paper().training(seed, epoch, image, 5, true), place(top, left, flip));
    }
}

#[test]
fn every_place_is_reached_and_half_of_the_crops_are_flipped() {
    let n = 33 * 33 * 40;
    let mut counts = vec![0; 33 * 33];
    let mut flips = 0;
    for image in 0..n {
        let draw = paper().training(1, 1, image, image, true);
        counts[draw.top * 33 + draw.left] += 1;
        flips += u32::from(draw.flip);
    }
    // 40 expected; 5 and more standard deviations of sqrt(40) to either side.
    assert!(counts.iter().all(|c| (5..80).contains(c)), "{:?}", counts.iter().min());
    // Chi-square with 1088 degrees of freedom: deviation sqrt(2 · 1088) = 46.6.
    let chi: f64 = counts.iter().map(|&c| (c as f64 - 40.0).powi(2) / 40.0).sum();
    assert!((chi - 1088.0).abs() < 5.0 * 46.6, "{chi}");
    let (n, flips) = (f64::from(n), f64::from(flips));
    assert!((flips - n / 2.0).abs() < 5.0 * (n / 4.0).sqrt(), "{flips} of {n}");
    let still = Augmentation { flip: false, ..paper() };
    assert!((0..100).all(|i| still.training(1, 1, i, i, true) == {
        let draw = paper().training(1, 1, i, i, true);
        place(draw.top, draw.left, false)
    }));
}

/// Along each component: mean 0, deviation sigma times its length, no correlation with the others.
#[test]
fn color_noise_has_the_asked_deviation_along_each_component() {
    let a = Augmentation { noise: Some(noise(false)), ..paper() };
    let n = 40_000;
    let lengths = [100.0, 20.0, 5.0];
    let mut sums = [0.0; 3];
    let mut products = [[0.0; 3]; 3];
    for image in 0..n {
        let draw = a.training(1, 1, image, image, true);
        assert_eq!((draw.shift[3], draw.scale), (0.0, [1.0; 4]));
        let alphas: [f64; 3] = std::array::from_fn(|i| {
            let component = noise(false).vectors[3 * i..3 * i + 3].to_vec();
            let dot: f64 = (0..3).map(|c| f64::from(component[c]) * f64::from(draw.shift[c])).sum();
            dot / (lengths[i] * lengths[i])
        });
        for i in 0..3 {
            sums[i] += alphas[i];
            (0..3).for_each(|j| products[i][j] += alphas[i] * alphas[j]);
        }
    }
    let n = f64::from(n);
    for i in 0..3 {
        // Five standard errors: 5 · 0.1 / sqrt(n), 5 · 0.01 · sqrt(2/n), 5 · 0.01 / sqrt(n).
        assert!((sums[i] / n).abs() < 0.0025, "{sums:?}");
        assert!((products[i][i] / n - 0.01).abs() < 0.00036, "{products:?}");
        (0..i).for_each(|j| assert!((products[i][j] / n).abs() < 0.00025, "{products:?}"));
    }
}

#[test]
fn color_noise_is_for_coloured_training_images_only() {
    let a = Augmentation { noise: Some(noise(true)), ..paper() };
    let with = a.training(1, 1, 0, 0, true);
    assert_ne!(with.shift, [0.0; 4]);
    assert_eq!(with.scale, [1.0 / 1.1; 4]);
    assert_ne!(with.shift, a.training(1, 1, 1, 0, true).shift);
    assert_ne!(with.shift, a.training(1, 2, 0, 0, true).shift);
    // Without it the crop is the same one.
    assert_eq!(a.training(1, 1, 0, 0, false), place(with.top, with.left, with.flip));
    assert_eq!(a.centre(), place(16, 16, false));
    let grey = Noise { vectors: vec![50.0], ..noise(true) };
    let grey = Augmentation { noise: Some(grey), ..augmentation(256, 256, 1, 224) };
    assert_eq!(grey.training(1, 1, 0, 0, true), place(with.top, with.left, with.flip));
}

#[test]
fn shared_crops_change_every_32_images_of_the_epoch_and_colors_every_image() {
    let a = Augmentation { shared_crops: 32, noise: Some(noise(false)), ..paper() };
    let draws: Vec<Draw> = (0..64).map(|p| a.training(1, 1, 1000 - p, p, true)).collect();
    let crop = |d: &Draw| (d.top, d.left, d.flip);
    for (position, draw) in draws.iter().enumerate() {
        assert_eq!(crop(draw), crop(&draws[position / 32 * 32]));
        assert!(draws[..position].iter().all(|d| d.shift != draw.shift));
    }
    assert_ne!(crop(&draws[0]), crop(&draws[32]));
}

#[test]
fn crops_from_the_centre_alone_are_still_flipped_and_coloured() {
    let random = Augmentation { noise: Some(noise(false)), ..paper() };
    let centre = Augmentation { random_crops: false, ..random.clone() };
    let draws =
        |a: &Augmentation| (0..64).map(|i| a.training(1, 1, i, i, true)).collect::<Vec<_>>();
    for (random, draw) in draws(&random).iter().zip(draws(&centre)) {
        assert_eq!(draw, Draw { top: 16, left: 16, ..*random });
    }
}

#[test]
fn ten_crops_are_the_corners_and_the_middle_twice() {
    let places = [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)];
    let expected: Vec<Draw> = [false, true]
        .iter()
        .flat_map(|&flip| places.map(|(top, left)| place(top, left, flip)))
        .collect();
    assert_eq!(paper().ten().to_vec(), expected);
}

#[test]
fn what_does_not_fit_is_said() {
    let message = |a: Augmentation| a.check().unwrap_err().to_string();
    assert!(paper().check().is_ok());
    assert!(message(augmentation(256, 200, 3, 224)).contains("224×224 pixels does not fit"));
    assert!(message(augmentation(256, 256, 4, 224)).contains("4 channels"));
    assert!(message(Augmentation { mean: vec![0.0; 3], ..paper() }).contains("3 values"));
    let vectors = vec![1.0; 3];
    let short = Noise { vectors, ..noise(false) };
    assert!(message(Augmentation { noise: Some(short), ..paper() }).contains("need 9"));
    assert!(message(Augmentation { shared_crops: 0, ..paper() }).contains("not 0"));
}
