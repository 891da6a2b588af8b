//! Every way to change the rates of a run by hand, as a table of cases.

use super::tests::schedule;
use super::{Past, Verdict};

/// A schedule, what the user makes of it after epoch 3, and the rates from then on: weights', then
/// biases'.
const CASES: &[(&str, &str, &str, [f64; 2])] = &[
    // What has changed in words; before; after; weights' and biases' rate.
    ("nothing", "rate=0.5", "rate=0.5", [0.5, 0.5]),
    ("the rate", "rate=0.5", "rate=0.25", [0.25, 0.25]),
    (
        "the rate, biases have their own",
        "rate=0.5\nbias_rate=1.0",
        "rate=0.25\nbias_rate=1.0",
        [0.25, 0.5],
    ),
    ("the biases' rate", "rate=0.5", "rate=0.5\nbias_rate=0.125", [0.5, 0.125]),
    ("both", "rate=0.5", "rate=0.25\nbias_rate=2.0", [0.25, 2.0]),
    ("biases follow again", "rate=0.5\nbias_rate=2.0", "rate=0.5", [0.5, 0.5]),
    ("biases follow again, and the rate", "rate=0.5\nbias_rate=2.0", "rate=0.25", [0.25, 0.25]),
    ("all stands still", "rate=0.5", "rate=0", [0.0, 0.0]),
    (
        "all stands still, biases too",
        "rate=0.5\nbias_rate=1.0",
        "rate=0\nbias_rate=1.0",
        [0.0, 0.0],
    ),
    ("all moves again", "rate=0", "rate=0.25", [0.25, 0.25]),
    (
        "all moves again, biases at theirs",
        "rate=0\nbias_rate=1.0",
        "rate=0.25\nbias_rate=1.0",
        [0.25, 1.0],
    ),
    ("all moves, biases stated too", "rate=0", "rate=0.25\nbias_rate=0.5", [0.25, 0.5]),
    ("the biases stand still", "rate=0.5", "rate=0.5\nbias_rate=0", [0.5, 0.0]),
    ("they still do", "rate=0.5\nbias_rate=0", "rate=0.25\nbias_rate=0", [0.25, 0.0]),
    ("they still do from 0 on", "rate=0\nbias_rate=0", "rate=0.25\nbias_rate=0", [0.25, 0.0]),
    ("they move again", "rate=0.5\nbias_rate=0", "rate=0.5\nbias_rate=0.25", [0.5, 0.25]),
];

fn past() -> Past {
    Past { epoch: 4, inside: false, best: Some((3, 0.5)) }
}

#[test]
fn every_way_to_change_the_rates_of_either_kind() {
    for kind in ["plateau", "steps"] {
        for (what, before, after, [rate, bias_rate]) in CASES {
            let of_kind = |text: &str| schedule(&format!("kind='{kind}'\n{text}"));
            let (old, new) = (of_kind(before), of_kind(after));
            let mut state = old.begin();
            (1..=3).for_each(|epoch| old.begin_epoch(&mut state, epoch));
            new.resume(&old, &mut state, &past()).unwrap();
            assert_eq!((state.rate, state.bias_rate), (*rate, *bias_rate), "{kind}: {what}");
            new.begin_epoch(&mut state, 4);
            assert_eq!((state.rate, state.bias_rate), (*rate, *bias_rate), "{kind}: {what}");
        }
    }
}

/// Stopped by hand and set going again, with rates of its own for the biases in between.
#[test]
fn after_a_halt_biases_take_the_rate_that_is_theirs() {
    for (text, bias_rate) in [("", 0.25), ("\nbias_rate=1.0", 1.0)] {
        for kind in ["plateau", "steps"] {
            let of = |rate: &str| schedule(&format!("kind='{kind}'\nrate={rate}{text}"));
            let (first, halt, again) = (of("0.5"), of("0"), of("0.25"));
            let mut state = first.begin();
            halt.resume(&first, &mut state, &past()).unwrap();
            assert_eq!((state.rate, state.bias_rate), (0.0, 0.0));
            again.resume(&halt, &mut state, &past()).unwrap();
            assert_eq!((state.rate, state.bias_rate), (0.25, bias_rate), "{kind}{text}");
        }
    }
}

/// A list of steps that halts the weights, or gives the biases a rate of their own.
#[test]
fn a_rate_by_hand_over_a_list_of_steps() {
    for (step, expected) in [
        ("rate=0.0", [0.125, 0.125]),
        ("rate=0.0,bias_rate=0.25", [0.125, 0.25]),
        ("rate=0.0,bias_rate=0.0", [0.125, 0.0]),
        ("rate=0.25", [0.125, 0.125]),
        ("rate=0.25,bias_rate=1.0", [0.125, 0.5]),
    ] {
        let of =
            |rate: f64| schedule(&format!("kind='steps'\nrate={rate}\nsteps=[{{epoch=2,{step}}}]"));
        let (old, new) = (of(0.5), of(0.125));
        let mut state = old.begin();
        (1..=3).for_each(|epoch| old.begin_epoch(&mut state, epoch));
        new.resume(&old, &mut state, &past()).unwrap();
        assert_eq!([state.rate, state.bias_rate], expected, "{step}");
    }
}

#[test]
fn a_rate_that_has_fallen_is_changed_from_where_it_is() {
    let old = schedule("rate=1.0\nbias_rate=2.0\npatience=1\nfactor=4.0");
    let mut state = old.begin();
    old.end_epoch(&mut state, 0.5).unwrap();
    assert_eq!(old.end_epoch(&mut state, 0.5).unwrap(), Verdict::Dropped);
    assert_eq!((state.rate, state.bias_rate), (0.25, 0.5));
    let new = schedule("rate=0.125\nbias_rate=2.0\npatience=1\nfactor=4.0");
    new.resume(&old, &mut state, &past()).unwrap();
    assert_eq!((state.rate, state.bias_rate), (0.125, 0.25));
    // The same once more changes nothing.
    let before = state.clone();
    new.resume(&new, &mut state, &past()).unwrap();
    assert_eq!(state, before);
}

#[test]
fn errors_on_other_images_are_not_compared() {
    let plateau = schedule("patience=1");
    let mut state = plateau.begin();
    plateau.end_epoch(&mut state, 0.25).unwrap();
    plateau.other_validation(&mut state).unwrap();
    assert_eq!(plateau.end_epoch(&mut state, 0.75).unwrap(), Verdict::GoOn);
    assert_eq!(plateau.end_epoch(&mut state, 0.75).unwrap(), Verdict::Dropped);
    let steps = schedule("kind='steps'");
    let mut state = steps.begin();
    steps.other_validation(&mut state).unwrap();
    assert_eq!(state, steps.begin());
}
