//! Which tile and how many splits are fastest on a GPU, for each product of the paper's layers: what
//! the model in `src/gpu/product.rs` is held against.
//!
//! `cargo bench --bench tiles [-- [--device cuda:N] [--precision f32|tf32|bf16]]`, batch 128, one of two
//! towers. Prints a line for each way: layer and direction, warps x sums of a thread, splits, and
//! microseconds with the reduction of the splits, median of ten; then for each product what the
//! model chooses, what was fastest, and what that would gain.

#[path = "../tests/paper/mod.rs"]
mod paper;

use alexnet::gpu::compile::{Compiler, default_cache};
use alexnet::gpu::device::Device;
use alexnet::gpu::launch::{Launch, constants};
use alexnet::gpu::library::driver_version;
use alexnet::gpu::memory::Buffer;
use alexnet::gpu::precision::Precision;
use alexnet::gpu::product::{ProductShape, TILES, Tiling};
use alexnet::kernel_source;
use anyhow::{Context, Result, bail};
use paper::Variant;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const BATCH: usize = 128;
const RUNS: usize = 10;
/// Numbers of splits that are tried, as far as they leave 256 values a sum.
const SPLITS: [usize; 9] = [1, 2, 3, 4, 6, 8, 12, 16, 24];

/// The GPU's number, and the precisions to try.
fn options() -> Result<(usize, Vec<Precision>)> {
    let all = [Precision::F32, Precision::Tf32, Precision::Bf16];
    let (mut gpu, mut precisions) = (0, all.to_vec());
    // Cargo adds --bench.
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} needs a value"))?;
        match (arg.as_str(), value.as_str()) {
            ("--device", device) => {
                let number = device.strip_prefix("cuda:").context("--device is cuda:N")?;
                gpu = number.parse().context("--device is cuda:N")?;
            }
            ("--precision", name) if all.iter().any(|p| p.name() == name) => {
                precisions.retain(|precision| precision.name() == name);
            }
            _ => bail!("{arg} {value} is none of --device cuda:N and --precision f32|tf32|bf16"),
        }
    }
    Ok((gpu, precisions))
}

/// Every tile with every number of splits that makes sense.
fn ways(product: ProductShape) -> Vec<Tiling> {
    let tiles = TILES.into_iter().filter(|tile| tile.suits(product));
    let splits = |tile| {
        let deep = SPLITS.into_iter().filter(move |s| product.depth / s >= 256 || *s == 1);
        let some = deep.filter(move |_| product.may_split).chain([1]);
        some.map(move |splits| Tiling::new(product, tile, splits))
    };
    let mut all: Vec<Tiling> = tiles.flat_map(splits).collect();
    all.dedup();
    all
}

/// A variant's kernel and, where it leaves parts, the reduction.
fn loaded(variant: &Variant, device: &Device) -> Result<(Launch, Option<Launch>)> {
    let Variant { source, kernel, grid, block, splits, .. } = *variant;
    let work = Launch::new(source, variant.constants.clone(), kernel, grid, block);
    let work = work.with_shared(variant.shared);
    work.load(device)?;
    if splits == 1 {
        return Ok((work, None));
    }
    let out = variant.buffers.last().context("a kernel without a result")? / splits;
    let all = constants(&[("COUNT", out), ("SPLITS", splits)]);
    let reduce = Launch::each(kernel_source!("reduce.cu"), all, "reduce_splits", out.div_ceil(4));
    reduce.load(device)?;
    Ok((work, Some(reduce)))
}

/// Microseconds of the way, the reduction included; median.
fn time(variant: &Variant, device: &Device, buffers: &[Buffer<f32>; 3]) -> Result<f32> {
    let [from, to, sum] = buffers;
    let (work, reduce) = loaded(variant, device)?;
    let run = || -> Result<()> {
        let inputs = variant.buffers.len() - 1;
        // SAFETY: a variant lists its kernel's buffers in order; each buffer here is as long as
        // the longest of all variants, and the reduction reads what the first kernel wrote.
        unsafe {
            work.run(&device.compute, |a| (0..inputs).fold(a, |a, _| a.buffer(from)).buffer(to))?;
            if let Some(reduce) = &reduce {
                reduce.run(&device.compute, |a| a.buffer(to).nothing().nothing().buffer(sum))?;
            }
        }
        Ok(())
    };
    run()?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let [begin, end] = [device.event(true)?, device.event(true)?];
        device.compute.record(&begin)?;
        run()?;
        device.compute.record(&end)?;
        times.push(1000.0 * begin.milliseconds_until(&end)?);
    }
    times.sort_by(f32::total_cmp);
    Ok(times[RUNS / 2])
}

/// "2x4 8x8" and splits, from a variant's constants.
fn name(variant: &Variant) -> String {
    let value = |name: &str| {
        let found = variant.constants.iter().find(|(n, _)| *n == name);
        found.map_or("?", |(_, value)| value.as_str())
    };
    let warps = format!("{}x{}", value("TILE_WARPS_M"), value("TILE_WARPS_N"));
    let thread = format!("{}x{}", value("TILE_THREAD_M"), value("TILE_THREAD_N"));
    format!("{warps} {thread} {}", variant.splits)
}

fn main() -> Result<()> {
    let (gpu, precisions) = options()?;
    let compiler = Arc::new(Compiler::new(driver_version()?, default_cache())?);
    let device = Device::open(gpu, compiler)?;
    println!("{}, {} multiprocessors", device.name, device.multiprocessors);
    for precision in precisions {
        let all = paper::products_each(BATCH, precision, &ways);
        let choose = |product| vec![Tiling::choose(product, device.multiprocessors)];
        let chosen = paper::products_each(BATCH, precision, &choose);
        all.par_iter().chain(&chosen).try_for_each(|v| loaded(v, &device).map(drop))?;
        let longest = all.iter().chain(&chosen).flat_map(|v| &v.buffers).max().copied();
        let random: Vec<f32> = (0..longest.unwrap_or(0))
            .map(|i| (i as u32).wrapping_mul(2_654_435_761) as f32 / 4.3e9 - 0.5)
            .collect();
        let upload = || device.buffer_of(&random);
        let buffers = [upload()?, upload()?, upload()?];
        let mut best: BTreeMap<&str, (f32, String)> = BTreeMap::new();
        for variant in &all {
            let took = time(variant, &device, &buffers)?;
            println!("{} {}: {} = {took:.1}", precision.name(), variant.label, name(variant));
            let known = best.entry(&variant.label).or_insert((f32::MAX, String::new()));
            if took < known.0 {
                *known = (took, name(variant));
            }
        }
        let mut sums = (0.0, 0.0);
        for variant in &chosen {
            let (took, (least, way)) = (time(variant, &device, &buffers)?, &best[&*variant.label]);
            sums = (sums.0 + took, sums.1 + least.min(took));
            println!(
                "{} {}: chosen {} {took:.0} µs; fastest {way} {least:.0} µs, {:.2}",
                precision.name(),
                variant.label,
                name(variant),
                took / least
            );
        }
        println!("{}: chosen {:.0} µs, fastest {:.0} µs", precision.name(), sums.0, sums.1);
    }
    Ok(())
}
