//! Who a rank is: its machine, its process, the cores that it may use, its build of the program.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::thread::available_parallelism;

/// One rank as all others know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The machine's name.
    pub host: String,
    /// Its process there.
    pub process: u32,
    /// Where process numbers mean the same, as far as can be told: machine, start, namespace.
    pub place: String,
    /// When the process was started, in the machine's ticks; 0 where that cannot be told.
    pub started: u64,
    /// The cores that it may use; empty where that cannot be told.
    pub cores: BTreeSet<usize>,
    /// Cores that the machine has.
    pub all_cores: usize,
    /// Version of the program and checksum of its file.
    pub build: String,
}

impl Member {
    /// This process.
    pub fn here() -> Member {
        let process = std::process::id();
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default().trim().to_string();
        let host = host();
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let boot = read("/proc/sys/kernel/random/boot_id");
        Member {
            place: format!("{host} {boot} {}", namespace.display()),
            started: stat(process).map_or(0, |stat| stat.started),
            host,
            process,
            cores: cores(),
            all_cores: all_cores(),
            build: build(),
        }
    }

    /// Whether the process is no longer there; known on its own machine only.
    pub fn is_gone(&self) -> bool {
        // Where there is no /proc nothing is known.
        self.started != 0
            && match stat(self.process) {
                Some(stat) => stat.has_ended || stat.started != self.started,
                None => true,
            }
    }

    /// Cores for this one of the ranks of one machine, `all`, that share them: a core that several
    /// may use counts in parts. None: nothing is known of them.
    pub fn share_of_cores(&self, all: &[&Member]) -> Option<usize> {
        if self.cores.is_empty() {
            return None;
        }
        let users = |core: &usize| all.iter().filter(|m| m.cores.contains(core)).count().max(1);
        let share: f64 = self.cores.iter().map(|core| 1.0 / users(core) as f64).sum();
        // A container may be allowed less time than its cores have.
        let allowed = available_parallelism().map_or(1, |n| n.get());
        let limit = match allowed < self.cores.len() {
            true => (allowed / all.len().max(1)).max(1),
            false => usize::MAX,
        };
        Some(((share + 1e-6) as usize).clamp(1, limit))
    }
}

/// The machine's name.
#[cfg(unix)]
fn host() -> String {
    let mut name = [0u8; 256];
    // SAFETY: the call writes no more than there is room for, and a zero stays behind it.
    let code = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let length = name.iter().position(|&byte| byte == 0).unwrap_or(0);
    match code {
        0 if length > 0 => String::from_utf8_lossy(&name[..length]).into_owned(),
        _ => "a machine without name".into(),
    }
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or("a machine without name".into())
}

/// What the system says of a process.
struct Stat {
    has_ended: bool,
    started: u64,
}

/// None: there is no such process, or no `/proc`.
fn stat(process: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which may hold anything: state, then 18 numbers, then the start.
    let mut fields = text.rsplit(')').next()?.split_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some(Stat { has_ended: matches!(state, "Z" | "X"), started })
}

/// Version and checksum: two builds may round differently.
fn build() -> String {
    let file = std::env::current_exe().and_then(fs::read);
    let sum = file.map_or("unknown".into(), |bytes| format!("{:08x}", crc32fast::hash(&bytes)));
    format!("{} ({sum})", env!("CARGO_PKG_VERSION"))
}

#[cfg(target_os = "linux")]
fn cores() -> BTreeSet<usize> {
    // SAFETY: the set is plain data, and the call writes no more than its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return BTreeSet::new();
        }
        (0..libc::CPU_SETSIZE as usize).filter(|&core| libc::CPU_ISSET(core, &set)).collect()
    }
}

#[cfg(not(target_os = "linux"))]
fn cores() -> BTreeSet<usize> {
    (0..all_cores()).collect()
}

#[cfg(unix)]
fn all_cores() -> usize {
    // SAFETY: a question without arguments of ours.
    let cores = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(cores).unwrap_or(1).max(1)
}

#[cfg(not(unix))]
fn all_cores() -> usize {
    available_parallelism().map_or(1, |n| n.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_that_share_cores_divide_them() {
        let of =
            |cores: &[usize]| Member { cores: cores.iter().copied().collect(), ..Member::here() };
        let two = [of(&[0, 1, 2, 3]), of(&[0, 1, 2, 3])];
        let share = |all: &[Member], at: usize| {
            all[at].share_of_cores(&all.iter().collect::<Vec<_>>()).unwrap()
        };
        // This machine may allow less.
        let allowed = available_parallelism().unwrap().get();
        if allowed >= 4 {
            assert_eq!([share(&two, 0), share(&two, 1)], [2, 2]);
        }
        let bound = [of(&[0]), of(&[1])];
        assert_eq!([share(&bound, 0), share(&bound, 1)], [1, 1]);
        let many = vec![of(&[0]); 3];
        assert_eq!(share(&many, 2), 1, "less than a core is one thread");
    }

    #[test]
    fn this_process_is_there_and_another_start_is_not() {
        let here = Member::here();
        assert!(!here.is_gone());
        if here.started != 0 {
            assert!(Member { started: here.started + 1, ..here.clone() }.is_gone());
            assert!(Member { process: u32::MAX, ..here }.is_gone());
        }
    }
}
