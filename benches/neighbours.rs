//! `cargo bench --bench neighbours [-- --rows N] [--values N] [--rounds N]`: an exact search for the
//! nearest of 200,000 rows of 4,096 features (3.3 GB, made in memory) against a plain sum of the same
//! numbers, in turn. The sum is what memory allows: each number is loaded once, in vectors, on all
//! threads, and added. Medians, with the machine's load before, since others' work counts.

mod common;

use alexnet::vectors::nearest::nearest;
use alexnet::vectors::{Simd, Work, dispatch, load_some};
use rayon::prelude::*;
use std::hint::black_box;
use std::process::exit;
use std::time::Instant;

fn main() {
    let (mut rows, mut values, mut rounds) = (200_000, 4096, 7);
    // Cargo adds --bench.
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    while let Some(arg) = args.next() {
        let value = args.next().and_then(|value| value.parse().ok());
        let place = match arg.as_str() {
            "--rows" => &mut rows,
            "--values" => &mut values,
            "--rounds" => &mut rounds,
            _ => usage(),
        };
        *place = value.unwrap_or_else(|| usage());
    }
    println!(
        "{rows} rows of {values} values, {} threads, {}",
        rayon::current_num_threads(),
        common::cpu()
    );
    println!("load before: {}", load());
    let mut data = vec![0.0f32; rows * values];
    data.par_chunks_mut(values).enumerate().for_each(|(row, values)| {
        let mut state = row as u32 + 1;
        for value in values {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Half of them zero, as after a ReLU.
            *value = ((state >> 8) as f32 / 8_388_608.0 - 1.0).max(0.0);
        }
    });
    let query = data[rows / 2 * values..][..values].to_vec();
    let (mut sums, mut searches) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        sums.push(seconds(|| sum(&data)));
        searches.push(seconds(|| nearest(&data, &query, values, 6)));
    }
    let bytes = (rows * values * 4) as f64 / 1e9;
    let [sum, search] = [&mut sums, &mut searches].map(|times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    println!("sum     {:7.1} ms  {:5.1} GB/s", 1e3 * sum, bytes / sum);
    println!("search  {:7.1} ms  {:5.1} GB/s", 1e3 * search, bytes / search);
    println!("search ÷ sum  {:.3}; load after: {}", search / sum, load());
}

fn usage() -> ! {
    eprintln!("usage: cargo bench --bench neighbours -- [--rows N] [--values N] [--rounds N]");
    exit(2)
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_string()
}

fn seconds<T>(work: impl FnOnce() -> T) -> f64 {
    let begun = Instant::now();
    black_box(work());
    begun.elapsed().as_secs_f64()
}

/// The sum of all numbers, block by block on all threads.
fn sum(data: &[f32]) -> f32 {
    data.par_chunks(64 << 10).map(|block| dispatch(Sum(block))).sum()
}

struct Sum<'a>(&'a [f32]);

impl Work for Sum<'_> {
    type Out = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut sums = [s.splat(0.0); 4];
        for part in self.0.chunks_exact(4 * S::LANES) {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = s.add(*sum, load_some(s, &part[i * S::LANES..]));
            }
        }
        let sum = s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3]));
        let mut lanes = [0.0; 16];
        alexnet::vectors::store_some(s, &mut lanes[..S::LANES], sum);
        lanes.iter().sum()
    }
}
