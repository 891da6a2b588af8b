//! Disks that are full: small file systems in memory, of any size and with room that comes back.
//! Where none can be mounted the tests say so and pass; faults of single calls are in `faults.rs`.

use super::{LONG, SHORT, assert_same, assert_same_checkpoints, start, wait_until};
use crate::common::{World, sentence, stderr};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A file system of its own at `disk`, until it is dropped.
struct Disk(PathBuf);

impl Disk {
    /// Of so many KiB.
    fn new(world: &World, kib: usize) -> Option<Disk> {
        let path = world.path("disk");
        fs::create_dir_all(&path).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"])
            .arg(&path)
            .output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Disk(path));
        }
        eprintln!("skipped: no file system in memory can be mounted here (it takes root)");
        None
    }

    fn resize(&self, kib: usize) {
        let size = format!("remount,size={kib}k");
        let status = Command::new("mount").args(["-o", &size]).arg(&self.0).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn on_a_disk_of_any_size_training_goes_on_and_nothing_is_torn() {
    let world = World::new();
    world.ok(&format!("{SHORT} --run whole"));
    let one = world.bytes("whole/last.safetensors").len() / 1024 + 1;
    let (mut ended_well, mut ended_full) = (0, 0);
    // From nothing to more than the run can fill.
    for kib in (4..5 * one).step_by(one / 4 + 1) {
        let Some(disk) = Disk::new(&world, kib) else { return };
        let output = world.run(&format!("{SHORT} --run disk/run"));
        let said = stderr(&output);
        let epochs = said.matches("validation loss").count();
        assert_eq!(epochs, 3, "{kib} KiB: it goes on to the end: {said}");
        let names = world.names("disk/run");
        assert!(names.iter().all(|name| !name.ends_with(".tmp")), "{kib} KiB: {names:?}");
        let files: Vec<_> = names.iter().filter(|name| name.ends_with(".safetensors")).collect();
        for file in &files {
            world.ok(&format!("eval disk/run/{file}"));
        }
        if output.status.success() {
            ended_well += 1;
            assert_same(&world, "disk/run", "whole");
            continue;
        }
        ended_full += 1;
        assert_eq!(output.status.code(), Some(1), "{kib} KiB: {said}");
        assert!(sentence(&output).contains("No space left"), "{kib} KiB: {said}");
        // With room the run goes on from what is there.
        disk.resize(20 * one);
        if files.is_empty() {
            assert!(sentence(&output).contains("no checkpoint"), "{kib} KiB: {said}");
            continue;
        }
        let output = world.run("train --resume --run disk/run");
        let finished = stderr(&output).contains("the run is finished");
        assert!(output.status.success() || finished, "{kib} KiB: {}", stderr(&output));
        assert_same_checkpoints(&world, "disk/run", "whole");
        assert!(finished || world.timeless("disk/run") == world.timeless("whole"), "{kib} KiB");
    }
    assert!(ended_well > 0 && ended_full > 0, "{ended_well} and {ended_full}");
}

#[test]
fn room_that_comes_back_is_used() {
    let world = World::new();
    world.ok(&format!("{LONG} --run whole"));
    let one = world.bytes("whole/last.safetensors").len() / 1024 + 1;
    let Some(_disk) = Disk::new(&world, 1024 + 5 * one) else { return };
    // Room for the config and a few lines.
    fs::write(world.path("disk/ballast"), vec![1; 1024 * (1024 + 5 * one - 12)]).unwrap();
    let mut child = start(&world, &format!("{LONG} --run disk/run"));
    wait_until("a warning", || world.text("said").contains("lines wait for room"));
    assert!(world.text("said").contains("training goes on, and saving is tried again"));
    assert!(!world.path("disk/run/last.safetensors").exists());
    fs::remove_file(world.path("disk/ballast")).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{}", world.text("said"));
    assert!(world.text("said").contains("saved again"), "{}", world.text("said"));
    assert_same(&world, "disk/run", "whole");
}

/// As a shell's `ulimit -f` leaves it: the signal that comes with such a limit ends nothing either.
#[cfg(unix)]
#[test]
fn a_limit_on_the_size_of_files_is_a_full_disk() {
    let world = World::new();
    let line = format!("ulimit -f 8; exec {} {SHORT} --run run", env!("CARGO_BIN_EXE_alexnet"));
    let mut shell = Command::new("bash");
    let output = shell.current_dir(world.folder.path()).args(["-c", &line]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(sentence(&output).contains("File too large"), "{}", stderr(&output));
}
