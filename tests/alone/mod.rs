//! NCCL with one process, which has nobody but itself: what sees to it that nothing goes another
//! way, the library, and the waits for it. On the stand-ins for GPU, NVRTC and NCCL
//! (`tests/standin`) or, with ALEXNET_TEST_GPU=1, on a GPU with NVIDIA's own library, where there is
//! one.

use crate::standin;
use alexnet::engine::Exchange;
use alexnet::gpu::nccl::Nccl;
use alexnet::layers::softmax::Tally;
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;

/// One process alone, as one of several sees the others; its loss is said to be `loss`, if that is
/// given.
#[derive(Default)]
pub struct Alone {
    pub loss: Option<f64>,
    pub agreed: bool,
    pub begun: bool,
}

impl Exchange for Alone {
    fn agree(&mut self, tally: Tally) -> Result<Tally> {
        assert!(!self.begun, "all agree before parameters change");
        self.agreed = true;
        Ok(Tally { loss: self.loss.unwrap_or(tally.loss), ..tally })
    }
    fn send(&mut self, _: usize, _: Vec<f32>) {
        panic!("a gradient goes through main memory");
    }
    fn flush(&mut self) {
        panic!("gradients go through main memory");
    }
    fn receive(&mut self, _: usize) -> Result<Vec<f32>> {
        panic!("a sum comes through main memory");
    }
    fn begins(&mut self) {
        self.begun = true;
    }
    fn waited(&mut self, _: std::time::Duration) {
        panic!("nobody is waited for");
    }
}

/// The library; None, which is said: this GPU's machine has none.
pub fn nccl() -> Option<Arc<Nccl>> {
    match Nccl::open() {
        Ok(nccl) => {
            eprintln!("NCCL {} ({})", nccl.version, nccl.path.display());
            Some(nccl)
        }
        Err(error) if standin::on_gpu() => {
            eprintln!("skipped: {error:#}");
            None
        }
        Err(error) => panic!("{error:#}"),
    }
}

/// Switches with which the stand-in for NCCL is found, and lays its files into `folder`.
pub fn switches(folder: &Path) -> Option<[(&'static str, String); 2]> {
    let path = standin::path_with_nccl()?;
    Some([("LD_LIBRARY_PATH", path), ("STANDIN_NCCL", folder.display().to_string())])
}

/// Runs `body` with NCCL: on a GPU as it is, else on the stand-ins with `more` switches.
#[track_caller]
pub fn with_nccl(test: &str, more: &[(&str, &str)], body: impl FnOnce()) {
    if standin::on_gpu() {
        return standin::run(test, &[], body);
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(own) = switches(folder.path()) else { return };
    let own = own.iter().map(|(name, value)| (*name, &value[..]));
    standin::run(test, &own.chain(more.iter().copied()).collect::<Vec<_>>(), body);
}

/// Runs `body` on the stand-ins and counts the waits without which there would be a race: of each
/// pair those of what it names first for what it names second, of which there are to be `least`.
#[track_caller]
pub fn waits_are_needed(test: &str, pairs: &[(&str, &str)], least: usize, body: impl FnOnce()) {
    if standin::skipped_on_gpu(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("waits.json");
    let mut is_child = false;
    let more = [&standin::RACES[..], &[("STANDIN_WAITS", file.to_str().unwrap())]].concat();
    with_nccl(test, &more, || {
        is_child = true;
        body();
    });
    // The process that has the stand-in writes the file at its end; without a compiler there is none.
    if is_child || standin::path_with_nccl().is_none() {
        return;
    }
    let text = std::fs::read_to_string(&file).expect("what the stand-in has seen");
    for (before, behind) in pairs {
        let start = format!("{{\"before\":\"{before}");
        let behind = format!("\"behind\":\"{behind}");
        let seen = |line: &&str| {
            line.starts_with(&start) && line.contains(&behind) && line.contains("race: ")
        };
        let count = text.lines().filter(seen).count();
        assert!(count >= least, "{count} waits of {before} for {behind}");
    }
}
