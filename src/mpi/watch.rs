//! Watches over the ranks of the same machine: one that is killed says nothing, and the launcher may
//! leave the others waiting for it.

use super::link::Link;
use crate::errors;
use anyhow::{Context, Result};
use std::thread;
use std::time::Duration;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// Ranks behind its own that each one looks at, the first again after the last.
const MOST: usize = 8;
/// Whoever sees that a rank is gone but is not the next one gives way to that for so long.
const GIVE_WAY: Duration = Duration::from_secs(2);

/// Looks after the others from now on, until this rank is about to end.
pub(super) fn start(link: &'static Link) -> Result<()> {
    let own = &link.members()[link.rank];
    let of_here = |&rank: &usize| link.members()[rank].place == own.place;
    let here: Vec<usize> = (0..link.members().len()).filter(of_here).collect();
    let at = here.iter().position(|&rank| rank == link.rank).unwrap_or(0);
    let watched: Vec<usize> =
        here.iter().cycle().skip(at + 1).take((here.len() - 1).min(MOST)).copied().collect();
    if watched.is_empty() {
        return Ok(());
    }
    thread::Builder::new()
        .name("watching ranks".into())
        .spawn(move || watch(link, &watched))
        .context("no thread can be started to watch over the other ranks")?;
    Ok(())
}

fn watch(link: &'static Link, watched: &[usize]) {
    let processes: Vec<u32> = watched.iter().map(|&rank| link.members()[rank].process).collect();
    let bell = Bell::of(&processes);
    loop {
        bell.wait(PAUSE);
        if link.is_closing() {
            return;
        }
        let gone = |&rank: &usize| link.members()[rank].is_gone();
        let Some(place) = watched.iter().position(gone) else { continue };
        // It may have been about to end, as this rank is by now.
        thread::sleep(if place == 0 { Duration::ZERO } else { GIVE_WAY });
        if link.is_closing() {
            return;
        }
        let (rank, member) = (watched[place], &link.members()[watched[place]]);
        errors::complain(&format!(
            "error: rank {rank} on {} (process {}) has ended without a word: it was killed, or it \
             has crashed; all others end too, and the last checkpoint stands",
            member.host, member.process
        ));
        errors::leave(1);
    }
}

/// Rings when a process ends: some launchers leave the others no time for a next look.
struct Bell(#[cfg(target_os = "linux")] Vec<std::fs::File>);

impl Bell {
    #[cfg(target_os = "linux")]
    fn of(processes: &[u32]) -> Bell {
        use std::os::fd::FromRawFd;
        let open = |&process: &u32| {
            // SAFETY: the call takes two numbers and answers with a descriptor of its own, or -1.
            let file = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) } as i32;
            // SAFETY: nobody else has that descriptor.
            (file >= 0).then(|| unsafe { std::fs::File::from_raw_fd(file) })
        };
        Bell(processes.iter().filter_map(open).collect())
    }

    #[cfg(not(target_os = "linux"))]
    fn of(_: &[u32]) -> Bell {
        Bell()
    }

    /// Waits until it rings, `most` at most.
    #[cfg(target_os = "linux")]
    fn wait(&self, most: Duration) {
        use std::os::fd::AsRawFd;
        let ask = |file: &std::fs::File| libc::pollfd {
            fd: file.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let mut asked: Vec<libc::pollfd> = self.0.iter().map(ask).collect();
        let most = most.as_millis() as i32;
        // SAFETY: as many entries as are said, which the call writes answers to.
        unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, most) };
    }

    #[cfg(not(target_os = "linux"))]
    fn wait(&self, most: Duration) {
        thread::sleep(most);
    }
}
