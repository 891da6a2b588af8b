//! `--device`: what the user may say, and what it comes to on this machine.

use super::Engine;
use super::cpu::{self, Cpu};
use super::cuda::{self, Cuda};
use crate::config_error;
use crate::gpu::compile::Compiler;
use crate::gpu::device::Device;
use crate::gpu::library::{self, Missing};
use crate::mpi::Team;
use crate::network::{Halves, Plan};
use crate::progress::count;
use anyhow::{Error, Result};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What `--device` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A GPU a tower if there are as many, one if there is one, else the CPU.
    Auto,
    /// All towers in main memory.
    Cpu,
    /// GPUs by number: one for all towers, or one a tower. The same number twice gives each tower a
    /// worker and streams of its own on one GPU, a rehearsal of two.
    Cuda(Vec<usize>),
    /// As [`Choice::Auto`] for one of several processes that share the machine's GPUs.
    Share {
        /// Its place among them.
        place: usize,
        /// How many there are, no more than GPUs.
        of: usize,
    },
}

/// As it is written on the command line.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Auto | Choice::Share { .. } => f.write_str("auto"),
            Choice::Cpu => f.write_str("cpu"),
            Choice::Cuda(devices) => {
                let numbers: Vec<String> = devices.iter().map(usize::to_string).collect();
                write!(f, "cuda:{}", numbers.join(","))
            }
        }
    }
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Choice> {
        let wrong = || config_error!("{text:?} is none of cpu, auto, cuda:0 and cuda:0,1");
        match text {
            "auto" => Ok(Choice::Auto),
            "cpu" => Ok(Choice::Cpu),
            _ => {
                let list = text.strip_prefix("cuda:").ok_or_else(wrong)?;
                let gpus: Vec<usize> = list
                    .split(',')
                    .map(|n| n.parse().map_err(|_| wrong()))
                    .collect::<Result<_>>()?;
                if gpus.len() > 2 { Err(wrong()) } else { Ok(Choice::Cuda(gpus)) }
            }
        }
    }
}

/// What is said where both towers are told to go to one GPU as if it were two.
const REHEARSAL: &str = "a worker each on the same one: a rehearsal of two";

/// Where a network's towers go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// For each tower the index of its device, as the plan wants it.
    pub towers: Vec<usize>,
    /// The GPUs by the plan's device index; none: the CPU.
    pub gpus: Vec<usize>,
    /// The devices in words, with why if nobody chose them: "on GPU 0 (NVIDIA A100)".
    pub words: String,
}

impl Choice {
    /// The devices for a network of `towers` towers. A GPU that was named and cannot be used is an
    /// error; `auto` then takes the CPU and says why.
    pub fn resolve(&self, towers: usize) -> Result<Placement> {
        match self {
            Choice::Cpu => Ok(Placement::cpu(towers, "")),
            Choice::Cuda(gpus) if gpus.len() > towers => Err(config_error!(
                "--device cuda:{},{}: the network has one tower and runs on one GPU; use --device \
                 cuda:{}",
                gpus[0],
                gpus[1],
                gpus[0]
            )),
            Choice::Cuda(gpus) => {
                let names = usable(gpus)?;
                let why = if gpus.len() == 2 && gpus[0] == gpus[1] { REHEARSAL } else { "" };
                Ok(Placement::cuda(towers, gpus, &names, why))
            }
            Choice::Auto => Ok(automatic(towers)),
            Choice::Share { place, of } => share(*place, *of, towers),
        }
    }
}

/// Two GPUs for two towers, one if there is one, else the CPU.
fn automatic(towers: usize) -> Placement {
    let found = library::device_count().and_then(|count| {
        let gpus: Vec<usize> = (0..count.min(towers)).collect();
        let names = usable(&gpus).or_else(|error| match gpus.len() {
            2 => usable(&gpus[..1]),
            _ => Err(error),
        })?;
        let why = match (count, names.len(), towers) {
            (1, ..) => "the only one",
            (_, 2, _) => "a tower each",
            (_, _, 1) => "one tower needs one",
            _ => "the second cannot be used",
        };
        Ok(Placement::cuda(towers, &gpus[..names.len()], &names, why))
    });
    found.unwrap_or_else(|error| {
        // Nobody asked for a GPU: what is missing is enough; `alexnet devices` has the way out.
        let why = match error.downcast_ref::<Missing>() {
            Some(missing) => missing.what.split(" (").next().unwrap_or_default().to_string(),
            None => format!("{error:#}"),
        };
        Placement::cpu(towers, &why)
    })
}

/// Two GPUs where there is one for each tower of all processes here, else one; where they cannot be
/// used the CPU.
fn share(place: usize, of: usize, towers: usize) -> Result<Placement> {
    let each = if towers == 2 && library::device_count()? >= 2 * of { 2 } else { 1 };
    let gpus = Choice::Cuda((each * place..each * (place + 1)).collect());
    gpus.resolve(towers).or_else(|_| Choice::Cpu.resolve(towers))
}

/// Whether these GPUs, driver and compiler serve; the GPUs' names.
fn usable(gpus: &[usize]) -> Result<Vec<String>> {
    let compiler = Arc::new(Compiler::new(library::driver_version()?, None)?);
    let check = |&gpu: &usize| {
        let device = Device::open(gpu, compiler.clone())?;
        Device::check(gpu, &device.name, device.capability, &compiler)?;
        Ok(device.name)
    };
    gpus.iter().map(check).collect()
}

impl Placement {
    fn cpu(towers: usize, why: &str) -> Placement {
        let threads = rayon::current_num_threads();
        let threads = count(threads as u64, "thread", "threads");
        let mut words = format!("on the CPU with {threads}");
        if !why.is_empty() {
            words += &format!("; {why}");
        }
        Placement { towers: vec![0; towers], gpus: Vec::new(), words }
    }

    fn cuda(towers: usize, gpus: &[usize], names: &[String], why: &str) -> Placement {
        let each = gpus.iter().zip(names).map(|(gpu, name)| format!("GPU {gpu} ({name})"));
        let mut words = format!("on {}", each.collect::<Vec<_>>().join(" and "));
        if !why.is_empty() {
            words += &format!(", {why}");
        }
        let towers = (0..towers).map(|tower| tower.min(gpus.len() - 1)).collect();
        Placement { towers, gpus: gpus.to_vec(), words }
    }

    /// The network in the devices' memory, its parameters still zero.
    pub fn engine(&self, plan: Plan) -> Result<Box<dyn Engine>> {
        if self.gpus.is_empty() {
            return Ok(Box::new(Cpu::new(plan)?));
        }
        Ok(Box::new(Cuda::new(plan, &self.gpus)?))
    }

    /// This process's `halves` of the network of `plan` in memory, its parameters still zero.
    ///
    /// # Errors
    /// If there is too little memory; several GPUs.
    pub fn hybrid(&self, plan: Plan, halves: Halves, team: Team) -> Result<Box<dyn Engine>> {
        match self.gpus[..] {
            [] => Ok(Box::new(cpu::Hybrid::new(plan, halves, team)?)),
            [gpu] => Ok(Box::new(cuda::Hybrid::new(plan, halves, team, gpu)?)),
            _ => Err(config_error!(
                "--device cuda:{},{}: with train.distribute = \"hybrid\" a process computes on one \
                 GPU, both towers together; start a process for each GPU",
                self.gpus[0],
                self.gpus[1]
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read() {
        assert_eq!("cuda:0,1".parse::<Choice>().unwrap(), Choice::Cuda(vec![0, 1]));
        assert_eq!("cuda:3".parse::<Choice>().unwrap(), Choice::Cuda(vec![3]));
        for wrong in ["gpu", "cuda", "cuda:", "cuda:x", "cuda:0,1,2"] {
            assert!(wrong.parse::<Choice>().is_err(), "{wrong}");
        }
    }
}
