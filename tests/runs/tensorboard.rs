//! The event files of a run, read by a parser of the test's own, with the field numbers of
//! TensorFlow's `event.proto` and `summary.proto`; and by TensorBoard's reader where Python has it.

use crate::common::running::{LONG, contents, signal, start, wait_for};
use crate::common::{World, stderr};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A field of a message: its number and its content.
enum Field<'a> {
    Varint(u64),
    Fixed(&'a [u8]),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return value;
        }
        shift += 7;
    }
}

/// The fields of a message, by protobuf's wire format.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let mut take = |length: usize| {
            let (taken, rest) = bytes.split_at(length);
            bytes = rest;
            taken
        };
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut bytes)),
            1 => Field::Fixed(take(8)),
            5 => Field::Fixed(take(4)),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (taken, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(taken)
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, field));
    }
    found
}

/// The records of a file; every byte must belong to one.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let masked = |bytes: &[u8]| {
        let sum = crc32c::crc32c(bytes);
        sum.rotate_right(15).wrapping_add(0xa282_ead8)
    };
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let sum = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(sum(8), masked(&bytes[..8]), "of a length");
        let end = 12 + length as usize;
        assert_eq!(sum(end), masked(&bytes[12..end]), "of a message");
        found.push(bytes[12..end].to_vec());
        bytes = &bytes[end + 4..];
    }
    found
}

/// A run's curves and pictures as a reader keeps them: tag → (step, value).
#[derive(Default)]
struct Read {
    files: usize,
    scalars: BTreeMap<String, Vec<(u64, f32)>>,
    images: BTreeMap<String, Vec<(u64, Vec<u8>)>>,
}

/// Reads the event files of a run in the order of their names, as TensorBoard does.
fn read(run: &Path) -> Read {
    let mut all = Read::default();
    for (name, bytes) in contents(run) {
        if !name.contains("tfevents") {
            continue;
        }
        all.files += 1;
        for (index, record) in records(&bytes).iter().enumerate() {
            all.take(record, index == 0);
        }
    }
    all
}

impl Read {
    fn take(&mut self, event: &[u8], first: bool) {
        let (mut step, mut time, mut version, mut starts) = (0, 0.0, None, false);
        let mut values = Vec::new();
        for (number, field) in fields(event) {
            match (number, field) {
                (1, Field::Fixed(bytes)) => time = f64::from_le_bytes(bytes.try_into().unwrap()),
                (2, Field::Varint(value)) => step = value,
                (3, Field::Bytes(text)) => version = Some(text.to_vec()),
                (5, Field::Bytes(summary)) => values.extend(summary_values(summary)),
                (7, Field::Bytes(log)) => {
                    starts = matches!(fields(log)[..], [(1, Field::Varint(1))]);
                    assert!(starts);
                }
                (other, _) => panic!("field {other} of an event"),
            }
        }
        assert!((1.7e9..1e10).contains(&time), "{time}");
        assert_eq!(version.is_some(), first);
        if let Some(version) = version {
            assert_eq!(version, b"brain.Event:2");
        }
        if starts {
            self.scalars.values_mut().for_each(|curve| curve.retain(|(at, _)| *at < step));
            self.images.values_mut().for_each(|all| all.retain(|(at, _)| *at < step));
        }
        for (tag, value, image) in values {
            match image {
                Some(png) => self.images.entry(tag).or_default().push((step, png)),
                None => self.scalars.entry(tag).or_default().push((step, value.unwrap())),
            }
        }
    }
}

/// Tag, number and PNG of each value of a summary.
fn summary_values(summary: &[u8]) -> Vec<(String, Option<f32>, Option<Vec<u8>>)> {
    let value = |(number, field): (u64, Field<'_>)| {
        let (1, Field::Bytes(value)) = (number, field) else { panic!("no value") };
        let mut found = (String::new(), None, None);
        for (number, field) in fields(value) {
            match (number, field) {
                (1, Field::Bytes(tag)) => found.0 = String::from_utf8(tag.to_vec()).unwrap(),
                (2, Field::Fixed(bytes)) => {
                    found.1 = Some(f32::from_le_bytes(bytes.try_into().unwrap()));
                }
                (4, Field::Bytes(image)) => found.2 = Some(png(image)),
                (other, _) => panic!("field {other} of a value"),
            }
        }
        found
    };
    fields(summary).into_iter().map(value).collect()
}

/// The file in an image, whose size is as the image says.
fn png(image: &[u8]) -> Vec<u8> {
    let (mut size, mut png) = ([0; 3], Vec::new());
    for (number, field) in fields(image) {
        match (number, field) {
            (1..=3, Field::Varint(value)) => size[number as usize - 1] = value as u32,
            (4, Field::Bytes(bytes)) => png = bytes.to_vec(),
            (other, _) => panic!("field {other} of an image"),
        }
    }
    let picture = image::load_from_memory(&png).unwrap();
    assert_eq!(size, [picture.height(), picture.width(), 3]);
    png
}

const KEYS: [&str; 6] =
    ["loss", "top1_error", "top5_error", "learning_rate", "images_per_second", "wait_seconds"];

/// The events are what the log says, at the same steps.
#[track_caller]
fn same_as_log(events: &Read, log: &[Value]) {
    let curve = |kind: &str, key: &str| -> Vec<(u64, f32)> {
        let lines = log.iter().filter(|line| line["kind"] == kind);
        lines
            .map(|line| (line["step"].as_u64().unwrap(), line[key].as_f64().unwrap() as f32))
            .collect()
    };
    for (group, kind) in [("step", "step"), ("epoch", "epoch")] {
        for key in KEYS {
            assert_eq!(
                events.scalars[&format!("{group}/{key}")],
                curve(kind, key),
                "{group} {key}"
            );
        }
    }
    for key in ["loss", "top1_error", "top5_error"] {
        let name = format!("validation/{key}");
        assert_eq!(events.scalars[&name], curve("epoch", &format!("val_{key}")), "{name}");
    }
    assert_eq!(events.scalars.len(), 15);
}

#[test]
fn events_are_the_log_and_the_first_kernels_of_each_epoch() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=3 --run run");
    let events = read(&world.path("run"));
    assert_eq!(events.files, 1);
    same_as_log(&events, &world.metrics("run"));
    let filters = &events.images["filters/conv1"];
    let steps: Vec<u64> = filters.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [0, 9, 18, 27], "before training and after each epoch");
    assert!(filters.windows(2).all(|pair| pair[0].1 != pair[1].1), "they change");
    // Switched off there are none, and the rest is the same; a network without kernels has none.
    let off =
        "train --config net.toml --set train.epochs=3 --set train.tensorboard=false --run off";
    world.ok(off);
    assert_eq!(read(&world.path("off")).files, 0);
    assert_eq!(world.timeless("off"), world.timeless("run"));
    world.ok("train --config linear.toml --set train.epochs=1 --run linear");
    let linear = read(&world.path("linear"));
    assert!(linear.images.is_empty() && !linear.scalars.is_empty());
}

/// In an epoch of more than a hundred steps a point is the mean of several.
#[test]
fn points_of_long_epochs_are_means() {
    let world = World::new();
    world.photos("many/train", ["down", "level", "slant"], 70);
    world.photos("many/val", ["down", "level", "slant"], 2);
    world.ok("prepare image-folder many --out many-set --size 16");
    let args =
        "train --config linear.toml --data many-set --set train.batch=1 --set train.epochs=2";
    world.ok(&format!("{args} --run run"));
    let events = read(&world.path("run"));
    let log = world.metrics("run");
    // 210 steps an epoch, 3 a point.
    let steps: Vec<&Value> = log.iter().filter(|line| line["kind"] == "step").collect();
    for (key, is_rate) in KEYS.iter().map(|key| (key, *key == "images_per_second")) {
        let curve = &events.scalars[&format!("step/{key}")];
        assert_eq!(curve.len(), 140, "{key}");
        for ((step, value), three) in curve.iter().zip(steps.chunks(3)) {
            assert_eq!(*step, three[2]["step"].as_u64().unwrap());
            let of = |line: &Value| line[*key].as_f64().unwrap();
            let mean = match is_rate {
                true => 3.0 / three.iter().map(|line| 1.0 / of(line)).sum::<f64>(),
                false if *key == "learning_rate" => of(three[2]),
                false => three.iter().map(|line| of(line)).sum::<f64>() / 3.0,
            };
            let near = (f64::from(*value) - mean).abs() <= 1e-6 * mean.abs();
            assert!(near, "{key} at {step}: {value}, {mean}");
        }
    }
}

#[test]
fn after_a_kill_and_a_resume_the_curves_are_those_of_the_log() {
    let world = World::new();
    let long = format!("{LONG} --set train.epochs=4 --set train.checkpoint_steps=25 --run run");
    let mut child = start(&world, &long);
    wait_for(&world, "run", 130);
    child.kill().unwrap();
    child.wait().unwrap();
    // What a kill leaves half written.
    for (name, bytes) in contents(&world.path("run")) {
        if name.contains("tfevents") {
            fs::write(world.path("run").join(name), [&bytes[..], &bytes[..9]].concat()).unwrap();
        }
    }
    let before = contents(&world.path("run"));
    let child = start(&world, "train --resume --run run");
    wait_for(&world, "run", 200);
    signal(&child, "-INT");
    child.wait_with_output().unwrap();
    let output = world.run("train --resume --run run");
    assert!(output.status.success(), "{}", stderr(&output));
    for (name, bytes) in before.iter().filter(|(name, _)| name.contains("tfevents")) {
        assert!(world.bytes(&format!("run/{name}")) == *bytes, "{name} is left as it was");
        fs::write(world.path("run").join(name), &bytes[..bytes.len() - 9]).unwrap();
    }
    let events = read(&world.path("run"));
    assert_eq!(events.files, 3);
    same_as_log(&events, &world.metrics("run"));
    let steps: Vec<u64> = events.images["filters/conv1"].iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [0, 90, 180, 270, 360]);
    // A reader goes on behind a torn end.
    for (name, bytes) in before.iter().filter(|(name, _)| name.contains("tfevents")) {
        fs::write(world.path("run").join(name), bytes).unwrap();
    }
    tensorboard_agrees(&world.path("run"), &events);
}

/// Where they cannot be written the run goes on as without.
#[cfg(unix)]
#[test]
fn a_folder_in_the_way_ends_no_run() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=1 --run run");
    // The next file's name comes after this one, which leaves no room for another.
    fs::create_dir(world.path("run/events.out.tfevents.18446744073709551615.alexnet")).unwrap();
    let output = world.run("train --resume --run run --set train.epochs=3");
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    assert_eq!(said.matches("events for TensorBoard cannot be written").count(), 1, "{said}");
    world.ok("train --config net.toml --set train.epochs=3 --run whole");
    assert_eq!(world.timeless("run"), world.timeless("whole"));
}

/// TensorBoard's own reader finds the same, where Python has it (`pip install tensorboard`).
fn tensorboard_agrees(run: &Path, events: &Read) {
    let script = "
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
a = EventAccumulator(sys.argv[1], {'scalars': 0, 'images': 0})
a.Reload()
t = a.Tags()
print(json.dumps({'scalars': {n: [[e.step, e.value] for e in a.Scalars(n)] for n in t['scalars']},
    'images': {n: [e.step for e in a.Images(n)] for n in t['images']}}))
";
    let python = std::env::var_os("ALEXNET_TEST_PYTHON").unwrap_or("python3".into());
    let here = Command::new(&python).args(["-c", "import tensorboard"]).output();
    if !here.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this Python has no tensorboard");
        return;
    }
    let output = Command::new(&python).args(["-c", script]).arg(run).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let found: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    for (tag, curve) in &events.scalars {
        let theirs = found["scalars"][tag].as_array().unwrap();
        let theirs: Vec<(u64, f32)> = theirs
            .iter()
            .map(|point| (point[0].as_u64().unwrap(), point[1].as_f64().unwrap() as f32))
            .collect();
        assert_eq!(&theirs, curve, "{tag}");
    }
    assert_eq!(found["scalars"].as_object().unwrap().len(), events.scalars.len());
    for (tag, images) in &events.images {
        let steps: Vec<u64> = images.iter().map(|(step, _)| *step).collect();
        assert_eq!(found["images"][tag], serde_json::json!(steps), "{tag}");
    }
}
