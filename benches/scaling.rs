//! `cargo bench --bench scaling [-- --config FILE] [--steps N]`: how the speed of a network grows
//! with threads (at the config's batch) and with the batch (on all threads). One process a row, so
//! that none inherits another's memory; the share is of the multiply-add peak that the same process
//! measured.

use std::process::{Command, exit};

const BATCHES: [usize; 5] = [1, 8, 32, 128, 512];

fn main() {
    let mut config = "configs/ilsvrc2010.toml".to_string();
    let mut steps = "3".to_string();
    // Cargo adds --bench.
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    while let Some(arg) = args.next() {
        let value = args.next().unwrap_or_else(|| usage(&format!("{arg} needs a value")));
        match arg.as_str() {
            "--config" => config = value,
            "--steps" => steps = value,
            _ => usage(&format!("unknown argument {arg}")),
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    println!("{config}, {steps} steps a row, {cores} cores\n");
    println!("| threads | batch | training, images/s | evaluation, images/s | share of peak |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    let powers = (0..).map(|n| 1 << n).take_while(|&n| n < cores).chain([cores]);
    for threads in powers {
        row(&config, &steps, threads, None);
    }
    for batch in BATCHES {
        row(&config, &steps, cores, Some(batch));
    }
}

fn usage(problem: &str) -> ! {
    eprintln!("{problem}; usage: cargo bench --bench scaling -- [--config FILE] [--steps N]");
    exit(2)
}

/// Measures and prints one row.
fn row(config: &str, steps: &str, threads: usize, batch: Option<usize>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alexnet"));
    command.args(["bench", "--json", "--device", "cpu", "--config", config, "--steps", steps]);
    command.args(["--threads", &threads.to_string()]);
    if let Some(batch) = batch {
        command.args(["--batch", &batch.to_string()]);
    }
    let output = command.output().expect("the program can be started");
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        exit(1);
    }
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let number = |key: &str| report[key].as_f64().expect("a number");
    println!(
        "| {threads} | {} | {:.1} | {:.1} | {:.0} % |",
        report["batch"],
        number("train_images_per_second"),
        number("eval_images_per_second"),
        100.0 * number("gflops") / number("peak_gflops")
    );
}
