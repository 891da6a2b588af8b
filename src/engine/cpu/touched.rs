//! Whose memory it is: a page belongs to the thread, and on machines of several sockets to the
//! socket, that first writes to it. The engine takes its memory untouched, and the first steps
//! write it from the threads that use it.

use super::Cpu;
use super::beside::shared;
use super::small::plan;
use crate::data::form::CropView;
use crate::engine::{Engine, Rates};
use crate::layers::Run;
use crate::network::Mode;
use std::process::Command;

const BATCH: usize = 64;

/// Bytes of a page.
fn page() -> usize {
    // SAFETY: it only answers.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap()
}

/// Pages that lie in `values` as a whole, and how many of them are there.
fn pages(values: &[f32]) -> [usize; 2] {
    let page = page();
    let first = (values.as_ptr() as usize).next_multiple_of(page);
    let end = (values.as_ptr() as usize + size_of_val(values)) / page * page;
    if first >= end {
        return [0, 0];
    }
    let mut found = vec![0u8; (end - first) / page];
    // SAFETY: these pages are mapped, since values lie in them, and `found` has a byte for each.
    let failed = unsafe { libc::mincore(first as *mut _, end - first, found.as_mut_ptr().cast()) };
    assert_eq!(failed, 0);
    [found.len(), found.iter().filter(|&found| found & 1 == 1).count()]
}

/// Pages of activations and their gradients, scratch space, parameters, and those that are there.
fn all_pages(cpu: &Cpu) -> [usize; 2] {
    let own = cpu.parameters.iter().flatten();
    let own = own.flat_map(|own| own.value.iter().chain(&own.gradient).chain(&own.momentum));
    let all = cpu.buffers.iter().chain([&cpu.workspace]).chain(own);
    all.fold([0, 0], |[all, there], values| {
        let [more, found] = pages(values);
        [all + more, there + found]
    })
}

/// The faults by which this thread has got pages.
fn faults() -> usize {
    // SAFETY: plain numbers, which the call only writes to.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
        usage
    };
    usize::try_from(usage.ru_minflt).unwrap()
}

/// Whether this process runs the test `name` alone: else one is started that does. Where other
/// tests have left memory behind the system's pages are not asked for.
fn is_alone(name: &str) -> bool {
    const ALONE: &str = "ALEXNET_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut tests = Command::new(std::env::current_exe().unwrap());
    let name = format!("engine::cpu::touched::{name}");
    let output = tests.args(["--exact", &name]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// The paper's network, batch 128: more than a gigabyte is taken, and next to nothing of it
/// written.
#[test]
fn the_engine_takes_its_memory_untouched() {
    if !is_alone("the_engine_takes_its_memory_untouched") {
        return;
    }
    let paper = include_str!("../../../configs/ilsvrc2010.toml");
    let cpu = Cpu::unchecked(shared(plan(paper, 128, Mode::Training))).unwrap();
    let [all, there] = all_pages(&cpu);
    assert!(all * page() > 1 << 30, "{all} pages");
    assert!(there * 100 < all, "{there} of {all} pages");
}

const NETWORK: &str = r#"
    towers = 2
    [data]
    crop = 63
    classes = 4
    [train]
    batch = 64
    [schedule]
    rate = 0.1
    [[layer]]
    name = "conv1"
    kind = "conv"
    kernels = 64
    size = 11
    stride = 4
    [[layer]]
    name = "relu1"
    kind = "relu"
    [[layer]]
    name = "conv2"
    kind = "conv"
    kernels = 64
    size = 3
    padding = [1, 1, 1, 1]
    input = "all-towers"
    [[layer]]
    name = "fc3"
    kind = "fc"
    outputs = 512
    [[layer]]
    name = "fc4"
    kind = "fc"
    outputs = 4
    [[layer]]
    name = "softmax"
    kind = "softmax"
"#;

/// The thread that takes the steps is none of those that compute, and gets few of the pages.
#[test]
fn pages_are_first_written_by_the_threads_that_compute() {
    if !is_alone("pages_are_first_written_by_the_threads_that_compute") {
        return;
    }
    let mut cpu = Cpu::unchecked(shared(plan(NETWORK, BATCH, Mode::Training))).unwrap();
    let images = vec![0.5; BATCH * cpu.plan.input.len()];
    let labels: Vec<u32> = (0..BATCH as u32).map(|image| image % 4).collect();
    let rates =
        vec![
            Some(Rates { weight: 0.1, weight_decay: 0.1, bias: 0.1, bias_decay: 0.1, trust: None });
            6
        ];
    let run = Run { batch: BATCH, training: true, seed: 1, step: 1, first_image: 0 };
    let (before, own) = (all_pages(&cpu), faults());
    cpu.step(&run, CropView::Floats(&images), &labels, 0.9, &rates).unwrap();
    let (after, own) = (all_pages(&cpu), faults() - own);
    let new = after[1] - before[1];
    assert!(new * 10 > after[0] * 5, "{new} of {} pages", after[0]);
    assert!(own * 10 < new, "{own} of {new} pages");
}
