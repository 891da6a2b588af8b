//! Pools of threads, of as many as the machine has a use for and the system gives.

use crate::note;
use anyhow::{Context, Result};
use rayon::{ThreadBuilder, ThreadPool, ThreadPoolBuilder};
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, available_parallelism};
use std::time::Duration;

/// A pool has so many threads for each core at most; more of them only take each other's time.
const FOR_EACH_CORE: usize = 4;
/// So many are always let be.
const LET_BE: usize = 64;

/// So long the kernel may count a thread that has ended.
const STILL_COUNTED: Duration = Duration::from_millis(10);

/// Seconds that this thread has been at work.
#[cfg(unix)]
pub fn own_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is there to be written.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

/// Seconds that have passed: a system that is no Unix is not asked.
#[cfg(not(unix))]
pub fn own_time() -> f64 {
    static START: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed().as_secs_f64()
}

fn cores() -> usize {
    available_parallelism().map_or(1, |n| n.get())
}

/// Threads of one pool that the machine has a use for, at most.
pub fn most() -> usize {
    (FOR_EACH_CORE * cores()).max(LET_BE)
}

/// `wanted`, or what the machine has a use for, if that is less, which is said; `what` names where
/// the number stands.
pub fn useful(what: &str, wanted: usize) -> usize {
    if wanted > most() {
        note!("{what} {wanted}: for this machine's {} cores {} are enough", cores(), most());
    }
    wanted.min(most())
}

/// Starts the pool that computes, of `wanted` threads or one a core.
///
/// # Errors
/// If the system gives no thread at all.
pub fn start(wanted: Option<usize>) -> Result<()> {
    let from_environment = || std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok();
    let wanted = match wanted.or_else(from_environment) {
        None | Some(0) => cores(),
        Some(wanted) => useful("--threads", wanted),
    };
    let Waiting { count, hand } = Waiting::start("compute", wanted)?;
    ThreadPoolBuilder::new()
        .num_threads(count)
        .spawn_handler(|thread| to(&hand, thread))
        .build_global()
        .context("the threads that compute cannot be started")
}

/// A pool beside the one that computes; `name` is what its threads are for.
///
/// # Errors
/// If the system gives no thread at all.
pub fn pool(name: &str, wanted: usize) -> Result<ThreadPool> {
    let Waiting { count, hand } = Waiting::start(name, wanted)?;
    ThreadPoolBuilder::new()
        .num_threads(count)
        .spawn_handler(|thread| to(&hand, thread))
        .build()
        .with_context(|| format!("the threads for {name} cannot be started"))
}

fn to(hand: &Sender<ThreadBuilder>, thread: ThreadBuilder) -> io::Result<()> {
    hand.send(thread).map_err(|_| io::Error::other("a thread has ended before its work"))
}

/// Threads that are there already and wait for what they shall be: a pool that finds no thread for
/// itself could not be tried again with fewer.
struct Waiting {
    /// How many are to be used.
    count: usize,
    hand: Sender<ThreadBuilder>,
}

impl Waiting {
    /// `wanted` threads, or fewer with a note where the system does not give so many.
    fn start(name: &str, wanted: usize) -> Result<Waiting> {
        let (started, error) = match Waiting::start_all(name, wanted) {
            Ok(waiting) => return Ok(waiting),
            Err(refusal) => refusal,
        };
        if started == 0 {
            let limits = "see what ulimit -u and ulimit -v allow";
            return Err(error)
                .with_context(|| format!("the system gives no thread for {name}; {limits}"));
        }
        // Others need some too: the loader of training, that of validation.
        let count = (started / 3).max(1);
        note!(
            "the system gives {started} threads for {name} instead of {wanted} ({error}); going on \
             with {count}"
        );
        Waiting::start(name, count)
    }

    /// Err: how many could be started, and why no more. They have ended.
    fn start_all(name: &str, wanted: usize) -> std::result::Result<Waiting, (usize, io::Error)> {
        let (hand, handed) = mpsc::channel();
        let handed = Arc::new(Mutex::new(handed));
        let mut threads = Vec::new();
        for started in 0..wanted {
            let handed = Arc::clone(&handed);
            let thread = Builder::new().name(format!("{name}-{started}"));
            match thread.spawn(move || serve(&handed)) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    drop(hand);
                    // A panic in one has been told by the hook.
                    threads.into_iter().for_each(|thread| drop(thread.join()));
                    std::thread::sleep(STILL_COUNTED);
                    return Err((started, error));
                }
            }
        }
        Ok(Waiting { count: wanted, hand })
    }
}

fn serve(handed: &Mutex<Receiver<ThreadBuilder>>) {
    let thread = handed.lock().unwrap_or_else(PoisonError::into_inner).recv();
    if let Ok(thread) = thread {
        thread.run();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn a_pool_has_the_threads_that_were_wanted() {
        let pool = pool("tests", 3).unwrap();
        assert_eq!(pool.current_num_threads(), 3);
        assert_eq!(pool.install(|| (0..1000).into_par_iter().sum::<u32>()), 499_500);
    }

    #[test]
    fn more_than_the_machine_has_a_use_for_are_not_started() {
        assert_eq!(useful("--threads", 5), 5);
        assert!(useful("--threads", 65_535) < 65_535);
    }
}
