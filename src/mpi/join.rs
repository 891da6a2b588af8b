//! The start: from the environment to a [`Team`].

use super::find::find;
use super::launcher::{Kind, Launcher, launcher};
use super::link::Link;
use super::member::Member;
use super::team::Team;
use super::watch;
use crate::config_error;
use crate::errors;
use anyhow::{Context, Result, ensure};
use std::sync::OnceLock;
use std::time::Duration;

/// The link of this process, for its last moments.
static LINK: OnceLock<&'static Link> = OnceLock::new();
/// So long another rank than 0 keeps an error to itself that all are likely to have.
const AFTER_RANK_0: Duration = Duration::from_secs(2);

/// The ranks that a launcher has started with this process; one process alone where there is no
/// launcher. `asked`: even then by way of MPI.
///
/// # Errors
/// If the library is missing or strange, if it knows of fewer ranks than the launcher, or if ranks
/// are of different builds.
pub fn join(asked: bool) -> Result<Team> {
    let unknown = Launcher { kind: Kind::Unknown, size: None, rank: 0, speaks_pmix: false };
    let Some(launcher) = launcher().or(asked.then_some(unknown)) else { return Ok(Team::alone()) };
    let here = Member::here();
    if launcher.rank > 0 {
        errors::speak_as(format!("rank {} on {}", launcher.rank, here.host));
    }
    let team = start(&launcher, here);
    if team.is_err() && launcher.rank > 0 {
        std::thread::sleep(AFTER_RANK_0);
    }
    team
}

/// Refuses a command that is one process's work where a launcher has started several.
pub fn refuse(command: &str) -> Result<()> {
    let Some(launcher) = launcher().filter(|launcher| launcher.size.is_some()) else {
        return Ok(());
    };
    if launcher.rank > 0 {
        errors::speak_not();
    }
    Err(config_error!(
        "alexnet {command} is the work of one process, and {} has started {}; only train and eval \
         are shared among processes: start this one without it",
        launcher.kind.name(),
        launcher.size.unwrap_or_default()
    ))
}

fn start(launcher: &Launcher, here: Member) -> Result<Team> {
    let (calls, path) = find(launcher)?;
    let of = || path.display().to_string();
    let any_thread = calls.init().with_context(of)?;
    let (rank, size) = calls.place().with_context(of)?;
    // Alone or not, MPI is started, and the launcher waits for its end.
    let link: &'static Link = Box::leak(Box::new(Link::new(calls, (rank, size), any_thread)));
    let wrong = launcher.size.filter(|&wanted| wanted != size).map(|wanted| wanted.to_string());
    let wrong = wrong.or((size <= launcher.rank).then(|| "more".to_string()));
    if let Some(wanted) = wrong {
        return Err(config_error!(
            "{} has started {wanted} processes, but the MPI library {} knows of {size}: it is not \
             the launcher's, and each process would train by itself; start with the launcher of \
             that library, or name the right one: ALEXNET_MPI=/path/to/libmpi.so",
            launcher.kind.name(),
            path.display()
        ));
    }
    let _ = LINK.set(link);
    errors::at_the_end(last);
    let team = Team::over(link);
    match meet(team, link, &here) {
        Err(error) => team.end(Err(error)).map(|()| team),
        met => met,
    }
}

/// All tell all who they are.
fn meet(team: Team, link: &'static Link, here: &Member) -> Result<Team> {
    let mine = serde_json::to_vec(here)?;
    let all = team.round("the start of all", mine, |said| {
        let all: Vec<Member> =
            said.iter().map(|said| serde_json::from_slice(said)).collect::<Result<_, _>>()?;
        same_build(&all)?;
        Ok(serde_json::to_vec(&all)?)
    })?;
    let members: Vec<Member> = serde_json::from_slice(&all)?;
    ensure!(members.len() == team.size(), "rank 0 knows of {} ranks", members.len());
    link.met(members);
    watch::start(link)?;
    Ok(team)
}

/// Refuses ranks that may compute different numbers.
fn same_build(all: &[Member]) -> Result<()> {
    let other = all.iter().enumerate().find(|(_, member)| member.build != all[0].build);
    let Some((rank, member)) = other else { return Ok(()) };
    Err(config_error!(
        "the ranks are of different builds of this program: rank 0 on {} is {}, rank {rank} on {} \
         is {}; install the same file everywhere",
        all[0].host,
        all[0].build,
        member.host,
        member.build
    ))
}

/// The program ends with `code`, `computes`: in the thread that computes.
fn last(code: i32, computes: bool) {
    if let Some(link) = LINK.get() {
        link.last(code, computes);
    }
}
