//! Every command of the first page, in the order in which it stands there, as it stands: by the built
//! program, in a folder that has what a reader is told to have. Where one would take hours or
//! gigabytes, [`SMALLER`] says what is added to its end.

mod common;

use common::{World, picture, stderr};
use flate2::write::GzEncoder;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a command of the program begins with, and what is added to it here.
const SMALLER: [(&str, &str); 4] = [
    ("train --config configs/demo.toml", "--set train.epochs=1"),
    ("train --config configs/own-images.toml", "--set train.epochs=2 --set train.batch=10"),
    (
        "train --config configs/own-images-finetune.toml",
        "--set train.epochs=1 --set train.batch=10 --set layer.conv1.kernels=4 \
         --set layer.conv2.kernels=6 --set layer.conv3.kernels=8 --set layer.conv4.kernels=6 \
         --set layer.conv5.kernels=6 --set layer.fc6.outputs=16 --set layer.fc7.outputs=16",
    ),
    (
        "train --config configs/ilsvrc2010.toml",
        "--set train.epochs=1 --set train.batch=4 --set layer.fc6.outputs=64 \
         --set layer.fc7.outputs=64 --set layer.fc8.outputs=3",
    ),
];

/// Commands of others, and where they are run.
const ELSEWHERE: [(&str, &str); 2] =
    [("cargo test --release", ".ci/run"), ("cargo install --locked --path .", ".ci/run")];

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The lines of the blocks of commands on the first page.
fn commands() -> Vec<String> {
    let page = fs::read_to_string(source("README.md")).unwrap();
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(str::lines).map(String::from).collect()
}

/// What the page speaks of: pictures in folders, one picture, PyTorch's weights (of a small network
/// of torchvision's kind), and the files of ImageNet's contest in the home folder.
fn reader() -> World {
    let world = World { folder: tempfile::tempdir().unwrap() };
    std::os::unix::fs::symlink(source("configs"), world.path("configs")).unwrap();
    world.photos("photos", ["down", "level", "slant"], 20);
    fs::write(world.path("some.jpg"), jpeg(1, 3)).unwrap();
    let weights = source("tests/data/import/torch.pth");
    fs::copy(weights, world.path("alexnet-owt-7be5be79.pth")).unwrap();
    contest(&world.path("ilsvrc2010"));
    world
}

fn jpeg(class: u32, i: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut bytes, 90);
    let pixels = picture(class, i, 60, 40);
    encoder.encode(&pixels, 60, 40, jpeg_encoder::ColorType::Rgb).unwrap();
    bytes
}

/// The archives of 2010: eight images of each class of the kit to train on, six and four others.
fn contest(folder: &Path) {
    let class = |(class, id): (usize, &str)| {
        let files = (0..8).map(|i| (format!("{id}_{i}.JPEG"), jpeg(class as u32, i)));
        (format!("{id}.tar"), tar_of(files))
    };
    let others = |split: &str, n: u32| {
        let name = |i| format!("{split}/ILSVRC2010_{split}_{:08}.JPEG", i + 1);
        tar_of((0..n).map(|i| (name(i), jpeg(i % 3, 20 + i))))
    };
    // The kit's numbers of these classes are 3, 2 and 1.
    let answers = |n: u32| (0..n).map(|i| format!("{}\n", 3 - i % 3)).collect::<String>();
    let meta = fs::read(source("tests/data/prepare/meta2010.mat")).unwrap();
    let truth = "data/ILSVRC2010_validation_ground_truth.txt".to_string();
    let kit = tar_of([("data/meta.mat".into(), meta), (truth, answers(6).into_bytes())]);
    let mut packed = GzEncoder::new(Vec::new(), Default::default());
    packed.write_all(&kit).unwrap();
    let classes = ["n01440764", "n02100735", "n02119789"].into_iter().enumerate().map(class);
    fs::create_dir(folder).unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    put("ILSVRC2010_images_train.tar", &tar_of(classes));
    put("ILSVRC2010_images_val.tar", &others("val", 6));
    put("ILSVRC2010_images_test.tar", &others("test", 4));
    put("ILSVRC2010_test_ground_truth.txt", answers(4).as_bytes());
    put("ILSVRC2010_devkit-1.0.tar.gz", &packed.finish().unwrap());
}

/// A tar of files, each with its name.
fn tar_of(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// The command for a line of the page; none where it is run elsewhere or its launcher is not here.
fn typed(world: &World, line: &str) -> Option<Command> {
    if let Some((_, place)) = ELSEWHERE.iter().find(|(command, _)| *command == line) {
        let script = fs::read_to_string(source(place)).unwrap();
        assert!(script.contains(line), "{place} does not run {line}");
        return None;
    }
    let home = world.folder.path().display().to_string();
    let said =
        line.replace("cargo run --release -- ", "alexnet ").replace("~/", &format!("{home}/"));
    let (launcher, said) = said.split_once("alexnet ").unwrap_or_else(|| panic!("{line}?"));
    let program = PathBuf::from(world.command("").get_program());
    let mut command = Command::new(&program);
    if let Some(arguments) = launcher.trim().strip_prefix("mpirun ") {
        let open = Path::new("/usr/bin/mpirun.openmpi");
        if !open.exists() {
            eprintln!("skipped: {line}: there is no Open MPI here (.ci/mpi installs it)");
            return None;
        }
        command = Command::new(open);
        command.args(["--oversubscribe", "--bind-to", "none"]).args(arguments.split(' '));
        command.arg(program);
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    } else {
        assert_eq!(launcher, "", "{line}");
    }
    command.args(shlex::split(said).unwrap()).current_dir(&world.folder).env("HOME", home);
    if let Some((_, added)) = SMALLER.iter().find(|(begin, _)| said.starts_with(begin)) {
        command.args(added.split_whitespace());
    }
    Some(command)
}

#[test]
fn every_command_of_the_first_page_works() {
    let (world, commands) = (reader(), commands());
    assert!(commands.len() > 8, "{commands:?}");
    for line in commands {
        let Some(mut command) = typed(&world, &line) else { continue };
        let output = command.output().unwrap();
        assert!(output.status.success(), "{line}\n{}", stderr(&output));
    }
}
