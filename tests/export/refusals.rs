//! What cannot be exported, and places that cannot be written to: sentences, nothing is touched.

use crate::common::{LINEAR, World};
use crate::nets::config;

#[test]
fn layers_that_others_do_not_have_are_refused_by_name() {
    let world = World::new();
    let last = ["fc2 fc outputs=\"classes\"", "softmax softmax"];
    for (name, first, kind) in [
        ("local", "local1 local kernels=4 size=3", "\"local\""),
        ("within", "lrn1 lrn n=3 region=\"within-map\"", "\"within-map\""),
    ] {
        world.write("net.toml", &config(name, 1, &[first, last[0], last[1]]));
        world.ok(&format!("train --config net.toml --run {name}"));
        let layer = format!("layer {}", first.split(' ').next().unwrap());
        for out in ["x.onnx", "x"] {
            let words = [name, &layer, kind, "ONNX", "PyTorch", "predict"];
            world.fails(&format!("export {name} --out {out}"), 2, &words);
            assert!(!world.path(out).exists());
        }
    }
    // Three values a class, one below the other, have another order elsewhere; one each has none.
    for (name, first, fits) in [
        ("column", "conv1 conv kernels=1 size=12 padding=[0,2,0,0]", false),
        ("maps", "conv1 conv kernels=3 size=12", true),
    ] {
        world.write("net.toml", &config(name, 1, &[first, last[1]]));
        world.ok(&format!("train --config net.toml --run {name}"));
        let export = format!("export {name} --out {name}.onnx");
        if fits {
            world.ok(&export);
        } else {
            world.fails(&export, 2, &["layer softmax", "maps of 3×1×1", "fc layer"]);
        }
    }
}

#[test]
fn places_that_cannot_be_written_are_refused_before_any_work() {
    let world = World::new();
    world.write("linear.toml", LINEAR);
    world.ok("train --config linear.toml --set train.epochs=1 --run run");
    let before = world.bytes("run/best.safetensors");
    std::fs::create_dir_all(world.path("full")).unwrap();
    world.write("full/model.py", "mine");
    world.write("file", "mine");
    for (out, words) in [
        ("none/x.onnx", &["none/x.onnx", "no folder none"][..]),
        ("model.pth", &["model.pth", ".onnx", "`model.pth/`"]),
        ("model.onx", &["model.onx", ".onnx"]),
        ("full", &["full", "something in this folder"]),
        ("file", &["file", "this is a file"]),
    ] {
        world.fails(&format!("export run --out {out}"), 2, words);
    }
    assert_eq!(world.text("full/model.py"), "mine");
    assert_eq!(world.text("file"), "mine");
    assert_eq!(world.bytes("run/best.safetensors"), before);
    std::fs::copy(world.path("run/best.safetensors"), world.path("odd.onnx")).unwrap();
    world.fails("export odd.onnx --out odd.onnx", 2, &["odd.onnx", "what the command reads"]);
    assert_eq!(world.bytes("odd.onnx"), before);
    world.fails("export set/dataset.json --out x.onnx", 1, &["dataset.json"]);
    world.ok("export run --out net-v1.2");
    world.ok("export run --out model.pth/");
    assert_eq!(world.names("model.pth"), world.names("net-v1.2"));
}

/// A byte that has changed is found, and no half of a file is left.
#[test]
fn a_damaged_checkpoint_leaves_nothing_behind() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=1 --run run");
    let mut bytes = world.bytes("run/best.safetensors");
    let last = bytes.len() / 4;
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize + 8;
    let at = header.max(last);
    bytes[at] ^= 4;
    std::fs::write(world.path("bad.safetensors"), &bytes).unwrap();
    world.fails("export bad.safetensors --out x.onnx", 1, &["bad.safetensors", "damaged"]);
    assert!(!world.path("x.onnx").exists() && !world.path("x.onnx.tmp").exists());
}
