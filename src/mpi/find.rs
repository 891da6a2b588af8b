//! Where the MPI library is. It must be the launcher's: another one takes its process for the only
//! one there is. So it is looked for beside the launcher first, whose program is among the parents
//! of this process, then on the loader's path, then in the usual places.

use super::launcher::{Kind, Launcher};
use super::library::{self, Calls};
use crate::config_error;
use anyhow::{Context, Result};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Names a library in place of all that is tried.
const VARIABLE: &str = "ALEXNET_MPI";
/// Names of files, by kind.
const OPEN_MPI: &str = "libmpi.so.40";
const MPICH: [&str; 2] = ["libmpi.so.12", "libmpich.so.12"];
const STANDARD: &str = "libmpi_abi.so.1";

/// The library for `launcher`, and what it was found as.
///
/// # Errors
/// If there is none, or the first that is there cannot be used.
pub(super) fn find(launcher: &Launcher) -> Result<(Box<dyn Calls>, PathBuf)> {
    if let Some(named) = env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        let found = library::load(&named).with_context(|| VARIABLE.to_string())?;
        let calls = found
            .with_context(|| format!("{VARIABLE}: there is no library {}", named.display()))?;
        return Ok((calls, named));
    }
    for path in candidates(launcher) {
        if let Some(calls) = library::load(&path)? {
            return Ok((calls, path));
        }
    }
    Err(config_error!(
        "no MPI library was found (looked for {} beside the launcher, on the loader's path and in \
         the usual places), and {} has started this process; install the library of that launcher, \
         or name it: {VARIABLE}=/path/to/libmpi.so",
        names(launcher).join(", "),
        launcher.kind.name()
    ))
}

/// Names of the library for `launcher`, the likeliest first.
fn names(launcher: &Launcher) -> Vec<&'static str> {
    match launcher.kind {
        Kind::OpenMpi => vec![OPEN_MPI, STANDARD],
        Kind::Hydra => vec![MPICH[0], MPICH[1], STANDARD],
        // srun speaks PMIx to Open MPI, and PMI to MPICH, with the variables of Hydra.
        Kind::Slurm | Kind::Pmix if launcher.speaks_pmix => {
            vec![OPEN_MPI, STANDARD, MPICH[0], MPICH[1]]
        }
        Kind::Slurm | Kind::Pmix | Kind::Unknown => vec![STANDARD, MPICH[0], MPICH[1], OPEN_MPI],
    }
}

/// All that may be it, in order: beside the launcher, then on the loader's path, then elsewhere.
fn candidates(launcher: &Launcher) -> Vec<PathBuf> {
    let names = names(launcher);
    let in_folders = |folders: Vec<PathBuf>| -> Vec<PathBuf> {
        let pairs = folders.iter().flat_map(|f| names.iter().map(|name| f.join(name)));
        pairs.filter(|path| path.exists()).collect()
    };
    let mut all = in_folders(launchers().iter().flat_map(|program| beside(program)).collect());
    all.extend(names.iter().map(PathBuf::from));
    all.extend(in_folders(usual()));
    all
}

/// The programs that started this process and whose names are those of launchers.
fn launchers() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut process = std::process::id();
    for _ in 0..8 {
        let Some(parent) = parent(process) else { break };
        process = parent;
        let Ok(program) = fs::read_link(format!("/proc/{process}/exe")) else { continue };
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parts = ["mpirun", "mpiexec", "orterun", "orted", "prte", "hydra"];
        if parts.iter().any(|part| name.contains(part)) {
            found.push(program);
        }
    }
    found
}

fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok().filter(|&parent| parent > 1)
}

/// The folders of the libraries that belong to `program`, of `…/bin`.
fn beside(program: &Path) -> Vec<PathBuf> {
    let Some(root) = program.parent().and_then(Path::parent) else { return Vec::new() };
    // Of a system's own programs the loader knows the folders, and which of them are its own.
    if [Path::new("/usr"), Path::new("/")].contains(&root) {
        return Vec::new();
    }
    ["lib", "lib64"].map(|lib| root.join(lib)).to_vec()
}

/// Folders that are on no loader's path: Python's environments, Conda's, modules, distributions'.
fn usual() -> Vec<PathBuf> {
    let roots = ["VIRTUAL_ENV", "CONDA_PREFIX", "MPI_HOME", "MPI_ROOT", "I_MPI_ROOT"];
    let roots = roots.into_iter().filter_map(env::var_os).map(PathBuf::from);
    let mut all: Vec<PathBuf> =
        roots.flat_map(|root| ["lib", "lib64", "lib/release"].map(|lib| root.join(lib))).collect();
    let fixed = [
        "/usr/lib64/openmpi/lib",
        "/usr/lib64/mpich/lib",
        "/usr/lib/x86_64-linux-gnu/openmpi/lib",
        "/usr/lib/aarch64-linux-gnu/openmpi/lib",
        "/usr/local/lib",
        "/usr/local/openmpi/lib",
        "/usr/local/mpich/lib",
        "/opt/openmpi/lib",
        "/opt/mpich/lib",
        "/opt/homebrew/lib",
    ];
    all.extend(fixed.map(PathBuf::from));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launcher_decides_which_library_comes_first() {
        let of = |kind, speaks_pmix| Launcher { kind, size: Some(2), rank: 0, speaks_pmix };
        assert_eq!(names(&of(Kind::OpenMpi, true))[0], "libmpi.so.40");
        assert_eq!(names(&of(Kind::Hydra, false))[0], "libmpi.so.12");
        assert!(!names(&of(Kind::Hydra, false)).contains(&"libmpi.so.40"));
        assert_eq!(names(&of(Kind::Slurm, true))[0], "libmpi.so.40");
        assert_eq!(names(&of(Kind::Slurm, false))[0], "libmpi_abi.so.1");
    }

    #[test]
    fn a_launcher_of_its_own_folder_brings_its_library() {
        let folders = beside(Path::new("/opt/x/bin/hydra_pmi_proxy"));
        assert_eq!(folders, ["/opt/x/lib", "/opt/x/lib64"].map(PathBuf::from));
        assert!(beside(Path::new("/usr/bin/orterun")).is_empty());
    }
}
