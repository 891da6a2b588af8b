//! `inspect --ranks`: what several processes that train a network send and hold, and how long a step
//! of theirs takes, foretold by [`forecast`], for both ways of `train.distribute`.

use super::super::table::columns;
use super::{gpu, grouped};
use crate::config::{Config, Train};
use crate::config_error;
use crate::errors::sentence;
use crate::layers::Classes;
use crate::network::{Halves, Mode, Plan, Share};
use crate::train::joint::forecast::{self, Machines, Step};
use crate::train::joint::{Joint, check};
use anyhow::Result;
use serde_json::{Value, json};

/// What is asked about several processes.
#[derive(clap::Args, Debug)]
pub struct Asked {
    /// Add what each of 1, 2, 4 … N processes (mpirun -n N) sends in a step and holds in memory, in
    /// both ways of train.distribute; with the options below also how long a step takes, with --gpu
    /// the memory of a GPU.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    ranks: Option<u32>,
    /// What a process's connection carries, each way at once, in Gbit/s.
    #[arg(long, value_name = "G", requires_all = ["ranks", "images_per_second"])]
    gbit_per_second: Option<f64>,
    /// What a process by itself trains in a second, as alexnet bench measures it.
    #[arg(long, value_name = "R", requires_all = ["ranks", "gbit_per_second"])]
    images_per_second: Option<f64>,
    /// Microseconds from one process to another.
    #[arg(long, value_name = "L", default_value_t = 0.0, requires = "gbit_per_second")]
    latency_us: f64,
    /// Nanoseconds of a process's cores for each byte that it sends while one comes: TCP's code,
    /// MPI's, adding up. About 1 on one core; 0 where a device does it.
    #[arg(long, value_name = "C", default_value_t = 0.0, requires = "gbit_per_second")]
    cpu_ns_per_byte: f64,
    /// Give each process so many images a step, in place of its share of train.batch.
    #[arg(long, value_name = "B", requires = "ranks", value_parser = clap::value_parser!(u32).range(1..=65536))]
    images_per_rank: Option<u32>,
}

/// One number of processes.
struct Row {
    ranks: usize,
    /// Images of all.
    batch: usize,
    images: usize,
    data: Numbers,
    /// Err: why the network cannot be divided in this way among so many.
    hybrid: Result<Numbers, String>,
}

/// What one way of sharing the work comes to.
struct Numbers {
    sent: u64,
    memory: u64,
    /// Where it was asked for.
    step: Option<Step>,
}

/// All of them.
pub struct Ranks {
    rows: Vec<Row>,
    parts: usize,
    machines: Option<(Machines, Asked)>,
}

/// The answer to what was `asked` about the network of `config`; None: nothing was. `gpu`: memory is
/// that of one GPU of so many multiprocessors, which each process has.
///
/// # Errors
/// If so many processes cannot share a batch; numbers that no machine has.
pub fn ranks(
    asked: Asked,
    config: &Config,
    classes: Classes,
    gpu: Option<usize>,
) -> Result<Option<Ranks>> {
    let Some(most) = asked.ranks.map(|ranks| ranks as usize) else { return Ok(None) };
    let machines = machines(&asked)?;
    let mut counts: Vec<usize> = (0..17).map(|power| 1 << power).filter(|&n| n < most).collect();
    counts.push(most);
    let mut rows = Vec::new();
    for ranks in counts {
        let mut train = config.train.clone();
        if let Some(images) = asked.images_per_rank {
            train.batch = images as usize * ranks;
        }
        match check(ranks, &train) {
            Ok(()) => rows.push(row(config, classes, &train, ranks, (machines, gpu))?),
            Err(error) if ranks == most => return Err(error),
            Err(_) => {}
        }
    }
    let parts = config.train.parts;
    Ok(Some(Ranks { rows, parts, machines: machines.map(|machines| (machines, asked)) }))
}

fn machines(asked: &Asked) -> Result<Option<Machines>> {
    let (Some(gbit), Some(images)) = (asked.gbit_per_second, asked.images_per_second) else {
        return Ok(None);
    };
    let numbers = [("--gbit-per-second", gbit), ("--images-per-second", images)];
    if let Some((option, value)) = numbers.into_iter().find(|(_, v)| !(v.is_normal() && *v > 0.0)) {
        return Err(config_error!("{option} {value}: it must be a number above 0"));
    }
    let numbers =
        [("--latency-us", asked.latency_us), ("--cpu-ns-per-byte", asked.cpu_ns_per_byte)];
    if let Some((option, value)) = numbers.into_iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0))
    {
        return Err(config_error!("{option} {value}: it must be from 0 up"));
    }
    Ok(Some(Machines {
        images_per_second: images,
        bytes_per_second: gbit * 1e9 / 8.0,
        latency: asked.latency_us * 1e-6,
        processor: asked.cpu_ns_per_byte * 1e-9,
    }))
}

fn row(
    config: &Config,
    classes: Classes,
    train: &Train,
    ranks: usize,
    (machines, gpu): (Option<Machines>, Option<usize>),
) -> Result<Row> {
    let (at_once, pieces) = Joint::first_of(ranks, train);
    let devices = vec![0; config.towers];
    let mut plan = Plan::new(config, at_once, Mode::Training, &devices, classes)?;
    let waiting = (pieces.waiting as u64).saturating_mul(4 * plan.parameters());
    let images = pieces.own * at_once;
    let step = machines.map(|machines| match train.parts {
        1 => forecast::step(&plan, ranks, images, &machines),
        _ => forecast::step_in_parts(&plan, ranks, images, &machines),
    });
    let data = Numbers {
        sent: forecast::bytes_sent(&plan, ranks, train.parts),
        memory: match gpu {
            Some(multiprocessors) => gpu::data_bytes(&mut plan, multiprocessors)?,
            None => plan.memory_bytes()[0].saturating_add(waiting),
        },
        step,
    };
    // The last rank has as many neurons and images as any.
    let share = Share { rank: ranks - 1, ranks };
    let halves = Halves::new(config, train.batch, share, classes);
    let hybrid = halves.and_then(|mut halves| {
        Ok(Numbers {
            sent: forecast::hybrid_bytes_sent(&halves),
            memory: match gpu {
                Some(multiprocessors) => gpu::hybrid_bytes(&mut halves, multiprocessors)?,
                None => halves.memory_bytes()[0],
            },
            step: machines.map(|machines| forecast::hybrid_step(&plan, &halves, &machines)),
        })
    });
    let hybrid = hybrid.map_err(|error| sentence(&error));
    Ok(Row { ranks, batch: train.batch, images, data, hybrid })
}

impl Row {
    /// Images a second of all ranks, and that as a part of what they would do without each other.
    fn speed(&self, step: &Step, machines: &Machines) -> (f64, f64) {
        let all = self.batch as f64 / step.seconds;
        (all, all / (self.ranks as f64 * machines.images_per_second))
    }

    fn json(&self, machines: Option<&Machines>) -> Value {
        let mut row = self.numbers(&self.data, machines);
        row["ranks"] = self.ranks.into();
        row["images_per_rank"] = self.images.into();
        let hybrid = self.hybrid.as_ref().ok();
        row["hybrid"] = hybrid.map_or(Value::Null, |numbers| self.numbers(numbers, machines));
        row
    }

    fn numbers(&self, numbers: &Numbers, machines: Option<&Machines>) -> Value {
        let mut all = json!({ "bytes_sent": numbers.sent, "memory_bytes": numbers.memory });
        if let Some((step, machines)) = numbers.step.as_ref().zip(machines) {
            let (images, scaling) = self.speed(step, machines);
            all["step_seconds"] = step.seconds.into();
            all["exposed_seconds"] = step.exposed.into();
            all["images_per_second"] = images.into();
            all["scaling"] = scaling.into();
        }
        all
    }

    fn cells(&self, numbers: &Numbers, machines: Option<&Machines>) -> Vec<String> {
        let mut cells = vec![
            self.ranks.to_string(),
            self.images.to_string(),
            grouped(numbers.sent),
            format!("{:.2} GiB", numbers.memory as f64 / (1u64 << 30) as f64),
        ];
        if let Some((step, machines)) = numbers.step.as_ref().zip(machines) {
            let (images, scaling) = self.speed(step, machines);
            cells.push(format!("{:.1}", 1e3 * step.seconds));
            cells.push(format!("{:.1}", 1e3 * step.exposed.max(0.0)));
            cells.push(format!("{images:.0}"));
            cells.push(format!("{:.0} %", 100.0 * scaling));
        }
        cells
    }
}

impl Ranks {
    /// For scripts.
    pub fn json(&self) -> Value {
        let machines = self.machines.as_ref().map(|(machines, _)| machines);
        self.rows.iter().map(|row| row.json(machines)).collect::<Vec<_>>().into()
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = "\n\nIn several processes, each step".to_string();
        if self.parts > 1 {
            text += &format!(" in {} parts", self.parts);
        }
        let mut head = vec!["ranks", "images a rank", "bytes sent", "memory"];
        let machines = self.machines.as_ref().map(|(machines, _)| machines);
        if let Some((_, asked)) = &self.machines {
            text += &format!(
                "; predicted for {} Gbit/s, {} µs, {} images/s a rank alone",
                asked.gbit_per_second.unwrap_or_default(),
                asked.latency_us,
                asked.images_per_second.unwrap_or_default()
            );
            if asked.cpu_ns_per_byte > 0.0 {
                text += &format!(", {} ns of its cores a byte", asked.cpu_ns_per_byte);
            }
            head.extend(["step, ms", "exposed, ms", "images/s", "scaling"]);
        }
        let head = vec![head.into_iter().map(String::from).collect::<Vec<_>>()];
        let data = self.rows.iter().map(|row| row.cells(&row.data, machines));
        let data: Vec<_> = head.iter().cloned().chain(data).collect();
        text += &format!(":\n{}\n\n{HYBRID}", columns(&data, 0));
        let cells = |row: &Row| Some(row.cells(row.hybrid.as_ref().ok()?, machines));
        let divided: Vec<_> = self.rows.iter().filter_map(cells).collect();
        if !divided.is_empty() {
            let rows: Vec<_> = head.into_iter().chain(divided).collect();
            text += &format!(":\n{}", columns(&rows, 0));
        }
        let refused =
            self.rows.iter().find_map(|row| Some((row.ranks, row.hybrid.as_ref().err()?)));
        if let Some((ranks, why)) = refused {
            text += &format!("\nnot with {ranks} ranks: {why}");
        }
        text
    }
}

/// Over the second table.
const HYBRID: &str =
    "With train.distribute = \"hybrid\", fully connected layers divided among processes";
