//! How the gradients of several processes on GPUs are added up: by NCCL, where every rank has it
//! and it connects them, else through main memory. All ranks take the same way.

use crate::config_error;
use crate::engine::Engine;
use crate::gpu::nccl::{ID_BYTES, Id, Nccl};
use crate::mpi::Team;
use crate::note;
use anyhow::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the user says of NCCL.
const VARIABLE: &str = "ALEXNET_NCCL";

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Wanted {
    /// Where several processes have GPUs and it is there.
    Auto,
    /// Never.
    No,
    /// By one process alone, too; what keeps it away is an error.
    Yes,
}

/// What a rank has.
#[derive(Serialize, Deserialize)]
struct Has {
    wanted: Wanted,
    /// GPUs that it computes on.
    gpus: usize,
    /// What these compute in, and with it the form of what travels between halves of a network.
    precision: String,
    /// Its NCCL's version; or what keeps it from being used.
    version: Result<String, String>,
}

/// Rank 0's answer: ids of the communicators, or why there are none.
type Answer = Result<Vec<Vec<u8>>, String>;

/// Whether NCCL is there, and may be used.
///
/// # Errors
/// If not, why.
pub fn is_there() -> Result<()> {
    match wanted()? {
        Wanted::No => Err(config_error!("{VARIABLE}=0")),
        Wanted::Auto | Wanted::Yes => Nccl::open().map(|_| ()),
    }
}

/// Connects the GPUs of all ranks if that can be, and says which way gradients go.
///
/// # Errors
/// What is wrong with the variable; with `ALEXNET_NCCL=1`, or where nothing can be done without it,
/// whatever keeps NCCL away.
pub fn gpus(team: &Team, engine: &mut dyn Engine) -> Result<()> {
    let (wanted, needed) = (wanted()?, engine.needs_nccl());
    if !team.is_several() && wanted != Wanted::Yes {
        return Ok(());
    }
    let found = match (engine.gpus(), wanted) {
        (0, _) => Err("it computes on the CPU".to_string()),
        (_, Wanted::No) => Err(format!("{VARIABLE}=0")),
        _ => Nccl::open().map_err(|error| format!("{error:#}")),
    };
    let version = found.as_ref().map(|nccl| nccl.version.clone()).map_err(String::clone);
    let precision = engine.plan().precision.name().to_string();
    let has = Has { wanted, gpus: engine.gpus(), precision, version };
    let answer = team.round("how its GPUs are connected", serde_json::to_vec(&has)?, |said| {
        let all: Vec<Has> =
            said.iter().map(|said| serde_json::from_slice(said)).collect::<Result<_, _>>()?;
        if all.iter().all(|has| has.gpus == 0 && has.wanted != Wanted::Yes) {
            return Ok(Vec::new());
        }
        let answer: Answer = match hindrance(team, &all, needed) {
            Some(why) => Err(why),
            None => ids(found.as_ref().ok(), all[0].gpus).map_err(|error| format!("{error:#}")),
        };
        refuse(&answer, all.iter().any(|has| has.wanted == Wanted::Yes), needed)?;
        Ok(serde_json::to_vec(&answer)?)
    })?;
    if answer.is_empty() {
        return Ok(());
    }
    let connected = match (serde_json::from_slice::<Answer>(&answer)?, found) {
        (Ok(ids), Ok(nccl)) => connect(team, engine, &nccl, &ids, wanted)?,
        (Err(why), _) | (_, Err(why)) => Err(why),
    };
    match connected {
        Ok(nccl) => note!(
            "gradients are added up by NCCL {}, GPU to GPU ({}){}",
            nccl.version,
            nccl.path.display(),
            if needed { ", and activations go the same way" } else { "" }
        ),
        Err(why) => note!("gradients go through main memory and MPI: {why}"),
    }
    Ok(())
}

fn wanted() -> Result<Wanted> {
    match std::env::var(VARIABLE).as_deref() {
        Err(_) | Ok("") => Ok(Wanted::Auto),
        Ok("0") => Ok(Wanted::No),
        Ok("1") => Ok(Wanted::Yes),
        Ok(other) => Err(config_error!(
            "{VARIABLE}={other}: it is 0 (gradients go through main memory) or 1 (by NCCL or not \
             at all); without it NCCL is used where it is found"
        )),
    }
}

/// The first thing that keeps ranks from being connected; `halves` if activations travel, too.
fn hindrance(team: &Team, all: &[Has], halves: bool) -> Option<String> {
    let of = |rank: usize, why: String| match team.is_several() {
        true => format!("{}: {why}", team.name(rank)),
        false => why,
    };
    for (rank, has) in all.iter().enumerate() {
        if let Err(why) = &has.version {
            return Some(of(rank, why.clone()));
        }
        if has.gpus != all[0].gpus {
            let (theirs, ours) = (has.gpus, all[0].gpus);
            return Some(of(rank, format!("it computes on {theirs} GPUs, and rank 0 on {ours}")));
        }
        if halves && has.precision != all[0].precision {
            let (theirs, ours) = (&has.precision, &all[0].precision);
            let way = "give all the same by --set gpu.precision=f32";
            let why = format!("its GPU computes in {theirs}, and rank 0's in {ours} ({way})");
            return Some(of(rank, why));
        }
        if has.version != all[0].version {
            let text = |has: &Has| has.version.clone().unwrap_or_default();
            let (theirs, ours) = (text(has), text(&all[0]));
            return Some(of(rank, format!("its NCCL is {theirs}, and rank 0's {ours}")));
        }
    }
    None
}

/// Where NCCL was demanded, or is needed, what keeps it away as an error.
fn refuse<T>(answer: &Result<T, String>, demanded: bool, needed: bool) -> Result<()> {
    match answer {
        Err(why) if needed => Err(config_error!(
            "train.distribute = \"hybrid\" on GPUs: activations go from one to another by NCCL \
             alone, and {why}; see to that, compute with --device cpu, or say distribute = \"data\""
        )),
        Err(why) if demanded => Err(config_error!("{VARIABLE}=1: {why}")),
        _ => Ok(()),
    }
}

/// As many ids as each rank has GPUs.
fn ids(nccl: Option<&Arc<Nccl>>, count: usize) -> Result<Vec<Vec<u8>>> {
    let nccl = nccl.context("rank 0 has no NCCL")?;
    (0..count).map(|_| Ok(nccl.id()?.0.to_vec())).collect()
}

/// Connects this rank with the others, and hears whether all are. Ok(Err): some are not, and nobody
/// is.
fn connect(
    team: &Team,
    engine: &mut dyn Engine,
    nccl: &Arc<Nccl>,
    ids: &[Vec<u8>],
    wanted: Wanted,
) -> Result<Result<Arc<Nccl>, String>> {
    let id = |bytes: &Vec<u8>| {
        let bytes: [u8; ID_BYTES] = bytes[..].try_into().context("an id of another length")?;
        Ok::<_, Error>(Id(bytes))
    };
    let ids = ids.iter().map(id).collect::<Result<Vec<_>>>()?;
    let own = engine.connect(nccl, &ids, (team.rank(), team.size()));
    let needed = engine.needs_nccl();
    let own: Result<(), String> = own.map_err(|error| format!("{error:#}"));
    let mine = serde_json::to_vec(&(own, wanted == Wanted::Yes))?;
    let answer = team.round("whether its GPUs are connected", mine, |said| {
        let all: Vec<(Result<(), String>, bool)> =
            said.iter().map(|said| serde_json::from_slice(said)).collect::<Result<_, _>>()?;
        let demanded = all.iter().any(|(_, demanded)| *demanded);
        let failed = all.into_iter().enumerate().find_map(|(rank, (own, _))| {
            own.err().map(|why| match team.is_several() {
                true => format!("{}: {why}", team.name(rank)),
                false => why,
            })
        });
        let all: Result<(), String> = failed.map_or(Ok(()), Err);
        refuse(&all, demanded, needed)?;
        Ok(serde_json::to_vec(&all)?)
    })?;
    let all: Result<(), String> = serde_json::from_slice(&answer)?;
    if all.is_err() {
        engine.disconnect();
    }
    Ok(all.map(|()| nccl.clone()))
}
