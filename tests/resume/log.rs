//! `metrics.jsonl` as it is found when a run is gone on with.

use super::copy;
use crate::common::{World, stderr};
use std::fs;

/// Goes on with a copy of `run` whose log is `text`; the log then, and what was said.
fn go_on(world: &World, text: &[u8]) -> (Vec<u8>, String) {
    let _ = fs::remove_dir_all(world.path("bad"));
    copy(&world.path("run"), &world.path("bad"));
    fs::write(world.path("bad/metrics.jsonl"), text).unwrap();
    let output = world.run("train --resume --run bad --set train.epochs=3");
    assert!(output.status.success(), "{}", stderr(&output));
    (world.bytes("bad/metrics.jsonl"), stderr(&output))
}

#[test]
fn a_blank_line_or_a_flipped_byte_at_any_line_costs_no_other() {
    let world = World::new();
    world.ok("train --config linear.toml --set train.epochs=2 --set train.batch=30 --run run");
    let text = world.text("run/metrics.jsonl");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 8);
    for at in 0..=lines.len() {
        let mut with = lines.clone();
        with.insert(at, "");
        let with = with.join("\n") + "\n";
        let (log, said) = go_on(&world, with.as_bytes());
        assert!(log.starts_with(text.as_bytes()), "blank line at {at}");
        assert_eq!(log.iter().filter(|&&byte| byte == b'\n').count(), 12);
        assert!(world.text("bad/metrics.jsonl.odd-1") == with, "kept as it was");
        let words = format!("warning: bad/metrics.jsonl: line {} is no line", at + 1);
        assert!(said.contains(&words) && said.contains("bad/metrics.jsonl.odd-1"), "{said}");
    }
    let mut end = 0;
    for (at, line) in lines.iter().enumerate() {
        let mut bad = text.clone().into_bytes();
        bad[end + 2 + at % 4] ^= 2;
        end += line.len() + 1;
        let (log, said) = go_on(&world, &bad);
        let log = String::from_utf8(log).unwrap();
        assert_eq!(log.lines().count(), 7 + 4, "line {at}: {said}");
        for (other, line) in lines.iter().enumerate() {
            assert_eq!(log.contains(line), other != at, "line {other}");
        }
        assert!(world.bytes("bad/metrics.jsonl.odd-1") == bad);
        assert!(said.contains(&format!("line {} is no line", at + 1)), "{said}");
    }
}

#[test]
fn a_torn_end_and_steps_past_the_checkpoint_go_in_silence() {
    let world = World::new();
    world.ok("train --config linear.toml --set train.epochs=2 --set train.batch=30 --run run");
    let text = world.text("run/metrics.jsonl");
    let last = text.lines().last().unwrap();
    let step = text.lines().next().unwrap();
    let past = step.replace("\"step\":1,\"epoch\":1", "\"step\":7,\"epoch\":3");
    let torn = "{\"kind\":\"step\",\"st".to_string();
    let unended = text.trim_end().to_string();
    for end in [torn.clone(), format!("{past}\n"), format!("{past}\n{torn}"), past] {
        let (log, said) = go_on(&world, format!("{text}{end}").as_bytes());
        assert!(log.starts_with(text.as_bytes()), "{end}");
        assert_eq!(log.iter().filter(|&&byte| byte == b'\n').count(), 12, "{end}");
        assert!(!said.contains("warning") && !world.path("bad/metrics.jsonl.odd-1").exists());
    }
    let (log, said) = go_on(&world, unended.as_bytes());
    assert!(log.starts_with(text.as_bytes()) && !said.contains("warning"), "{last}: {said}");
}

#[test]
fn a_second_odd_log_takes_the_next_name() {
    let world = World::new();
    world.ok("train --config linear.toml --run run");
    for (round, epochs) in [(1, 4), (2, 5)] {
        let text = world.text("run/metrics.jsonl");
        world.write("run/metrics.jsonl", &format!("hello\n{text}"));
        world.ok(&format!("train --resume --run run --set train.epochs={epochs}"));
        assert!(world.text(&format!("run/metrics.jsonl.odd-{round}")).starts_with("hello\n"));
        assert_eq!(world.metrics("run").len(), 10 * epochs);
    }
}
