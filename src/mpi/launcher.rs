//! Whether a launcher has started this process as one of several, from the environment alone.

use std::env;

/// Who starts processes, and so which library they use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Open MPI's `mpirun`.
    OpenMpi,
    /// Hydra's `mpiexec`, of MPICH and of all that come from it (Intel MPI, MVAPICH).
    Hydra,
    /// Slurm's `srun` by itself.
    Slurm,
    /// Another one that speaks PMIx, which does not say how many processes there are.
    Pmix,
    /// None is known: `train --mpi`.
    Unknown,
}

impl Kind {
    /// Its name as users know it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::OpenMpi => "Open MPI's mpirun",
            Kind::Hydra => "MPICH's mpiexec",
            Kind::Slurm => "srun",
            Kind::Pmix => "a PMIx launcher",
            Kind::Unknown => "no launcher that is known here",
        }
    }
}

/// What the environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// Who has started the process.
    pub kind: Kind,
    /// Processes; None: it is not said.
    pub size: Option<usize>,
    /// Which of them this one is; 0 where it is not said.
    pub rank: usize,
    /// Whether Slurm's environment is there too: `srun` has its own ways to the libraries.
    pub speaks_pmix: bool,
}

/// The launcher of this process. None: there is none, or it has started one process only.
pub fn launcher() -> Option<Launcher> {
    read(&|name| env::var(name).ok())
}

/// As [`launcher`], from variables given by `get`.
fn read(get: &dyn Fn(&str) -> Option<String>) -> Option<Launcher> {
    let number = |name: &str| get(name).and_then(|text| text.trim().parse::<usize>().ok());
    let speaks_pmix = get("PMIX_RANK").is_some();
    let of = |kind, size: &str, rank: &str| {
        let size = number(size)?;
        Some(Launcher { kind, size: Some(size), rank: number(rank).unwrap_or(0), speaks_pmix })
    };
    let found = of(Kind::OpenMpi, "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
        .or_else(|| of(Kind::Hydra, "PMI_SIZE", "PMI_RANK"))
        .or_else(|| of(Kind::Slurm, "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"))
        .or_else(|| {
            let rank = number("PMIX_RANK")?;
            Some(Launcher { kind: Kind::Pmix, size: None, rank, speaks_pmix })
        });
    found.filter(|launcher| launcher.size != Some(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<(Kind, Option<usize>, usize)> {
        let get = |name: &str| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string())
        };
        read(&get).map(|launcher| (launcher.kind, launcher.size, launcher.rank))
    }

    #[test]
    fn each_launcher_is_known_by_its_variables() {
        let open =
            [("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "3"), ("PMIX_RANK", "3")];
        assert_eq!(of(&open), Some((Kind::OpenMpi, Some(4), 3)));
        let hydra = [("PMI_SIZE", "2"), ("PMI_RANK", "1")];
        assert_eq!(of(&hydra), Some((Kind::Hydra, Some(2), 1)));
        let slurm = [("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_PROCID", "5"), ("PMIX_RANK", "5")];
        assert_eq!(of(&slurm), Some((Kind::Slurm, Some(8), 5)));
        assert_eq!(of(&[("PMIX_RANK", "2")]), Some((Kind::Pmix, None, 2)));
    }

    /// A shell in an allocation, a batch script, a single process.
    #[test]
    fn one_process_is_none_of_several() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("SLURM_NTASKS", "16"), ("SLURM_PROCID", "0")]), None);
        assert_eq!(of(&[("SLURM_STEP_NUM_TASKS", "1"), ("SLURM_PROCID", "0")]), None);
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "1"), ("PMIX_RANK", "0")]), None);
        assert_eq!(of(&[("PMI_SIZE", "many")]), None);
    }
}
