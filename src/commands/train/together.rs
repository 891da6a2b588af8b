//! What several ranks settle before they train: that they were started alike and see the same data,
//! and from rank 0 where the run stands. Each is a round; for one process alone nothing is done.

use super::{Args, connect};
use crate::commands::own_gpus;
use crate::config::{Change, Config, Distribute, changes};
use crate::config_error;
use crate::data::statistics::Statistics;
use crate::engine::{Choice, Engine, Slot};
use crate::mpi::{self, Team};
use crate::note;
use crate::train::checkpoint::{DataFacts, TrainingState};
use crate::train::runs::RunFolder;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What a rank was told.
#[derive(Serialize, Deserialize)]
struct Told {
    /// The command line, but for what may differ from machine to machine.
    command: String,
    /// Its config; None: that of rank 0 counts.
    config: Option<String>,
}

/// The config that all ranks train, and its source: `read` on rank 0, and on other ranks too where
/// the command names a file; then they are compared. The data set's path is each rank's own.
///
/// # Errors
/// If ranks were started differently, with the first difference.
pub fn settings(
    team: &Team,
    args: &Args,
    read: Option<(Config, String)>,
) -> Result<(Config, String)> {
    if !team.is_several() {
        return read.context("one process alone reads its config");
    }
    let told = Told { command: args.alike(), config: read.as_ref().map(|(c, _)| c.to_toml()) };
    let answer = team.round("its settings", serde_json::to_vec(&told)?, |said| {
        let said: Vec<Told> =
            said.iter().map(|said| serde_json::from_slice(said)).collect::<Result<_, _>>()?;
        for (rank, other) in said.iter().enumerate().skip(1) {
            same_settings(team, (rank, other), &said[0])?;
        }
        Ok(said[0].config.clone().unwrap_or_default().into_bytes())
    })?;
    if let Some(read) = read {
        return Ok(read);
    }
    let source = "the config of rank 0";
    let config = Config::parse(&String::from_utf8(answer)?, &[], source)?;
    Ok((config, source.to_string()))
}

fn same_settings(team: &Team, (rank, other): (usize, &Told), first: &Told) -> Result<()> {
    let [first_name, name] = [0, rank].map(|rank| team.name(rank));
    if other.command != first.command {
        return Err(config_error!(
            "{name} was started with other arguments than {first_name}: {} there, {} here",
            other.command,
            first.command
        ));
    }
    let (Some(theirs), Some(ours)) = (&other.config, &first.config) else { return Ok(()) };
    let theirs = Config::parse(theirs, &[], &name)?;
    let ours = Config::parse(ours, &[], &first_name)?;
    let differs =
        |change: &Change| change.key != "data.path" && change.key != "data.prepare.source";
    let Some(change) = changes(&ours, &theirs).into_iter().find(differs) else { return Ok(()) };
    let value = |value: Option<String>| value.unwrap_or("not set".into());
    Err(config_error!(
        "{name} has another config than {first_name}: {} is {} there and {} here",
        change.key,
        value(change.new),
        value(change.old)
    ))
}

/// Where several processes compute, each on its share of the machine's cores or on GPUs of its own,
/// and others whose way of training the CPU alone has.
///
/// # Errors
/// If a GPU was named for what the CPU alone does; if there are fewer GPUs than processes.
pub fn device(team: &Team, config: &Config, choice: &Choice) -> Result<Choice> {
    if team.is_several() && config.train.distribute == Distribute::Hybrid {
        return hybrid_device(team, config.towers, choice);
    }
    if config.train.parts == 1 {
        return own_gpus::choose(team, choice);
    }
    match choice {
        Choice::Cuda(_) => Err(config_error!(
            "--device {choice}: with train.parts above 1 training computes on CPUs; leave the \
             option out"
        )),
        _ => Ok(Choice::Cpu),
    }
}

/// Where processes with a share of the neurons each compute: on one GPU each, where all have one
/// and nobody has chosen, and NCCL; else on the CPU, which is said.
fn hybrid_device(team: &Team, towers: usize, choice: &Choice) -> Result<Choice> {
    if let Choice::Cuda(gpus) = choice
        && gpus.len() > 1
    {
        return Err(config_error!(
            "--device {choice}: with train.distribute = \"hybrid\" a process computes on one GPU, \
             both towers together; start a process for each GPU"
        ));
    }
    let here = team.neighbours().len();
    if matches!(choice, Choice::Cuda(_)) && here > 1 {
        return Err(config_error!(
            "--device {choice}: the {here} processes of a machine would share that GPU, which \
             train.distribute = \"hybrid\" cannot do; leave the option out, and each takes its own"
        ));
    }
    if *choice != Choice::Auto {
        return Ok(choice.clone());
    }
    let own = own_gpus::one(team).and_then(|gpu| {
        let choice = Choice::Cuda(vec![gpu]);
        choice.resolve(towers)?;
        connect::is_there().map(|()| choice)
    });
    let mine: Result<(), String> = own.as_ref().map(|_| ()).map_err(|error| format!("{error:#}"));
    let answer = team.round("its GPU", serde_json::to_vec(&mine)?, |said| {
        let all: Vec<Result<(), String>> =
            said.iter().map(|said| serde_json::from_slice(said)).collect::<Result<_, _>>()?;
        let missing = all.into_iter().enumerate().find_map(|(rank, own)| Some((rank, own.err()?)));
        let why = missing.map(|(rank, why)| format!("{}: {why}", team.name(rank)));
        Ok(serde_json::to_vec(&why)?)
    })?;
    match (serde_json::from_slice::<Option<String>>(&answer)?, own) {
        (None, Ok(choice)) => Ok(choice),
        (why, _) => {
            if team.leads() {
                let why = why.unwrap_or_default();
                note!("train.distribute = \"hybrid\" is computed on the CPU ({why})");
            }
            Ok(Choice::Cpu)
        }
    }
}

/// Opens the data set by `open`, which may make it first: rank 0, then the first rank of each other
/// machine, then all others, which find what was made.
pub fn in_turn<T>(team: &Team, open: impl FnOnce() -> Result<T>) -> Result<T> {
    if !team.is_several() {
        return open();
    }
    let first_here = team.neighbours().first().is_some_and(|first| {
        let all = team.members();
        first.process == all[team.rank()].process
    });
    let turn = match (team.leads(), first_here) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    };
    let (mut open, mut opened) = (Some(open), None);
    for now in 0..3 {
        if let Some(open) = open.take_if(|_| now == turn) {
            opened = Some(open()?);
        }
        team.round("its data set", Vec::new(), |_| Ok(Vec::new()))?;
    }
    opened.context("every rank has its turn")
}

/// Where the run stands, from rank 0.
#[derive(Serialize, Deserialize)]
struct Stand {
    state: TrainingState,
    run: PathBuf,
    mean: Vec<f32>,
    components: Vec<f32>,
    deviations: Vec<f32>,
    saved: bool,
}

/// All ranks take rank 0's state, its mean image and colours, and the name of its run's folder.
/// Whether what it begins with is `saved` there already.
pub fn stand(
    team: &Team,
    state: &mut TrainingState,
    run: &mut RunFolder,
    facts: &mut DataFacts,
    saved: bool,
) -> Result<bool> {
    if !team.is_several() {
        return Ok(saved);
    }
    let Statistics { mean, components, deviations } = facts.statistics.clone();
    let (of, folder) = (state.clone(), run.0.clone());
    let mine = Stand { state: of, run: folder, mean, components, deviations, saved };
    // Only rank 0's is used.
    let mine = if team.leads() { serde_json::to_vec(&mine)? } else { Vec::new() };
    let answer = team.round("where the run stands", mine, |mut said| Ok(said.swap_remove(0)))?;
    let stand: Stand = serde_json::from_slice(&answer)?;
    let Stand { mean, components, deviations, saved, .. } = stand;
    facts.statistics = Statistics { mean, components, deviations };
    (*state, run.0) = (stand.state, stand.run);
    Ok(saved)
}

/// All ranks take rank 0's parameters and momenta, or their shares of them.
pub fn parameters(team: &Team, engine: &mut dyn Engine) -> Result<()> {
    if !team.is_several() {
        return Ok(());
    }
    team.round("its network's memory", Vec::new(), |_| Ok(Vec::new()))?;
    for slot in [Slot::Value, Slot::Momentum] {
        for tensor in 0..engine.plan().tensors().len() {
            let mut values = engine.read(slot, tensor)?.values;
            team.spread(&mut values)?;
            if !team.leads() {
                engine.write(slot, tensor, &values)?;
            }
        }
    }
    engine.handed_out();
    Ok(())
}

/// Ranks that are named one by one at the start.
const NAMED: usize = 16;

/// Says who the ranks are, and what about the launcher is worth being known.
pub fn greet(team: &Team) {
    if !team.is_several() {
        return;
    }
    let all = team.members();
    let mut machines: Vec<&str> = all.iter().map(|member| member.place.as_str()).collect();
    machines.sort_unstable();
    machines.dedup();
    let count =
        |n: usize, one: &str, more: &str| format!("{n} {}", if n == 1 { one } else { more });
    note!(
        "{} on {}, each with its share of every batch",
        count(all.len(), "process", "processes"),
        count(machines.len(), "machine", "machines")
    );
    for (rank, member) in all.iter().enumerate().take(NAMED) {
        note!("  rank {rank}: process {} on {}", member.process, member.host);
    }
    let neighbours = team.neighbours();
    let cores: BTreeSet<usize> = neighbours.iter().flat_map(|m| &m.cores).copied().collect();
    let there = all[team.rank()].all_cores;
    if !cores.is_empty() && cores.len() * 2 <= there {
        note!(
            "the launcher lets the ranks of this machine use {} of its {there} cores (mpirun \
             --bind-to none gives them all)",
            cores.len()
        );
    }
    let is_open_mpi = mpi::launcher().is_some_and(|launcher| launcher.kind == mpi::Kind::OpenMpi);
    if is_open_mpi && std::env::var_os(PATIENCE).is_none() {
        note!(
            "on Ctrl-C Open MPI leaves a second for the step and the save; with {PATIENCE}=30 in \
             its environment they are made whole (it then waits 30 seconds before it hands Ctrl-C \
             on, too), without it the last periodic checkpoint stands; kill -TERM to the process \
             of any rank ends all at once, and keeps every step"
        );
    }
}

/// Open MPI's seconds between SIGTERM and SIGKILL.
const PATIENCE: &str = "OMPI_MCA_odls_base_sigkill_timeout";
