//! Memory that this process may still take: the machine's, the container's, the shell's limit.
//!
//! Linux says all of it in files, Windows and macOS what the machine has ([`systems`]); where
//! nothing is known nothing is refused.

use super::systems;
use anyhow::{Result, anyhow};
use std::fmt;
use std::fs;
use std::path::Path;

/// Memory from one giver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supply {
    /// Bytes that are free, or filled with what the kernel gives up for others.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
    /// Whose they are, after "of": `the machine's memory`.
    pub whose: &'static str,
}

impl fmt::Display for Supply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} of {} are free", size(self.free), size(self.total), self.whose)
    }
}

/// Bytes for people: `512 MiB`, `78.1 GiB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..0x4000_0000 => format!("{} MiB", bytes.div_ceil(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64),
    }
}

/// The giver with the least that is free; None where nothing is known.
pub fn supply() -> Option<Supply> {
    let proc = Path::new("/proc");
    let machine = machine(&proc.join("meminfo"));
    let swap = machine.as_ref().map_or(0, |(_, swap)| *swap);
    let own = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
    let containers = containers(&own, Path::new("/sys/fs/cgroup"), swap);
    let all =
        machine.map(|(supply, _)| supply).into_iter().chain(containers).chain(address_space());
    let told = systems::supply();
    let told = told.map(|(free, total)| Supply { free, total, whose: "the machine's memory" });
    all.chain(told).min_by_key(|supply| supply.free)
}

/// The machine's memory with its swap space, and of that the free swap space.
fn machine(meminfo: &Path) -> Option<(Supply, u64)> {
    let text = fs::read_to_string(meminfo).ok()?;
    let bytes = |key: &str| Some(entry(&text, key)? << 10);
    let swap = bytes("SwapFree:").unwrap_or(0);
    let supply = Supply {
        free: bytes("MemAvailable:")? + swap,
        total: bytes("MemTotal:")? + bytes("SwapTotal:").unwrap_or(0),
        whose: "the machine's memory",
    };
    Some((supply, swap))
}

/// The limits of the control groups that a process is in, whose `/proc/self/cgroup` is `own`, up to
/// `root`, where they are mounted; `swap` bytes may be swapped out.
fn containers(own: &str, root: &Path, swap: u64) -> Vec<Supply> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (mounted, names) = match controllers {
            "" => (root.to_path_buf(), &UNIFIED),
            _ if controllers.split(',').any(|c| c == "memory") => (root.join("memory"), &SEPARATE),
            _ => continue,
        };
        // The path is the machine's; in a container the group itself may be mounted as the root.
        let inside = mounted.join(path.trim_start_matches('/'));
        let groups = inside.ancestors().take_while(|group| group.starts_with(&mounted));
        found.extend(groups.filter_map(|group| container(group, names, swap)));
    }
    found
}

/// What the files of a control group are called.
struct Names {
    limit: &'static str,
    used: &'static str,
    /// Entries of `memory.stat` whose bytes the kernel gives up for others.
    cache: [&'static str; 2],
}

/// Version 2 of control groups.
static UNIFIED: Names =
    Names { limit: "memory.max", used: "memory.current", cache: ["inactive_file", "active_file"] };

/// Version 1.
static SEPARATE: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
};

/// No machine has so much: what version 1 writes for no limit.
const NO_LIMIT: u64 = 1 << 60;

fn container(group: &Path, names: &Names, swap: u64) -> Option<Supply> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    // `max` is no number.
    let total = read(names.limit)?.trim().parse().ok().filter(|&limit: &u64| limit < NO_LIMIT)?;
    let used: u64 = read(names.used)?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    let cache: u64 = names.cache.iter().filter_map(|key| entry(&stat, key)).sum();
    // How much of it may be swapped out is known of version 2 only; otherwise nothing is.
    let bytes = |name: &str| read(name).and_then(|text| text.trim().parse::<u64>().ok());
    let swap = match (read("memory.swap.max"), bytes("memory.swap.current")) {
        (Some(most), Some(now)) => match most.trim().parse::<u64>() {
            Ok(most) => swap.min(most.saturating_sub(now)),
            Err(_) => swap, // `max`
        },
        _ => 0,
    };
    let free = (total + swap).saturating_sub(used.saturating_sub(cache));
    Some(Supply { free, total, whose: "the container's memory" })
}

/// Addresses that a thread takes which begins to allocate, used or not: an arena of glibc's, in
/// bytes.
#[cfg(target_os = "linux")]
const ARENA: u64 = 64 << 20;

/// What `ulimit -v` leaves when one more thread has been started.
#[cfg(target_os = "linux")]
fn address_space() -> Option<Supply> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call only writes to `limit`.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
    let total = Some(limit.rlim_cur).filter(|&limit| known && limit != libc::RLIM_INFINITY)?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let used = entry(&status, "VmSize:")? << 10;
    let whose = "the address space that ulimit -v allows";
    Some(Supply { free: total.saturating_sub(used + ARENA), total, whose })
}

#[cfg(not(target_os = "linux"))]
fn address_space() -> Option<Supply> {
    None
}

/// The number after `key` at the beginning of a line.
fn entry(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(key)).then(|| words.next()?.parse().ok()).flatten()
    })
}

/// So many zeros, in memory that is touched only when they are used.
///
/// # Errors
/// Where there is no such memory.
pub fn zeros(count: usize) -> Result<Vec<f32>> {
    bytemuck::allocation::try_zeroed_vec(count).map_err(|()| {
        let bytes = (count as u64).saturating_mul(4);
        anyhow!("{} of memory cannot be had in one piece", size(bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_machine_counts_its_swap_space() {
        let folder = tempfile::tempdir().unwrap();
        let text = "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 600 kB\nSwapTotal: 50 kB\n\
                    SwapFree: 40 kB\n";
        write(folder.path(), &[("meminfo", text)]);
        let (supply, swap) = machine(&folder.path().join("meminfo")).unwrap();
        assert_eq!((supply.free, supply.total, swap), (640 << 10, 1050 << 10, 40 << 10));
        assert_eq!(machine(&folder.path().join("none")), None);
    }

    /// The group itself is unlimited, the one around it is not.
    #[test]
    fn limits_of_the_groups_around_count() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("a/b"), &[("memory.max", "max\n"), ("memory.current", "5\n")]);
        let stat = "anon 10\ninactive_file 300\nactive_file 200\n";
        let limited =
            [("memory.max", "4000\n"), ("memory.current", "1500\n"), ("memory.stat", stat)];
        write(&root.path().join("a"), &limited);
        let found = containers("0::/a/b\n", root.path(), 0);
        assert_eq!(found.iter().map(|s| (s.free, s.total)).collect::<Vec<_>>(), [(3000, 4000)]);
    }

    /// Version 1, in a container that is mounted as the root: the path inside is the machine's.
    #[test]
    fn a_container_of_the_first_version() {
        let root = tempfile::tempdir().unwrap();
        let files = [("memory.limit_in_bytes", "8000"), ("memory.usage_in_bytes", "9000")];
        write(&root.path().join("memory"), &files);
        let own = "9:name=systemd:/x\n4:cpu,memory:/docker/0123\n0::/\n";
        let found = containers(own, root.path(), 0);
        assert_eq!(found.iter().map(|s| (s.free, s.total)).collect::<Vec<_>>(), [(0, 8000)]);
        write(&root.path().join("memory"), &[("memory.limit_in_bytes", "9223372036854771712")]);
        assert_eq!(containers(own, root.path(), 0), []);
    }

    #[test]
    fn what_cannot_be_had_is_an_error() {
        assert_eq!(zeros(3).unwrap(), [0.0; 3]);
        for count in [usize::MAX / 4, usize::MAX / 8, usize::MAX] {
            assert!(zeros(count).unwrap_err().to_string().contains("cannot be had"));
        }
    }

    #[cfg(any(target_os = "linux", target_os = "macos", windows))]
    #[test]
    fn this_machine_has_some() {
        let supply = supply().unwrap();
        assert!((1 << 20..1 << 50).contains(&supply.total), "{supply}");
        assert!(supply.free > 1 << 20 && supply.free <= supply.total, "{supply}");
    }
}
