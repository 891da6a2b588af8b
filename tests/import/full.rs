//! Networks of full size (240 MB each), made anew by PyTorch, onnx and protoc's messages, where the
//! Python that `ALEXNET_TEST_PYTHON` names has them (`tests/data/import/full.py`).

use crate::common::{World, stderr};
use crate::{agrees, data};
use serde_json::Value;
use std::fs;
use std::process::Command;

#[test]
fn networks_of_full_size_have_their_programs_answers() {
    let python = std::env::var_os("ALEXNET_TEST_PYTHON").unwrap_or("python3".into());
    let needs = "import torch, onnx, onnxruntime, onnxscript, safetensors, skimage, grpc_tools";
    let here = Command::new(&python).args(["-c", needs]).output();
    if !here.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this Python has not all of: {needs}");
        return;
    }
    for (format, file, network) in [
        ("pth", "weights.pth", "torchvision"),
        ("legacy", "weights.pth", "torchvision"),
        ("safetensors", "weights.safetensors", "torchvision"),
        ("onnx", "weights.onnx", "torchvision"),
        ("alexnet", "weights.caffemodel", "caffe-alexnet"),
        ("caffenet", "weights.caffemodel", "caffenet"),
        ("zoo", "weights.onnx", "caffe-alexnet"),
    ] {
        let world = World { folder: tempfile::tempdir().unwrap() };
        let made = Command::new(&python)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .args([data("full.py").as_os_str(), format.as_ref(), world.folder.path().as_os_str()])
            .output()
            .unwrap();
        assert!(made.status.success(), "{format}: {}", stderr(&made));
        let options = if network == "torchvision" { "" } else { "--mean 120,110,100" };
        let said = world.json(&format!("import {file} --out x.safetensors --json {options}"));
        assert_eq!(said["network"], network, "{format}");
        let fitted = if format == "zoo" { vec!["data.crop=224"] } else { vec![] };
        assert_eq!(said["fitted"], Value::from(fitted), "{format}");
        assert_eq!(said["classes"], "ImageNet's 1,000");
        let expected: Value =
            serde_json::from_slice(&fs::read(world.path("expected.json")).unwrap()).unwrap();
        for photo in 0..3 {
            let name = format!("photo-{photo}.png");
            let far = agrees(&world, "x.safetensors", &name, &expected[photo]);
            eprintln!(
                "{format}, {name}: logits off by {:.1e}, ten crops by {:.1e}",
                far[0], far[1]
            );
        }
    }
}
