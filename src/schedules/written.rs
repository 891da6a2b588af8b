//! `[schedule]` before it is read: keys that belong to other kinds, a kind that is stated over
//! another config's, and files from before each kind had its own keys.
//!
//! Those files, checkpoints and run folders' `config.toml` alike, hold the keys of both kinds that
//! there were, with every default filled in; the other kind's had no effect, with one exception: a
//! plateau's `steps` were followed too. Such a mixed schedule can still be read, so that its
//! checkpoint can be used, but not trained.

use super::{KINDS, Kind, Schedule, Start, kind_named};
use crate::config_error;
use crate::keys::{self, nearest};
use anyhow::{Error, Result};
use toml::{Table, Value};

/// All keys but `bias_rate`, which was left out where it was not given.
const OLD_KEYS: [&str; 6] = ["kind", "rate", "patience", "drops", "factor", "steps"];

/// The keys that every schedule has.
pub(super) fn common_keys() -> Vec<&'static str> {
    let mut keys = vec!["kind"];
    keys.extend(keys::fields_of::<Start>());
    keys
}

/// Refuses a key that is not this kind's: it may be another kind's, or mistyped.
pub(super) fn check_keys(section: &Table, kind: &Kind) -> Result<()> {
    let mut known = common_keys();
    known.extend((kind.keys)());
    let Some(key) = section.keys().find(|key| !known.contains(&key.as_str())) else {
        return Ok(());
    };
    let owners: Vec<String> = KINDS
        .iter()
        .filter(|other| (other.keys)().contains(&key.as_str()))
        .map(|other| format!("{:?}", other.name))
        .collect();
    if owners.is_empty() {
        return Err(config_error!(
            "[schedule] of kind {:?} has no key {key:?}{}; it knows {}",
            kind.name,
            nearest(key, &known),
            known.join(", ")
        ));
    }
    Err(config_error!(
        "schedule.{key} is a key of kind {}, and this schedule is {:?}; leave it out, or say --set \
         schedule.kind={}",
        owners.join(" or "),
        kind.name,
        owners[0].trim_matches('"')
    ))
}

/// Takes the other kind's keys out of the `[schedule]` of a file from before each kind had its own;
/// any other is left alone. True: it is mixed, and all its keys are still there.
pub fn from_old(section: &mut Table) -> bool {
    if !OLD_KEYS.iter().all(|key| section.contains_key(*key)) {
        return false;
    }
    let steps = section.get("steps").and_then(Value::as_array);
    let has_steps = steps.is_some_and(|steps| !steps.is_empty());
    let kind = section.get("kind").and_then(Value::as_str).unwrap_or_default().to_string();
    let mixed = kind == "plateau" && has_steps;
    if !mixed {
        take_out_others(section, &kind, |_| true);
    }
    mixed
}

/// `kind` is stated over `[schedule]` of a config (by one that extends it, by `--set`): if it is
/// another than before, the keys of the kind before go. A mixed schedule loses one side in any
/// case.
pub fn change_kind(section: &mut Table, kind: &Value, mixed: bool) {
    let before =
        section.get("kind").map_or(KINDS[0].name, |kind| kind.as_str().unwrap_or_default());
    let before = before.to_string();
    take_out_others(section, kind.as_str().unwrap_or_default(), |other| mixed || other == before);
}

/// Takes out the keys of the kinds that `which` names and that `kind` has not; if there is such a
/// kind.
fn take_out_others(section: &mut Table, kind: &str, which: impl Fn(&str) -> bool) {
    let Some(kind) = kind_named(kind) else { return };
    let keep = (kind.keys)();
    for other in KINDS.iter().filter(|other| other.name != kind.name && which(other.name)) {
        for key in (other.keys)().iter().filter(|key| !keep.contains(key)) {
            section.remove(*key);
        }
    }
}

impl Schedule {
    /// Reads a mixed `[schedule]` as the plateau that it says it is.
    pub fn read_mixed(section: &Table) -> Result<Schedule> {
        let mut section = section.clone();
        section.remove("steps");
        Ok(Schedule { mixed: true, ..Schedule::read(&section)? })
    }
}

pub(super) fn mixed_refused() -> Error {
    config_error!(
        "schedule.steps stands beside schedule.kind = \"plateau\": an older version followed both, \
        this one keeps to one kind; say which with --set schedule.kind=plateau or \
        --set schedule.kind=steps"
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Past, State, Verdict};
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    fn refused(text: &str) -> String {
        Schedule::read(&table(text)).unwrap_err().to_string()
    }

    #[test]
    fn a_key_of_another_kind_is_refused_and_its_kind_named() {
        let error = refused("kind = \"steps\"\npatience = 3");
        let words =
            "schedule.patience is a key of kind \"plateau\", and this schedule is \"steps\";";
        assert!(error.starts_with(words), "{error}");
        assert!(
            refused("steps = []").contains("of kind \"steps\", and this schedule is \"plateau\"")
        );
        let error = refused("patiense = 3");
        assert!(error.contains("\"patiense\" (the nearest is \"patience\")"), "{error}");
    }

    #[test]
    fn another_kind_stated_on_top_takes_the_first_ones_keys_away() {
        let mut base = table("rate = 0.1\npatience = 3\ndrops = 1");
        change_kind(&mut base, &"plateau".into(), false);
        assert_eq!(base.len(), 3, "the same kind changes nothing");
        change_kind(&mut base, &"stairs".into(), false);
        assert_eq!(base.len(), 3, "that there is no such kind is said by who reads it");
        change_kind(&mut base, &"steps".into(), false);
        assert_eq!(base, table("rate = 0.1"));
        let mut wrong = table("kind = \"steps\"\npatience = 3");
        change_kind(&mut wrong, &"steps".into(), false);
        assert_eq!(wrong.len(), 2, "a key that was wrong before stays so");
    }

    /// As the first version wrote it into checkpoints and run folders.
    const OLD: &str =
        "bias_rate = 0.02\ndrops = 2\nfactor = 4.0\npatience = 7\nrate = 0.01\nsteps = []\nkind = ";

    #[test]
    fn old_files_are_read_without_the_other_kinds_keys() {
        let mut plateau = table(&format!("{OLD}\"plateau\""));
        assert!(!from_old(&mut plateau));
        let now = "kind = \"plateau\"\nrate = 0.01\nbias_rate = 0.02\npatience = 7\ndrops = \
        2\nfactor = 4.0";
        assert_eq!(Schedule::read(&plateau).unwrap().to_table(), table(now));
        let steps = OLD.replace("[]", "[{ epoch = 3, rate = 0.002 }]");
        let mut steps = table(&format!("{steps}\"steps\""));
        assert!(!from_old(&mut steps));
        let schedule = Schedule::read(&steps).unwrap();
        let mut state = schedule.begin();
        schedule.begin_epoch(&mut state, 3);
        assert_eq!((state.rate, state.bias_rate), (0.002, 0.02));
        // A key short of all, and it was written by hand.
        let mut written = table("kind = \"steps\"\nrate = 0.1\npatience = 3\nsteps = []");
        assert!(!from_old(&mut written));
        assert!(Schedule::read(&written).is_err());
    }

    #[test]
    fn an_old_plateau_with_steps_is_read_but_not_trained_until_a_kind_is_chosen() {
        let steps = OLD.replace("[]", "[{ epoch = 3, rate = 0.002 }]");
        let mut mixed = table(&format!("{steps}\"plateau\""));
        assert!(from_old(&mut mixed));
        let schedule = Schedule::read_mixed(&mixed).unwrap();
        let error = schedule.check_training(true).unwrap_err().to_string();
        assert!(error.contains("schedule.steps") && error.contains("--set"), "{error}");
        for (kind, key, other) in [("plateau", "patience", "steps"), ("steps", "steps", "patience")]
        {
            let mut chosen = mixed.clone();
            change_kind(&mut chosen, &kind.into(), true);
            chosen.insert("kind".into(), kind.into());
            assert!(chosen.contains_key(key) && !chosen.contains_key(other));
            assert!(Schedule::read(&chosen).unwrap().check_training(true).is_ok());
        }
    }

    /// The state of an old checkpoint: what the plateau keeps stood beside the rates, for every
    /// kind.
    const OLD_STATE: &str = "{\"rate\":0.001,\"bias_rate\":0.002,\
        \"layers\":{\"conv1\":0.0},\"drops\":1,\"best\":0.25,\"waited\":4}";

    #[test]
    fn old_states_go_on_where_they_stood() {
        let past = Past { epoch: 9, inside: false, best: Some((4, 0.25)) };
        let old = || serde_json::from_str::<State>(OLD_STATE).unwrap();
        let plateau = Schedule::read(&table("rate = 0.01\npatience = 5\ndrops = 2")).unwrap();
        let mut state = old();
        plateau.resume(&plateau, &mut state, &past).unwrap();
        assert_eq!(state, old(), "all of it is the plateau's");
        assert_eq!(plateau.end_epoch(&mut state, 0.25).unwrap(), Verdict::Dropped);
        assert_eq!(state.rate, 0.001 / 10.0);
        let steps = Schedule::read(&table("kind = \"steps\"\nrate = 0.01")).unwrap();
        let mut state = old();
        steps.resume(&steps, &mut state, &past).unwrap();
        assert_eq!((state.rate, state.layers["conv1"]), (0.001, 0.0));
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(text, "{\"rate\":0.001,\"bias_rate\":0.002,\"layers\":{\"conv1\":0.0}}");
        // A plateau has nothing to go on from in what steps keep.
        let error = plateau.resume(&plateau, &mut state, &past).unwrap_err().to_string();
        assert!(error.contains("\"plateau\""), "{error}");
    }
}
