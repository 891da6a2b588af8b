//! `inspect --gpu`: what a training step is on one GPU, launch by launch.

use super::super::table::columns;
use crate::config::Config;
use crate::engine::cuda::Layouts;
use crate::engine::cuda::account::{self, Purpose, Work};
use crate::engine::cuda::layout::Layout;
use crate::layers::Classes;
use crate::network::{Halves, Mode, Plan};
use anyhow::Result;
use serde_json::{Value, json};

/// One that has every precision.
const CAPABILITY: (i32, i32) = (9, 0);

/// A step of training on one GPU.
pub struct OneGpu {
    plan: Plan,
    multiprocessors: usize,
    memory: usize,
    rows: Vec<Row>,
}

/// Launches of one layer, and the bytes that they read and write.
struct Row {
    layer: String,
    launches: usize,
    forward: usize,
    input: usize,
    weights: usize,
    /// Between towers.
    copies: usize,
    update: usize,
    /// Of all of these those of products.
    products: usize,
}

/// The step of `config`'s network on a GPU of so many multiprocessors and of a compute capability
/// that has every precision.
pub fn one_gpu(config: &Config, classes: Classes, multiprocessors: usize) -> Result<OneGpu> {
    let towers = vec![0; config.towers];
    let mut plan = Plan::new(config, config.train.batch, Mode::Training, &towers, classes)?;
    plan.precision = plan.wanted.on(CAPABILITY);
    let layout = Layout::new(&plan, plan.batch, &[multiprocessors])?;
    let work = account::step(&plan, &layout);
    let row = |(layer, name): (usize, &str)| {
        let own = || work.iter().filter(|w| w.layer == layer);
        let moves = |of: &[Purpose]| {
            own().filter(|w| of.contains(&w.purpose)).map(|w| w.launch.bytes()).sum::<usize>()
        };
        let is_product = |w: &&Work<'_>| w.launch.name.starts_with("conv_");
        Row {
            layer: name.to_string(),
            launches: own().count(),
            forward: moves(&[Purpose::Batch, Purpose::Forward]),
            input: moves(&[Purpose::Input]),
            weights: moves(&[Purpose::Weights]),
            copies: moves(&[Purpose::Copies]),
            update: moves(&[Purpose::Update]),
            products: own().filter(is_product).map(|w| w.launch.bytes()).sum(),
        }
    };
    let names = plan.layers.iter().map(|layer| layer.name.as_str()).enumerate();
    let rows = names.map(row).collect();
    let memory = layout.bytes(&plan)[0];
    Ok(OneGpu { multiprocessors, memory, rows, plan })
}

/// Bytes that a process which trains `plan` takes of its GPU, of so many multiprocessors.
pub fn data_bytes(plan: &mut Plan, multiprocessors: usize) -> Result<u64> {
    plan.precision = plan.wanted.on(CAPABILITY);
    Ok(Layout::new(plan, plan.batch, &[multiprocessors])?.bytes(plan)[0] as u64)
}

/// The same of its halves of a network.
pub fn hybrid_bytes(halves: &mut Halves, multiprocessors: usize) -> Result<u64> {
    for half in [&mut halves.below, &mut halves.above] {
        half.precision = half.wanted.on(CAPABILITY);
    }
    let layouts = Layouts::new(halves, halves.below.batch, multiprocessors)?;
    Ok(layouts.bytes(halves) as u64)
}

impl Row {
    /// Column by column.
    fn bytes(&self) -> [usize; 5] {
        [self.forward, self.input, self.weights, self.copies, self.update]
    }

    fn all(&self) -> usize {
        self.bytes().iter().sum()
    }
}

impl OneGpu {
    fn sum(&self, of: fn(&Row) -> usize) -> usize {
        self.rows.iter().map(of).sum()
    }

    /// Behind the plan's table.
    pub fn table(&self) -> String {
        let head = ["layer", "launches", "forward", "to input", "to weights", "copies", "update"];
        let mut rows = vec![head.map(String::from).to_vec()];
        let megabytes = |bytes: usize| match bytes {
            0 => String::new(),
            bytes => format!("{:.1}", bytes as f64 / 1e6),
        };
        let line = |name: &str, launches: usize, bytes: [usize; 5]| {
            let counts = [name.to_string(), launches.to_string()];
            counts.into_iter().chain(bytes.map(megabytes)).collect::<Vec<_>>()
        };
        rows.extend(self.rows.iter().map(|r| line(&r.layer, r.launches, r.bytes())));
        let totals = [0, 1, 2, 3, 4].map(|i| self.rows.iter().map(|r| r.bytes()[i]).sum());
        rows.push(line("total", self.sum(|r| r.launches), totals));
        format!(
            "\n\nA training step on one GPU of {} multiprocessors, products in {}: kernels, and the\n\
             megabytes of its memory that they read and write, each buffer once:\n{}\n\n\
             In all {:.2} GB a step, {:.2} of it outside of products; {:.2} GiB of memory.",
            self.multiprocessors,
            self.plan.precision.name(),
            columns(&rows, 1),
            self.sum(Row::all) as f64 / 1e9,
            (self.sum(Row::all) - self.sum(|r| r.products)) as f64 / 1e9,
            self.memory as f64 / (1u64 << 30) as f64
        )
    }

    /// The same for scripts, in bytes.
    pub fn json(&self) -> Value {
        let layer = |r: &Row| {
            json!({
                "name": r.layer, "launches": r.launches, "forward": r.forward,
                "backward_input": r.input, "backward_weights": r.weights, "copies": r.copies,
                "update": r.update, "of_products": r.products,
            })
        };
        json!({
            "multiprocessors": self.multiprocessors,
            "precision": self.plan.precision.name(),
            "launches": self.sum(|r| r.launches),
            "bytes": self.sum(Row::all),
            "bytes_of_products": self.sum(|r| r.products),
            "memory_bytes": self.memory,
            "layers": self.rows.iter().map(layer).collect::<Vec<_>>(),
        })
    }
}
