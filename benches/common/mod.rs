//! What the benchmarks share: images to load, and the CPU's name.
#![allow(dead_code)] // each benchmark uses its part

/// Side of the images in pixels; they have three channels.
pub const SIDE: usize = 256;

/// Image number `image`, `[SIDE, SIDE, 3]`: smooth colours with grain, which compress about like a
/// photograph of that size.
pub fn photograph_like(image: usize) -> Vec<u8> {
    let mut noise = image as u32;
    let mut value = |i: usize| {
        let (y, x) = ((i / 3 / SIDE) as f32, (i / 3 % SIDE) as f32);
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let grain = (noise >> 27) as f32 - 16.0;
        let wave = (x / 7.0 + (i % 3) as f32).sin() * (y / 9.0 + image as f32).cos();
        (128.0 + 70.0 * wave + 0.8 * grain) as u8
    };
    (0..SIDE * SIDE * 3).map(&mut value).collect()
}

/// The CPU's name, where the system tells it.
pub fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|line| line.starts_with("model name"));
    let name = name.and_then(|line| line.split_once(": ")).map(|(_, name)| name.to_string());
    name.unwrap_or_else(|| "unknown CPU".to_string())
}
