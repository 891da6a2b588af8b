//! The built program under `mpirun`: several processes train and evaluate one network, end
//! together, and refuse what does not go together. Open MPI, MPICH and PyPI's `mpich` are used
//! where they are (`.ci/mpi` installs them); where there is none the tests say so and pass.

#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../standin/mod.rs"]
mod standin;

mod bits;
mod deaths;
mod evaluation;
mod gpus;
mod hybrid;
mod hybrid_gpus;
mod launchers;
mod libraries;
mod nccl;
mod refusals;
mod signals;
mod travel;

use common::{World, tensors};
use launchers::{Launcher, Running};
use std::path::Path;

/// Steps of five images a part; the last of an epoch has two parts and none for the others.
const PARTS: &str =
    "train --config net.toml --set train.batch=20 --set train.parts=4 --set train.epochs=3";

/// Whether two runs have left the same, but for times and pictures of them.
#[track_caller]
fn assert_same(world: &World, run: &str, whole: &str) {
    for file in ["last.safetensors", "best.safetensors", "config.toml"] {
        let file = |run: &str| world.bytes(&format!("{run}/{file}"));
        assert!(file(run) == file(whole), "{file} of {run} and {whole} differ", file = "a file");
    }
    assert_eq!(world.timeless(run), world.timeless(whole));
}

/// Runs `args` under `launcher` in `ranks` processes, which must succeed; what it has said.
#[track_caller]
fn ok(world: &World, launcher: &Launcher, ranks: usize, args: &str) -> String {
    let (code, said) = Running::start(world, launcher, ranks, args).end();
    assert_eq!(code, Some(0), "{} {args}: {said}", launcher.name);
    said
}

/// The same for what must fail: there is one line with an error, which has each of `words`.
#[track_caller]
fn fails(world: &World, launcher: &Launcher, ranks: usize, args: &str, words: &[&str]) -> String {
    let (code, said) = Running::start(world, launcher, ranks, args).end();
    assert_ne!(code, Some(0), "{} {args}: {said}", launcher.name);
    one_error(&said, words)
}

/// The one line with an error in `said`, which has each of `words`.
#[track_caller]
fn one_error(said: &str, words: &[&str]) -> String {
    let of_rank = |line: &str| {
        let rest = line.strip_prefix("rank ").and_then(|rest| rest.split_once(": "));
        rest.is_some_and(|(_, rest)| rest.starts_with("error: "))
    };
    let is_ours = |line: &&str| line.starts_with("error: ") || of_rank(line);
    let errors: Vec<&str> = said.lines().filter(is_ours).collect();
    assert_eq!(errors.len(), 1, "{said}");
    for word in words {
        assert!(errors[0].contains(word), "no {word:?} in: {said}");
    }
    errors[0].to_string()
}

/// Whether all tensors are equal within 10⁻⁵ of their largest value.
#[track_caller]
fn close(file: &Path, whole: &Path) {
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    for ((name, _, ours), (other, _, theirs)) in tensors(file).into_iter().zip(tensors(whole)) {
        assert_eq!(name, other);
        let (ours, theirs) = (floats(&ours), floats(&theirs));
        let most = theirs.iter().fold(1e-3f32, |most, v| most.max(v.abs()));
        let far = ours.iter().zip(&theirs).fold(0f32, |far, (a, b)| far.max((a - b).abs()));
        assert!(far <= 1e-5 * most, "{name}: {far} of {most}");
    }
}
