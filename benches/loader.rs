use alexnet::data::augment::*;
use std::time::Instant;
fn main() {
    let g = Geometry { height: 256, width: 256, channels: 3, crop: 224 };
    let a = Augmentation {
        geometry: g,
        flip: true,
        noise: Some(Noise { sigma: 0.1, vectors: vec![1.0; 9], rescale: true }),
        shared_crops: 1,
        mean: vec![100.0; g.crop_len()],
    };
    let images = vec![7u8; g.image_len() * 256];
    let mut out = vec![0f32; g.crop_len() * 128];
    for mode in 0..3 {
        for batch in [1usize, 128] {
            let mut best = f64::MAX;
            for _ in 0..8 {
                let t = Instant::now();
                for i in 0..1024 {
                    let mut d = a.training(1, 1, i as u32, 0, true);
                    if mode == 1 {
                        d.flip = false
                    }
                    if mode == 2 {
                        d.flip = true
                    }
                    a.apply(
                        &mut out[(i % batch) * g.crop_len()..][..g.crop_len()],
                        &images[(i % 2) * g.image_len()..][..g.image_len()],
                        &d,
                    );
                }
                best = best.min(t.elapsed().as_secs_f64());
            }
            println!("mode {mode} batch {batch}: {:.0}/s", 1024.0 / best);
        }
    }
}
