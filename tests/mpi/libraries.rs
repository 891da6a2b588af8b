//! The library is looked for only where a launcher says so, and must be the launcher's.

use super::launchers::{self, Running};
use crate::common::{World, sentence};

#[test]
fn without_a_launcher_nothing_is_looked_for() {
    let world = World::new();
    let run = |variables: &[(&str, &str)], args: &str| {
        let mut command = world.command(args);
        command.envs(variables.iter().copied()).env("ALEXNET_MPI", "/nowhere/libmpi.so");
        command.output().unwrap()
    };
    let one = "train --config linear.toml --set train.epochs=1";
    assert!(run(&[], &format!("{one} --run a")).status.success());
    // One process of a launcher is none of several; an allocation of Slurm's is no step of it.
    let single = [("OMPI_COMM_WORLD_SIZE", "1"), ("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")];
    assert!(run(&single, &format!("{one} --run b")).status.success());
    let missing = |variables: &[(&str, &str)], args: &str| {
        let output = run(variables, args);
        assert_ne!(output.status.code(), Some(0));
        let sentence = sentence(&output);
        assert!(sentence.contains("/nowhere/libmpi.so"), "{sentence}");
    };
    missing(&[], "train --config linear.toml --mpi --run c");
    missing(&[("PMI_SIZE", "2"), ("PMI_RANK", "0")], "train --config linear.toml --run c");
    missing(&[("SLURM_STEP_NUM_TASKS", "2")], "eval a");
    assert!(!world.path("c").exists());
    // Other commands are refused without a look at any library.
    let output = run(&[("OMPI_COMM_WORLD_SIZE", "3")], "inspect a");
    assert!(sentence(&output).contains("has started 3"));
}

#[test]
fn a_library_that_is_none() {
    let world = World::new();
    world.write("libmpi.so.40", "no library");
    let of = |library: &str, word: &str| {
        let mut command = world.command("train --config linear.toml --mpi");
        let output = command.env("ALEXNET_MPI", library).output().unwrap();
        let sentence = sentence(&output);
        assert!(sentence.contains(word) && sentence.contains("ALEXNET_MPI"), "{sentence}");
    };
    of(&world.path("libmpi.so.40").display().to_string(), "cannot be loaded");
    if cfg!(target_os = "linux") {
        of("libc.so.6", "it has no MPI_Get_library_version");
    }
}

/// MPI without a launcher: one process that says so.
#[test]
fn train_asks_for_mpi() {
    let Some(launcher) = launchers::any().filter(launchers::Launcher::is_open_mpi) else { return };
    let world = World::new();
    let mut command =
        world.command("train --config linear.toml --set train.epochs=1 --mpi --run a");
    let output = command.env("ALEXNET_MPI", "libmpi.so.40").output().unwrap();
    assert!(output.status.success(), "{launcher}: {output:?}", launcher = launcher.name);
}

/// With another launcher's library each process would take itself for the only one.
#[test]
fn another_launchers_library_is_refused() {
    let mut all = launchers::all();
    let Some(place) = all.iter().position(|l| l.name == "MPICH") else { return };
    if !all.iter().any(launchers::Launcher::is_open_mpi) {
        return;
    }
    let mut mpich = all.swap_remove(place);
    mpich.variables.push(("ALEXNET_MPI", "libmpi.so.40".into()));
    let world = World::new();
    let args = "train --config linear.toml --run a";
    let (code, said) = Running::start(&world, &mpich, 2, args).end();
    // The processes know nothing of each other, so each says it.
    assert_eq!(code, Some(2), "{said}");
    let told = said.lines().filter(|line| line.contains("error: "));
    assert!(told.clone().count() > 0, "{said}");
    for line in told {
        assert!(line.contains("has started 2 processes") && line.contains("knows of 1"), "{line}");
    }
    assert!(!world.path("a").exists(), "{said}");
}
