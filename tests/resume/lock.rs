//! Who may train in a folder.

use super::{LONG, start, wait_for};
use crate::common::{World, sentence, stderr};
use std::process::Child;

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A live run that has nothing to go on from yet is not to be removed.
#[test]
fn nobody_is_told_to_remove_a_folder_in_which_another_process_trains() {
    let world = World::new();
    let first = start(&world, &format!("{LONG} --run cut"));
    wait_for(&world, "cut", 1);
    for (args, code) in [(format!("{LONG} --run cut"), 1), ("train --resume --run cut".into(), 1)] {
        let said = world.fails(&args, code, &["cut", "another process is training"]);
        assert!(!said.contains("remove"), "{said}");
    }
    kill(first);
    // Its lock went with it.
    let output = world.run("train --resume --run cut --set train.epochs=1");
    assert!(!stderr(&output).contains("another process"), "{}", stderr(&output));
    assert!(!world.names("cut").contains(&".lock".to_string()));
}

#[test]
fn runs_started_at_once_get_a_folder_each() {
    let world = World::new();
    let children: Vec<Child> =
        (0..6).map(|_| start(&world, "train --config linear.toml --threads 1")).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let names = ["linear", "linear-2", "linear-3", "linear-4", "linear-5", "linear-6"];
    assert_eq!(world.names("runs"), names);
    for name in names {
        assert_eq!(world.metrics(&format!("runs/{name}")).len(), 30);
    }
}

#[test]
fn of_runs_started_at_once_in_one_folder_one_trains() {
    let world = World::new();
    let start = || start(&world, "train --config linear.toml --run one --threads 1");
    let children: Vec<Child> = (0..4).map(|_| start()).collect();
    let outputs = children.into_iter().map(|child| child.wait_with_output().unwrap());
    let (done, refused): (Vec<_>, Vec<_>) = outputs.partition(|o| o.status.success());
    assert_eq!(done.len(), 1);
    for output in refused {
        let said = sentence(&output);
        let words = ["another process is training", "holds a run already"];
        assert!(words.iter().any(|word| said.contains(word)), "{said}");
    }
    assert_eq!(world.metrics("one").len(), 30);
}
