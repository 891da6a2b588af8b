//! Training that diverges, through the built program: when it ends, what it names, what it keeps,
//! and that the command it prints works when it is typed.

mod common;

use common::{World, sentence, stderr};

/// The command in a sentence, from `alexnet` to its end, as a shell would read it.
fn printed(said: &str) -> Vec<String> {
    let command = said[said.find("alexnet train").unwrap()..].trim();
    shlex::split(command).unwrap().split_off(1)
}

#[test]
fn a_loss_far_above_chance_ends_a_run() {
    let world = World::new();
    for rate in ["3", "100"] {
        // 90 steps in all, and then 9.
        for (batch, epochs) in [(2, 4), (30, 3)] {
            let args = format!(
                "train --config net.toml --set schedule.rate={rate} --set train.batch={batch} \
                 --set train.epochs={epochs} --run r{rate}-{batch}"
            );
            let said = world.fails(&args, 1, &["diverged with the learning rate"]);
            assert!(
                said.contains("10·ln(3) = 10.99") || said.contains("is the first whose"),
                "{said}"
            );
        }
    }
}

/// The layer that is named is one of the network's, and the last checkpoint stays as it was.
#[test]
fn a_number_that_is_not_finite_names_its_layer() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=1 --run 'run");
    let before = world.bytes("'run/last.safetensors");
    let args = "train --resume --run 'run --set train.epochs=9 --set schedule.rate=1e20";
    let said = world.fails(args, 1, &["diverged with the learning rate 1e20", "at step "]);
    assert!(said.contains("where layer ") && said.contains(" is the first whose "), "{said}");
    assert!(world.bytes("'run/last.safetensors") == before);
    let mut command = world.command("");
    let more = ["--set", "train.epochs=9"];
    let output = command.args(printed(&said)).args(more).output().unwrap();
    assert!(stderr(&output).contains("going on with 'run from step 9"), "{}", stderr(&output));
    // It is still far too large a rate, and the next advice is another step down.
    assert!(sentence(&output).contains("schedule.rate=1e18"), "{}", stderr(&output));
}

/// The list of a schedule has raised the rate: the advice changes the list, since a rate by hand
/// would count only until the entry that is to come.
#[test]
fn the_advice_for_a_list_of_steps_changes_the_list() {
    let world = World::new();
    let steps = "[{ epoch = 2, rate = 1e20 }, { epoch = 3, rate = 5.0, bias_rate = 1.0 }, \
                 { epoch = 4, rate = 1e-3 }]";
    let text = "extends = \"net.toml\"\n[schedule]\nkind = \"steps\"\n";
    world.write("steps.toml", &format!("{text}steps = {steps}\n"));
    let args = "train --config steps.toml --set train.epochs=5 --run run";
    let mut said = world.fails(args, 1, &["diverged with the learning rate 1e20"]);
    let mut tries = 0;
    // Down by tenths, until the numbers stay finite.
    loop {
        let output = world.command("").args(printed(&said)).output().unwrap();
        tries += 1;
        if output.status.success() {
            break;
        }
        let next = sentence(&output);
        assert!(tries < 30 && next != said, "{next}");
        said = next;
    }
    let steps = world.text("run/config.toml");
    for kept in ["bias_rate = 1.0", "rate = 5.0", "rate = 0.001"] {
        assert!(steps.contains(kept), "{steps}");
    }
    assert!(tries > 5 && !steps.contains("rate = 1e20"), "{steps}");
}

/// A checkpoint whose network says 0 for the right class: the loss is what its scores come to.
#[test]
fn an_evaluation_tells_losses_beyond_those_of_floats() {
    let world = World::new();
    // Three steps are too few to call it diverged.
    let args = "train --config linear.toml --set train.batch=30 --set train.epochs=1 --set \
                schedule.rate=0";
    world.ok(&format!("{args} --set layer.fc.weight_sigma=1000 --run run"));
    for crops in ["", "--ten-crop"] {
        let report = world.json(&format!("eval run/last.safetensors --json {crops}"));
        assert!(report["log_loss"].as_f64().unwrap() > 1000.0, "{report}");
    }
}
