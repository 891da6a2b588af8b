//! Several networks averaged: against the members' own probabilities, averaged here in f64.

use super::*;

#[test]
fn the_average_is_that_of_its_members_probabilities() {
    let world = world();
    let runs = ["a", "b", "c"];
    let of = |options: &str| runs.map(|run| probabilities(&world, run, "test", options));
    let members = of("");
    let all = world.json("eval a b/best.safetensors c --split test --json");
    near(printed(&all), errors(&averaged(&members, &[1.0 / 3.0; 3]), "test"));
    assert!(printed(&all)[0] > 0.05 && printed(&all)[1] > 0.0, "errs, so that errors are told");
    assert_eq!(all["weights"], serde_json::json!([1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]));
    assert_eq!(all["images"], 70);
    // Each member beside it is what it is alone, to the bit.
    for (i, run) in runs.iter().enumerate() {
        let alone = world.json(&format!("eval {run} --split test --json"));
        let member = &all["members"][i];
        assert_eq!(printed(member), printed(&alone), "{run}");
        near(printed(member), errors(&members[i], "test"));
        assert_eq!(member["checkpoint"], format!("{run}/best.safetensors"));
        assert_eq!(member["checkpoint"], all["checkpoints"][i]);
        assert!(alone.get("members").is_none() && alone.get("weights").is_none());
    }
    let weighted = world.json("eval a b c --split test --json --weights 0.2,0.3,0.5");
    near(printed(&weighted), errors(&averaged(&members, &[0.2, 0.3, 0.5]), "test"));
    assert_ne!(printed(&weighted)[2], printed(&all)[2]);
    let only = world.json("eval a b c --split test --json --weights 0,1,0");
    assert_eq!(printed(&only), printed(&all["members"][1]));

    let ten = of("--ten-crop");
    let all = world.json("eval a b c --split test --json --ten-crop");
    near(printed(&all), errors(&averaged(&ten, &[1.0 / 3.0; 3]), "test"));
    assert_eq!(all["crops"], 10);

    let text = world.ok("eval a b c --split test");
    for word in ["softmax outputs of 3 networks averaged", "each by itself", "c/best.safetensors"] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
}

/// Automatic weights: no others on a grid over all weights have a lower log-loss on val.
#[test]
fn automatic_weights_have_the_lowest_loss_on_the_validation_images() {
    let world = world();
    let all = world.json("eval a b c --split test --json --weights auto");
    let weights: Vec<f64> =
        all["weights"].as_array().unwrap().iter().map(|w| w.as_f64().unwrap()).collect();
    assert!(weights.iter().all(|w| *w >= 0.0) && (weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    let val = ["a", "b", "c"].map(|run| probabilities(&world, run, "val", ""));
    let loss = |weights: &[f64]| errors(&averaged(&val, weights), "val")[2];
    let found = loss(&weights);
    for i in 0..=50 {
        for j in 0..=50 - i {
            let other = [i, j, 50 - i - j].map(|n| f64::from(n) / 50.0);
            assert!(
                found <= loss(&other) + 1e-6,
                "{weights:?}: {found}; {other:?}: {}",
                loss(&other)
            );
        }
    }
    let test = ["a", "b", "c"].map(|run| probabilities(&world, run, "test", ""));
    near(printed(&all), errors(&averaged(&test, &weights), "test"));
    assert_eq!(all, world.json("eval a b c --split test --json --weights auto --threads 1"));
}

#[test]
fn weights_that_do_not_suit_are_refused_with_the_way_out() {
    let world = world();
    world.fails("eval a b --weights auto", 2, &["val", "--split test", "--weights 0.50,0.50"]);
    world.fails("eval a b --weights 1 --split test", 2, &["1 numbers for 2 networks"]);
    world.fails("eval a --weights 1", 2, &["several networks"]);
    for wrong in ["0.5,0.6", "1.5,-0.5", "half"] {
        let output = world.run(&format!("eval a b --weights {wrong}"));
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn networks_whose_answers_do_not_mean_the_same_are_refused() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    world.write("linear.toml", common::LINEAR);
    world.photos("photos", ["down", "level", "slant"], 6);
    world.photos("other", ["down", "level", "upward"], 6);
    world.ok("prepare image-folder photos --out set --size 16");
    world.ok("prepare image-folder other --out other-set --size 16");
    world.ok("prepare image-folder photos --out ignored --size 16 --orientation ignore");
    for (run, data) in [("a", "set"), ("b", "other-set"), ("c", "ignored")] {
        world.ok(&format!(
            "train --config linear.toml --set train.epochs=1 --data {data} --run {run}"
        ));
    }
    world.fails("eval a b", 1, &["class tables differ", "a/best", "b/best", "\"upward\""]);
    world.fails("eval a c", 1, &["a/best", "c/best", "different ways", "evaluate each by itself"]);
}

#[test]
fn a_folder_is_its_best_checkpoint() {
    let world = world();
    let file = world.ok("eval a/best.safetensors --json");
    assert_eq!(world.ok("eval a --json"), file);
    world.fails("eval set", 1, &["set", "folder"]);
}
