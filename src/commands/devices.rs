//! `alexnet devices`: what this machine can compute on, and what is missing.

use super::print;
use crate::gpu::survey::{Found, Survey};
use crate::vectors;
use anyhow::Result;
use serde_json::json;

/// Show what this machine can compute on.
///
/// Lists the processor with its threads, its vector features and the level of them in use, the GPUs
/// with memory and compute capability, which of them reach each other's memory, driver and NVRTC
/// (the compiler for the kernels) with where they were found, and for each thing missing what it
/// would take.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  alexnet devices\n  alexnet devices --json")]
pub struct Args {
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Looks at the machine and prints what is there.
pub fn run(args: Args) -> Result<()> {
    let survey = Survey::take();
    let threads = rayon::current_num_threads();
    let (features, level) = (vectors::features(), vectors::level().name());
    if args.json {
        let mut document = serde_json::to_value(&survey)?;
        document["cpu"] = json!({ "threads": threads, "features": features, "level": level });
        return print(&serde_json::to_string_pretty(&document)?);
    }
    let features = if features.is_empty() { "none".into() } else { features.join(", ") };
    let mut text =
        format!("CPU: {threads} threads; vector features: {features}; level in use: {level}\n");
    text += &match &survey.driver {
        Some(found) => format!("NVIDIA driver: {}\n", line(found)),
        None => "NVIDIA driver: none\n".into(),
    };
    text += &match &survey.nvrtc {
        Some(found) => format!("NVRTC: {}\n", line(found)),
        None => "NVRTC: none\n".into(),
    };
    let gib = |bytes: usize| bytes as f64 / (1u64 << 30) as f64;
    for gpu in &survey.gpus {
        text += &format!(
            "GPU {} (--device cuda:{}): {}, compute capability {}, {} multiprocessors, {:.1} of \
             {:.1} GiB free\n",
            gpu.index,
            gpu.index,
            gpu.name,
            gpu.compute_capability,
            gpu.multiprocessors,
            gib(gpu.free_bytes),
            gib(gpu.memory_bytes)
        );
    }
    if survey.gpus.is_empty() {
        text += "GPUs: none\n";
    }
    if survey.gpus.len() > 1 {
        text += "direct access to the memory of GPU:";
        text += &survey.gpus.iter().map(|g| format!("{:>5}", g.index)).collect::<String>();
        for gpu in &survey.gpus {
            let cell = |(to, &can): (usize, &bool)| match (to == gpu.index, can) {
                (true, _) => "    -",
                (_, true) => "  yes",
                (_, false) => "   no",
            };
            let row: String = gpu.peer_access.iter().enumerate().map(cell).collect();
            text += &format!("\n{:>34}{row}", format!("GPU {}", gpu.index));
        }
        text += "\n";
    }
    if !survey.missing.is_empty() {
        text += "missing:\n";
        text += &survey.missing.iter().map(|m| format!("  {m}\n")).collect::<String>();
    }
    print(text.trim_end())
}

fn line(found: &Found) -> String {
    let path = found.path.as_ref().map_or(String::new(), |p| format!(", {}", p.display()));
    format!("CUDA {}{path}", found.cuda_version)
}
