//! An error in the program itself: one sentence with its place, exit code 70, and no hanging,
//! whichever thread it is in. The program has no command that panics, so each case is a process of
//! this test that has the program's hook.

use alexnet::data::area::Area;
use alexnet::data::augment::{Augmentation, Geometry};
use alexnet::data::form::Form;
use alexnet::data::loader::{Crops, Images, Loader, Request};
use alexnet::data::order::Order;
use alexnet::errors::{guarded, install_panic_hook};
use anyhow::Result;
use rayon::prelude::*;
use std::process::Command;
use std::sync::Arc;

const CHILD: &str = "PANICS_CHILD";

/// Runs `body` with the hook, in a process of its own; the exit code and the line that it printed.
fn with_hook(test: &str, body: impl FnOnce()) -> Option<(Option<i32>, String)> {
    if std::env::var(CHILD).is_ok_and(|name| name == test) {
        install_panic_hook();
        body();
        return None;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, test)
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    Some((output.status.code(), said))
}

#[track_caller]
fn is_told(outcome: Option<(Option<i32>, String)>, message: &str) {
    let Some((code, said)) = outcome else { return };
    assert_eq!(code, Some(70), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.starts_with("error: this is an error in the program, at tests/panics.rs:"),
        "{said}"
    );
    assert!(said.contains(message) && said.contains("please report it"), "{said}");
}

#[test]
fn in_the_main_thread() {
    let outcome = with_hook("in_the_main_thread", || panic!("two lines\nof {}", "text"));
    is_told(outcome, "two lines of text");
}

#[test]
fn in_a_thread_that_computes() {
    let outcome = with_hook("in_a_thread_that_computes", || {
        (0..1000).into_par_iter().for_each(|i| assert!(i != 700, "seven hundred"));
    });
    is_told(outcome, "seven hundred");
}

struct Broken;

impl Images for Broken {
    fn len(&self) -> usize {
        40
    }
    fn label(&self, _: usize) -> u32 {
        0
    }
    fn read(&self, index: usize, _: &Area, _: &mut [u8]) -> Result<()> {
        assert!(index != 30, "image {index} is broken");
        Ok(())
    }
}

#[test]
fn in_a_loader_thread() {
    let outcome = with_hook("in_a_loader_thread", || {
        let geometry = Geometry { height: 2, width: 2, channels: 1, crop: 2 };
        let mean = vec![0.0; 4];
        let mut loader = Loader::start(Request {
            images: Arc::new(Broken),
            augmentation: Arc::new(Augmentation {
                geometry,
                flip: false,
                noise: None,
                random_crops: true,
                shared_crops: 1,
                scale: [1.0; 4],
                mean,
            }),
            crops: Crops::Centre,
            form: Form::Floats,
            batch: 4,
            seed: 0,
            order: Order::Sequential,
            epochs: 1..2,
            first_batch: 0,
            color_noise: Box::new(|_| false),
            prefetch: 2,
            threads: 2,
        })
        .unwrap();
        while loader.next().unwrap().is_some() {}
    });
    is_told(outcome, "image 30 is broken");
}

#[test]
fn what_is_guarded_is_not_told() {
    let outcome = with_hook("what_is_guarded_is_not_told", || {
        assert_eq!(guarded(|| panic!("a decoder")), None::<()>);
        assert_eq!(guarded(|| 3), Some(3));
    });
    let Some((code, said)) = outcome else { return };
    assert_eq!((code, said.as_str()), (Some(0), ""));
}
