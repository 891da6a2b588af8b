//! `cargo bench --bench serial [-- --config FILE] [--steps N]`: how much of a training step on the
//! CPU is one thread's work, which more threads make no shorter, and what Amdahl's law makes of it.
//!
//! The thread that takes the steps is none of the pool's: whatever is divided into tasks it hands
//! over and waits for, asleep. So its own processor time is what nobody else could help with; all
//! that the pool's single thread takes besides is work in tasks. How fine these are is counted in
//! `src/engine/cpu/tests.rs`. Unix only, where a thread's own time can be asked for.

use alexnet::commands::bench::{idle_rates, random_batch};
use alexnet::config::Config;
use alexnet::engine::Choice;
use alexnet::layers::{Classes, Run};
use alexnet::machine::threads::{self, own_time};
use alexnet::network::{Mode, Plan};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::time::Instant;

const THREADS: [f64; 4] = [2.0, 16.0, 64.0, 128.0];

fn main() -> Result<()> {
    let mut config = PathBuf::from("configs/ilsvrc2010.toml");
    let mut steps = 3;
    // Cargo adds --bench.
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--config" => config = value.into(),
            "--steps" => steps = value.parse().context("--steps is a number")?,
            _ => bail!("{arg} is not known; usage: [--config FILE] [--steps N]"),
        }
    }
    if cfg!(not(unix)) {
        bail!("this system does not tell a thread's own time here");
    }
    threads::start(Some(1))?;
    let config = Config::read(&config, &[])?;
    let place = "cpu".parse::<Choice>()?.resolve(config.towers)?;
    let plan = Plan::new(&config, config.train.batch, Mode::Training, &place.towers, Classes::Any)?;
    let mut engine = place.engine(plan)?;
    let (images, labels) = random_batch(engine.as_mut(), config.seed)?;
    let mut step = |step: u32| -> Result<()> {
        let run = Run { batch: labels.len(), training: true, seed: 1, step, first_image: 0 };
        let rates = idle_rates(engine.plan());
        engine.step(&run, images.view(), &labels, 0.9, &rates).map(drop)
    };
    step(1)?;
    let (begun, own) = (Instant::now(), own_time());
    for index in 0..steps {
        step(index + 2)?;
    }
    let ms = |seconds: f64| 1e3 * seconds / f64::from(steps);
    let (all, alone) = (ms(begun.elapsed().as_secs_f64()), ms(own_time() - own));
    let share = alone / all;
    println!("a step on one thread {all:.1} ms, in no task {alone:.3} ms: {:.3} %", 100.0 * share);
    for threads in THREADS {
        let faster = 1.0 / (share + (1.0 - share) / threads);
        println!("{threads:>4} threads: {faster:.1} times as fast at most");
    }
    Ok(())
}
