//! What the machine does not have: memory and threads, through the built program. Nothing is taken
//! that is not there; the sentence says what is needed, what there is, and what would do.
#![cfg(target_os = "linux")]

mod common;

use common::{World, sentence, stderr};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

/// The shell's `limits`, and then the program with `args`.
fn limited(world: &World, limits: &str, args: &str) -> Output {
    let script = format!("{limits}; exec {} {args}", env!("CARGO_BIN_EXE_alexnet"));
    Command::new("sh").current_dir(world.folder.path()).args(["-c", &script]).output().unwrap()
}

/// Weights of 2.3 TiB, a crop of three gigabytes of floats and a batch of 65,536.
#[test]
fn networks_that_no_machine_has_the_memory_for() {
    let world = World::new();
    let wide = "--set layer.conv1.kernels=1048576 --set layer.conv2.kernels=65536";
    let words = ["does not fit into the memory", "the network needs", "free", "not even one image"];
    for command in ["train --config net.toml --run run", "bench --config net.toml"] {
        world.fails(&format!("{command} {wide}"), 2, &words);
    }
    assert!(!world.path("run").exists());
    world.ok(&format!("inspect net.toml {wide}"));
    let large = "--set data.crop=16384 --set train.batch=65536";
    world.fails(&format!("bench --config net.toml {large}"), 2, &words[..2]);
    world.ok(&format!("inspect net.toml {large}"));
}

/// A checkpoint whose config was given another network that fits its tensors' names.
#[test]
fn sizes_that_no_number_holds_are_refused() {
    let world = World::new();
    let padding = "layer.conv1.padding=[1048575,1048575,1048575,1048575]";
    let sizes = [
        format!("--set layer.conv1.size=1048576 --set {padding}"),
        "--set layer.conv1.size=1048576 --set layer.conv1.stride=1048576 --set layer.conv1.\
         kernels=1048576 --set "
            .to_string()
            + padding,
        "--set layer.conv1.kernels=1048576 --set layer.fc3.outputs=16777216".to_string(),
    ];
    for set in sizes {
        for command in ["inspect net.toml", "bench --config net.toml", "train --config net.toml"] {
            let said = world.fails(&format!("{command} {set}"), 2, &["layer "]);
            assert!(
                said.contains("more than the 4 TiB") || said.contains("hours for one"),
                "{said}"
            );
        }
    }
}

#[test]
fn a_batch_that_fits_is_named_and_fits() {
    let world = World::new();
    let limit = "ulimit -v 700000";
    let train = "train --config net.toml --threads 2 --set train.epochs=1 --run";
    let output = limited(&world, limit, &format!("{train} run --set train.batch=65536"));
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let said = sentence(&output);
    assert!(said.contains("the address space that ulimit -v allows are free"), "{said}");
    let start = said.find("(--set train.batch=").unwrap() + 1;
    let way_out = said[start..].trim().trim_end_matches(')');
    let output = limited(&world, limit, &format!("{train} run {way_out}"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // Of another command it is another option.
    let bench = "bench --config net.toml --steps 1 --threads 2 --batch 65536";
    let said = sentence(&limited(&world, limit, bench));
    assert!(said.contains("would fit (--batch "), "{said}");
}

/// Evaluation has no batch of its own: it takes as many images at once as there is memory for.
#[test]
fn an_evaluation_takes_fewer_images_at_once() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=1 --set train.batch=65536 --run run");
    let eval = "eval run/last.safetensors --json --threads 2";
    let whole = world.ok(eval);
    let output = limited(&world, "ulimit -v 600000", eval);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains(" images at once instead of 65536: "), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), whole);
}

#[test]
fn more_threads_than_are_of_use_are_not_started() {
    let world = World::new();
    let said = stderr(&world.run("inspect net.toml --threads 65535"));
    assert!(
        said.contains("--threads 65535: for this machine's ") && said.contains("enough"),
        "{said}"
    );
    let args = "train --config net.toml --set train.epochs=2 --run";
    world.ok(&format!("{args} usual"));
    let output = world.run(&format!("{args} many --set data.workers=20000"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("data.workers = 20000: for this"), "{}", stderr(&output));
    assert_eq!(world.timeless("usual"), world.timeless("many"));
    world.ok(&format!("{args} ahead --set data.prefetch=1024"));
    let output = world.run("prepare image-folder photos --out new --size 16 --workers 1024");
    assert!(stderr(&output).contains("--workers 1024: for this"), "{}", stderr(&output));
    assert!(world.bytes("new/train-00000.shard") == world.bytes("set/train-00000.shard"));
}

/// Under a limit of threads, which the system keeps for all but its administrator.
#[test]
fn fewer_threads_than_wanted_or_none() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("alexnet");
    fs::copy(env!("CARGO_BIN_EXE_alexnet"), &program).unwrap();
    let run = |threads: u32| {
        // SAFETY: the call only reads who the process belongs to.
        let user = if unsafe { libc::geteuid() } == 0 {
            "setpriv --reuid=61234 --clear-groups "
        } else if threads > 1 {
            // The user's other processes count too, and nobody knows how many there are.
            return None;
        } else {
            ""
        };
        let line =
            format!("{user}prlimit --nproc={threads} {} --threads 8 devices", program.display());
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        (!stderr(&output).contains("not found")).then_some(output)
    };
    if let Some(output) = run(1) {
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(sentence(&output).contains("no thread can be started"), "{}", stderr(&output));
    }
    if let Some(output) = run(2) {
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(sentence(&output).contains("gives no thread for compute"), "{}", stderr(&output));
    }
    if let Some(output) = run(5) {
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains("gives 3 threads for compute instead of 8"), "{said}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("CPU: 1 threads"));
    }
}
