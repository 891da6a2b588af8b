//! ONNX files: read back and computed in f64, and where Python has them checked by `onnx` and run
//! by onnxruntime.

use crate::common::{World, picture, tensors};
use crate::graph::compute;
use crate::same::{assert_same, crop, predicted};
use crate::{folder, nets};
use alexnet::files::onnx::{Model, ValueInfo};
use prost::Message;
use serde_json::{Value, json};

fn read(world: &World, file: &str) -> Model {
    Model::decode(&world.bytes(file)[..]).unwrap()
}

/// Fixed sizes, or the name of one that is not fixed.
fn shape(value: &ValueInfo) -> Vec<String> {
    let tensor = value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
    assert_eq!(tensor.elem_type, 1, "f32");
    let dims = tensor.shape.as_ref().unwrap().dim.iter();
    dims.map(|d| d.dim_param.clone().unwrap_or_else(|| d.dim_value.unwrap().to_string())).collect()
}

/// The logits of `file` for `image`, in f64.
fn logits(world: &World, file: &str, image: &str, side: u32, grey: bool) -> Vec<f64> {
    let graph = read(world, file).graph.unwrap();
    let all = compute(&graph, crop(world, image, side, grey));
    let last = graph.node.last().unwrap();
    assert_eq!(
        (last.op_type.as_str(), &last.output[..]),
        ("Softmax", &["probabilities".into()][..])
    );
    assert_eq!(graph.output[0].name, "probabilities");
    all[&last.input[0]].values.clone()
}

/// Every form of every network against `predict`: in f64 here, and by onnxruntime and PyTorch.
#[test]
fn other_programs_compute_what_predict_computes() {
    let world = World::new();
    picture(1, 3, 16, 16).save(world.path("a.png")).unwrap();
    picture(2, 8, 41, 30).save(world.path("large.png")).unwrap();
    let mut cases = Vec::new();
    for (name, config) in nets::all() {
        world.write(&format!("{name}.toml"), &config);
        let checkpoint = format!("{name}/best.safetensors");
        world.ok(&format!("train --config {name}.toml --run {name}"));
        let said = world.ok(&format!("export {checkpoint} --out {name}.onnx"));
        assert!(said.contains("image [N, 3, 12, 12]") && said.contains("onnxruntime"), "{said}");
        world.ok(&format!("export {name} --out {name}-pytorch"));
        let wanted = predicted(&world, &checkpoint, "a.png");
        let found = logits(&world, &format!("{name}.onnx"), "a.png", 12, false);
        assert_same(name, &found, &wanted);
        cases.push(case(&world, name, 12, "a.png", &wanted));
        if name == "paper" {
            constants_are_the_checkpoints(&world, name);
            let folded = folder::tensors_of(&world, name);
            folder::weights_are_the_checkpoints(&world, &checkpoint, &folded);
        }
    }
    let grey = World { folder: tempfile::tempdir().unwrap() };
    grey.grey(40, 20);
    let sigmas = "--set layer.conv1.weight_sigma=0.03 --set layer.fc2.weight_sigma=0.02";
    let short = "--set train.epochs=1 --set schedule.rate=0.00001";
    grey.ok(&format!("train --config grey.toml --run grey {sigmas} {short}"));
    grey.ok("export grey --out grey.onnx");
    grey.ok("export grey --out grey-pytorch");
    image::imageops::grayscale(&picture(0, 1, 12, 12)).save(grey.path("a.png")).unwrap();
    let wanted = predicted(&grey, "grey/best.safetensors", "a.png");
    assert_same("grey", &logits(&grey, "grey.onnx", "a.png", 10, true), &wanted);
    cases.push(case(&grey, "grey", 10, "a.png", &wanted));
    folder::python_agrees(&world, &cases);
}

/// What `check.py` needs to know of a network.
fn case(world: &World, name: &str, crop: u32, image: &str, logarithms: &[f64]) -> Value {
    let of = |file: String| world.path(&file).display().to_string();
    json!({
        "onnx": of(format!("{name}.onnx")),
        "folder": of(format!("{name}-pytorch")),
        "image": of(image.into()),
        "crop": crop,
        "logarithms": logarithms,
    })
}

/// Bit by bit, under the same names.
fn constants_are_the_checkpoints(world: &World, name: &str) {
    let graph = read(world, &format!("{name}.onnx")).graph.unwrap();
    let of_checkpoint = tensors(&world.path(&format!("{name}/best.safetensors")));
    let mut compared = 0;
    for (name, shape, bytes) in of_checkpoint {
        let Some(found) = graph.initializer.iter().find(|tensor| tensor.name == name) else {
            continue;
        };
        if name != "data.mean" {
            assert_eq!(found.dims, shape.iter().map(|&n| n as i64).collect::<Vec<_>>(), "{name}");
            assert_eq!(found.raw_data, bytes, "{name}");
            compared += 1;
        }
    }
    // conv3 and fc5 go tower by tower.
    assert_eq!(compared, 2 * 4);
}

#[test]
fn a_file_says_what_it_reads_and_makes() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=1 --run run");
    let said = world.json("export run --out net.onnx --json");
    assert_eq!(said["form"], "onnx");
    assert_eq!(said["input"], json!([3, 12, 12]));
    assert_eq!(said["classes"], 3);
    let model = read(&world, "net.onnx");
    assert_eq!((model.producer_name.as_str(), model.opset_import[0].version), ("alexnet", 17));
    let graph = model.graph.as_ref().unwrap();
    assert_eq!((graph.input.len(), graph.output.len()), (1, 1));
    assert_eq!((&*graph.name, &*graph.input[0].name), ("stripes", "image"));
    assert_eq!(shape(&graph.input[0]), ["N", "3", "12", "12"]);
    assert_eq!(shape(&graph.output[0]), ["N", "3"]);
    let entry = |key: &str| {
        let found = model.metadata_props.iter().find(|entry| entry.key == key);
        found.unwrap_or_else(|| panic!("no {key}")).value.clone()
    };
    assert_eq!(entry("labels"), r#"["down","level","slant"]"#);
    assert_eq!(entry("ids"), r#"["down","level","slant"]"#);
    assert!(entry("preparation").contains(r#""size":[16,16]"#));
    assert!(entry("config").contains("kind = \"lrn\""));
    // What crosses between the towers, and where they stay apart.
    let operators: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
    let wanted = "Sub Conv Relu Split LRN LRN Concat MaxPool Conv Relu Flatten Gemm Relu Mul Gemm \
                  Softmax";
    assert_eq!(operators.join(" "), wanted);
    // The same run twice leaves the same bytes, and an export may be replaced by another.
    let first = world.bytes("net.onnx");
    world.ok("export run --out net.onnx");
    assert_eq!(world.bytes("net.onnx"), first);
}
