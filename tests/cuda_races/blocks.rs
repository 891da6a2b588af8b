//! Threads and blocks of one launch.

use super::{device, kernel, planted};
use crate::standin::RACES;

/// Launches `name` with two blocks if `blocks`, else one.
fn launch(name: &str, fault: bool, blocks: usize) {
    let device = device(0);
    let out = device.buffer_of(&[1f32; 256]).unwrap();
    let kernel = kernel(&device, name);
    let arguments = kernel.arguments().buffer(&out).word(fault.into());
    // SAFETY: the kernels take a buffer of 256 floats and a number.
    let queued = unsafe { arguments.on(&device.compute, (blocks, 1, 1), (64, 1, 1)) };
    let _ = queued.and_then(|()| device.wait());
}

#[test]
fn a_missing_barrier() {
    let words = ["race: thread", "of shared memory", "without a barrier between", "no_barrier"];
    planted("blocks::a_missing_barrier", &RACES, &words, |f| launch("no_barrier", f, 1));
}

/// The values come out right here: the threads that overwrite run after those that read.
#[test]
fn a_missing_barrier_before_the_next_write() {
    let test = "blocks::a_missing_barrier_before_the_next_write";
    let words = ["writes byte", "of shared memory", "read, without a barrier between"];
    planted(test, &RACES, &words, |f| launch("no_second_barrier", f, 1));
}

#[test]
fn a_warp_in_step_is_no_barrier() {
    let words = ["of shared memory", "without a barrier between"];
    let test = "blocks::a_warp_in_step_is_no_barrier";
    planted(test, &RACES, &words, |f| launch("warp_for_block", f, 1));
}

#[test]
fn global_memory_within_a_block() {
    let words = ["of a buffer of 1024 bytes", "without a barrier between"];
    let test = "blocks::global_memory_within_a_block";
    planted(test, &RACES, &words, |f| launch("no_barrier_global", f, 1));
}

#[test]
fn two_blocks_write() {
    let words = ["writes byte 0 of a buffer", "another block (0 of the grid) wrote"];
    planted("blocks::two_blocks_write", &RACES, &words, |f| launch("blocks_write", f, 2));
}

#[test]
fn a_block_reads_what_another_writes() {
    let words = ["reads byte", "another block (0 of the grid) wrote"];
    let test = "blocks::a_block_reads_what_another_writes";
    planted(test, &RACES, &words, |f| launch("block_reads", f, 2));
}

#[test]
fn halves_of_a_word() {
    let words = ["writes byte", "wrote, without a barrier between"];
    planted("blocks::halves_of_a_word", &RACES, &words, |f| launch("halves", f, 1));
}

#[test]
fn an_asynchronous_copy_not_waited_for() {
    let words = ["an asynchronous copy of thread", "still has to write"];
    let test = "blocks::an_asynchronous_copy_not_waited_for";
    planted(test, &RACES, &words, |f| launch("copy_not_waited_for", f, 1));
}

#[test]
fn an_asynchronous_copy_too_early() {
    let words = ["writes byte", "of shared memory", "read, without a barrier between"];
    let test = "blocks::an_asynchronous_copy_too_early";
    planted(test, &RACES, &words, |f| launch("copy_too_early", f, 1));
}
