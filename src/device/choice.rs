//! `--device`: what the user may say, and what it comes to on this machine.

use super::Engine;
use super::cpu::Cpu;
use crate::config_error;
use crate::network::Plan;
use anyhow::{Error, Result};
use std::str::FromStr;

/// What `--device` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    Auto,
    Cpu,
    /// GPUs by number: one for all towers, or one a tower.
    Cuda(Vec<usize>),
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
                let twice = gpus.len() == 2 && gpus[0] == gpus[1];
                if gpus.len() > 2 || twice { Err(wrong()) } else { Ok(Choice::Cuda(gpus)) }
            }
        }
    }
}

/// Where a network's towers go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// For each tower the index of its device, as the plan wants it.
    pub towers: Vec<usize>,
}

impl Choice {
    /// The devices for a network of `towers` towers.
    pub fn resolve(&self, towers: usize) -> Result<Place> {
        match self {
            Choice::Auto | Choice::Cpu => Ok(Place { towers: vec![0; towers] }),
            Choice::Cuda(_) => Err(config_error!(
                "--device cuda: this version of alexnet computes on the CPU only; use --device cpu"
            )),
        }
    }
}

impl Place {
    /// The network in the devices' memory, its parameters still zero.
    pub fn engine(&self, plan: Plan) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Cpu::new(plan)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read() {
        assert_eq!("cuda:0,1".parse::<Choice>().unwrap(), Choice::Cuda(vec![0, 1]));
        assert_eq!("cuda:3".parse::<Choice>().unwrap(), Choice::Cuda(vec![3]));
        for wrong in ["gpu", "cuda", "cuda:", "cuda:x", "cuda:0,0", "cuda:0,1,2"] {
            assert!(wrong.parse::<Choice>().is_err(), "{wrong}");
        }
    }
}
