//! The folder for PyTorch: its files, and where Python has PyTorch what its module computes.

use crate::common::{World, stderr, tensors};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

type Tensors = Vec<(String, Vec<usize>, Vec<u8>)>;

/// What `weights.safetensors` of the export `name` holds.
pub fn tensors_of(world: &World, name: &str) -> Tensors {
    tensors(&world.path(&format!("{name}-pytorch/weights.safetensors")))
}

/// The checkpoint's own names, shapes and bits, and the mean.
#[track_caller]
pub fn weights_are_the_checkpoints(world: &World, checkpoint: &str, folder: &Tensors) {
    let mut wanted = tensors(&world.path(checkpoint));
    wanted.retain(|(name, ..)| !name.contains('/') && !name.starts_with("data."));
    let (mean, weights): (Tensors, Tensors) =
        folder.iter().cloned().partition(|(name, ..)| name == "mean");
    assert_eq!(weights, wanted);
    assert_eq!(mean.len(), 1);
    assert_eq!(mean[0].1, [3, 12, 12]);
}

/// Python's checks of all cases in one process; what it lacks is left out, and said.
pub fn python_agrees(world: &World, cases: &[Value]) {
    world.write("cases.json", &serde_json::to_string(cases).unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export/check.py");
    let python = std::env::var_os("ALEXNET_TEST_PYTHON").unwrap_or("python3".into());
    let output = Command::new(&python).arg(script).arg(world.path("cases.json")).output();
    let Ok(output) = output else {
        eprintln!("skipped: there is no Python");
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    eprint!("{said}");
    for name in ["onnx", "onnxruntime", "torch"] {
        let all = format!("{name}: {} networks", cases.len());
        assert!(said.contains(&all) || said.contains(&format!("skipped: no {name}\n")), "{said}");
    }
}

#[test]
fn a_folder_has_a_module_that_reads_like_the_config() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=1 --run run");
    let said = world.ok("export run/best.safetensors --out there/net");
    assert!(said.contains("python there/net/model.py photo.jpg"), "{said}");
    assert_eq!(world.names("there/net"), ["labels.txt", "model.py", "weights.safetensors"]);
    assert_eq!(world.text("there/net/labels.txt"), "down\nlevel\nslant\n");
    let module = world.text("there/net/model.py");
    for line in [
        "# The config's name is \"stripes\", the checkpoint's \"run/best.safetensors\".",
        "        self.conv1 = nn.Conv2d(3, 8, 3)",
        "        self.conv2 = nn.Conv2d(8, 8, 3)",
        "        self.fc3 = nn.Linear(72, 16)",
        "        x = normalise(x, [4, 4], 5, 0.0001, 0.75, 2.0)  # lrn1",
        "        x = F.max_pool2d(x, 3, 2, ceil_mode=True)  # pool1: 8x5x5",
        "        x = dropout(x, 0.5, self.training)  # drop3",
        "        x = self.fc3(x.flatten(1))  # 16",
        "        x = self.fc4(x)  # 3",
    ] {
        assert!(module.contains(&format!("{line}\n")), "no {line:?} in\n{module}");
    }
    assert!(module.lines().count() < 100 && module.lines().all(|line| line.len() <= 110));
}

/// A name cannot leave its place in the module's text.
#[test]
fn names_from_elsewhere_stay_text() {
    let world = World::new();
    let named = "export_\\\"\\\"\\\"\\nimport nothing\\n'''";
    let config = crate::common::LINEAR.replace("linear", named);
    world.write("linear.toml", &config);
    world.ok("train --config linear.toml --set train.epochs=1 --run run");
    world.ok("export run --out out");
    let module = world.text("out/model.py");
    assert!(!module.lines().any(|line| line.starts_with("import nothing")), "{module}");
    world.ok("export run --out out.onnx");
}
