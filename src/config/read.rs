//! From a file, its parents (`extends`) and `--set` to a checked [`Config`].
//!
//! A child states only what differs. Tables merge key by key; what becomes of layers is said in
//! [`layers`], and `--set layer.NAME.key=…` changes one as `[layer.NAME]` does.

use super::shipped::{self, Shipped};
use super::{Config, Data, FORMAT, Init, Prepare, Train, layers};
use crate::config_error;
use crate::files::text;
use crate::gpu::precision::GpuOptions;
use crate::keys::{self, typed};
use crate::layers::conv::CpuOptions;
use crate::quoting;
use crate::schedules::{self, Schedule, Start, written};
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A config larger than this is refused unread (ten thousand layers take some of it), since TOML
/// takes many times its size in memory.
const MOST_TEXT: u64 = 1 << 20;

const TOP: [&str; 11] = [
    "format", "name", "seed", "towers", "data", "init", "train", "schedule", "cpu", "gpu", "layer",
];

impl Config {
    /// Reads `file` and its parents, then applies each `key=value` of `set`.
    pub fn read(file: &Path, set: &[String]) -> Result<Config> {
        let (table, mixed) = read_with_parents(file)?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Config::from_table(table, mixed, set, &name).with_context(|| file.display().to_string())
    }

    /// Reads a config from text, as it is kept in a checkpoint; `source` names it in errors.
    pub fn parse(text: &str, set: &[String], source: &str) -> Result<Config> {
        if text.len() as u64 > MOST_TEXT {
            return Err(config_error!("{source}: its config has {} KiB", text.len() >> 10));
        }
        let mut table = parse_table(text).with_context(|| source.to_string())?;
        let mixed = schedule_of(&mut table).is_some_and(written::from_old);
        Config::from_table(table, mixed, set, "unnamed").with_context(|| source.to_string())
    }

    /// `mixed`: an old file's schedule of two kinds (module `schedules::written`).
    pub(super) fn from_table(
        mut top: Table,
        mut mixed: bool,
        set: &[String],
        default_name: &str,
    ) -> Result<Config> {
        let changes = set.iter().map(|text| Assignment::parse(text)).collect::<Result<Vec<_>>>()?;
        let kind = changes.iter().rfind(|c| c.path == ["schedule"] && c.key == "kind");
        if let Some(kind) = kind {
            state_kind(&mut top, &kind.value, &mut mixed);
        }
        changes.into_iter().try_for_each(|change| change.apply(&mut top))?;
        if top.contains_key("extends") {
            return Err(config_error!("extends is for config files; --set cannot change it"));
        }
        check_format(&top)?;
        check_top(&top)?;
        let data = section::<Data>(&mut top, "data")?;
        let layers = layers::read(&mut top)?;
        let config = Config {
            name: scalar(&top, "name")?.unwrap_or_else(|| default_name.to_string()),
            seed: scalar(&top, "seed")?.unwrap_or(1),
            towers: scalar(&top, "towers")?.unwrap_or(1),
            data,
            init: section::<Init>(&mut top, "init")?,
            train: section::<Train>(&mut top, "train")?,
            schedule: match (table_of(&mut top, "schedule")?, mixed) {
                (section, false) => Schedule::read(&section)?,
                (section, true) => Schedule::read_mixed(&section)?,
            },
            cpu: section::<CpuOptions>(&mut top, "cpu")?,
            gpu: section::<GpuOptions>(&mut top, "gpu")?,
            layers,
        };
        if config.name.is_empty()
            || config.name.contains(['/', '\\'])
            || config.name.starts_with('.')
        {
            return Err(config_error!("name = {:?} cannot name a run's folder", config.name));
        }
        config.check()?;
        Ok(config)
    }
}

/// What people call keys that have another name here.
const CALLED: [(&str, &str); 10] = [
    ("lr", "schedule.rate"),
    ("learning_rate", "schedule.rate"),
    ("learning-rate", "schedule.rate"),
    ("batch_size", "train.batch"),
    ("batchsize", "train.batch"),
    ("bs", "train.batch"),
    ("wd", "train.weight_decay"),
    ("classes", "data.classes"),
    ("output", "name"),
    ("run", "name"),
];

/// Refuses a key outside of sections that none is, and says which section's is meant.
fn check_top(top: &Table) -> Result<()> {
    let Some(key) = top.keys().find(|key| !TOP.contains(&key.as_str())) else { return Ok(()) };
    let sections = [
        ("train", keys::fields_of::<Train>()),
        ("schedule", keys::fields_of::<Start>()),
        ("data", keys::fields_of::<Data>()),
        ("init", keys::fields_of::<Init>()),
        ("cpu", keys::fields_of::<CpuOptions>()),
        ("gpu", keys::fields_of::<GpuOptions>()),
    ];
    let called = CALLED.iter().find(|(name, _)| name == key).map(|(_, meant)| meant.to_string());
    let of_section = || {
        let section = sections.iter().find(|(_, fields)| fields.contains(&key.as_str()));
        let of_schedule =
            || schedules::KINDS.iter().any(|kind| (kind.keys)().contains(&key.as_str()));
        let name = section.map(|(name, _)| *name).or_else(|| of_schedule().then_some("schedule"));
        name.map(|name| format!("{name}.{key}"))
    };
    match called.or_else(of_section) {
        None => keys::check(top, &TOP, "the config"),
        Some(meant) => {
            let value = match &top[key] {
                Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            Err(config_error!(
                "the config has no key {key:?}; {meant} is meant: {}",
                quoting::set(&meant, &value)
            ))
        }
    }
}

/// The name of runs of the config `file`, and whether it is a whole one: one with layers.
///
/// # Errors
/// If it cannot be read.
pub fn name_in(file: &Path) -> Result<(String, bool)> {
    let (table, _) = read_with_parents(file)?;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name = table.get("name").and_then(Value::as_str).unwrap_or(&stem).to_string();
    Ok((name, table.get("layer").is_some_and(Value::is_array)))
}

/// Refuses a config of a version that this program does not know.
fn check_format(top: &Table) -> Result<()> {
    match scalar::<u32>(top, "format")? {
        None | Some(FORMAT) => Ok(()),
        Some(newer) if newer > FORMAT => Err(config_error!(
            "format = {newer}: the config is of a newer version of alexnet; this one reads formats \
             up to {FORMAT}"
        )),
        Some(other) => Err(config_error!("format = {other}: it must be {FORMAT}")),
    }
}

/// A section as its struct. Nested tables with structs of their own are checked too.
fn section<T: DeserializeOwned>(top: &mut Table, name: &str) -> Result<T> {
    let table = table_of(top, name)?;
    keys::check(&table, keys::fields_of::<T>(), &format!("[{name}]"))?;
    if let (Some(Value::Table(inner)), "data") = (table.get("prepare"), name) {
        keys::check(inner, keys::fields_of::<Prepare>(), "[data.prepare]")?;
    }
    typed(&table, &format!("[{name}]"))
}

/// Takes a section out; absent is empty.
fn table_of(top: &mut Table, name: &str) -> Result<Table> {
    match top.remove(name) {
        None => Ok(Table::new()),
        Some(Value::Table(table)) => Ok(table),
        Some(_) => Err(config_error!("{name} must be a section, [{name}]")),
    }
}

fn scalar<T: DeserializeOwned>(top: &Table, key: &str) -> Result<Option<T>> {
    top.get(key).map(|value| keys::value(key, value)).transpose()
}

pub(super) fn schedule_of(top: &mut Table) -> Option<&mut Table> {
    top.get_mut("schedule").and_then(Value::as_table_mut)
}

/// The schedule's `kind` is stated over what `base` says of it.
pub(super) fn state_kind(base: &mut Table, kind: &Value, mixed: &mut bool) {
    if let Some(section) = schedule_of(base) {
        written::change_kind(section, kind, std::mem::take(mixed));
    }
}

pub(super) fn parse_table(text: &str) -> Result<Table> {
    text.parse::<Table>().map_err(|e| {
        let line = e.span().map(|s| text[..s.start.min(text.len())].matches('\n').count() + 1);
        let place = line.map(|l| format!("line {l}: ")).unwrap_or_default();
        config_error!("{place}{}", e.message().trim().replace('\n', " "))
    })
}

/// Where a config's text is.
enum Place {
    File(PathBuf),
    /// In the program.
    Carried(Shipped),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(file) => write!(f, "{}", file.display()),
            Place::Carried(shipped) => f.write_str(shipped.name),
        }
    }
}

impl Place {
    /// A file, or, where there is none, what the program carries by that name.
    fn of(file: &Path) -> Place {
        shipped::named_by(file).map_or_else(|| Place::File(file.to_path_buf()), Place::Carried)
    }

    /// Relative to which the config names others.
    fn folder(&self) -> &Path {
        match self {
            Place::File(file) => file.parent().unwrap_or(Path::new("")),
            Place::Carried(_) => Path::new(shipped::FOLDER),
        }
    }

    /// What it extends: a file beside it, or what the program carries.
    fn parent(&self, name: &str) -> Place {
        let beside = self.folder().join(name);
        let carried = shipped::named(name.strip_suffix(".toml").unwrap_or(name));
        match (self, carried) {
            (Place::Carried(_), Some(shipped)) => Place::Carried(shipped),
            (Place::File(_), Some(shipped)) if !beside.is_file() => Place::Carried(shipped),
            _ => Place::File(beside),
        }
    }

    fn text(&self) -> Result<Cow<'static, str>> {
        let file = match self {
            Place::Carried(shipped) => return Ok(shipped.text.into()),
            Place::File(file) => file,
        };
        let text = text::read(file, MOST_TEXT).map_err(|e| {
            let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let names: Vec<&str> = shipped::ALL.iter().map(|shipped| shipped.name).collect();
            let hint = match shipped::named(stem) {
                _ if file.exists() => String::new(),
                Some(shipped) => format!("; the program carries it as --config {}", shipped.name),
                None => keys::nearest(stem, &names),
            };
            config_error!("{self}: the config cannot be read: {e}{hint}")
        })?;
        Ok(text.into())
    }

    /// Whether both are the same.
    fn is(&self, other: &Place) -> bool {
        let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        match (self, other) {
            (Place::File(a), Place::File(b)) => canonical(a) == canonical(b),
            (Place::Carried(a), Place::Carried(b)) => a == b,
            _ => false,
        }
    }
}

/// The config `file`, or that which the program carries by that name, over those that it extends. Also
/// says whether an old file's schedule is mixed.
pub(super) fn read_with_parents(file: &Path) -> Result<(Table, bool)> {
    read_over(Place::of(file), &mut Vec::new())
}

/// `children` are the configs on the way to `place`, each of which extends the next.
fn read_over(place: Place, children: &mut Vec<Place>) -> Result<(Table, bool)> {
    let mut table = parse_table(&place.text()?).with_context(|| place.to_string())?;
    if let Some(source) =
        table.get_mut("data").and_then(|d| d.get_mut("prepare")?.get_mut("source"))
        && let Some(path) = source.as_str()
    {
        *source = Value::String(place.folder().join(path).display().to_string());
    }
    let Some(parent) = table.remove("extends") else {
        let mixed = schedule_of(&mut table).is_some_and(written::from_old);
        return Ok((table, mixed));
    };
    let Value::String(parent) = parent else {
        return Err(config_error!("{place}: extends must be a file name"));
    };
    let parent = place.parent(&parent);
    let name = place.to_string();
    children.push(place);
    if children.iter().any(|child| child.is(&parent)) {
        return Err(config_error!("{name}: extends = {:?} goes in a circle", parent.to_string()));
    }
    let extends = format!("{name} extends {parent}");
    let (mut base, mut mixed) = read_over(parent, children).context(extends)?;
    base.remove("name");
    if let Some(kind) = table.get("schedule").and_then(|schedule| schedule.get("kind")) {
        state_kind(&mut base, kind, &mut mixed);
    }
    merge(&mut base, table).context(name)?;
    Ok((base, mixed))
}

/// Lays `over` on `base`: tables key by key, `[layer.NAME]` by name, everything else replaced.
pub(super) fn merge(base: &mut Table, over: Table) -> Result<()> {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Array(layers)), Value::Table(changes)) if key == "layer" => {
                layers::merge(layers, changes)?;
            }
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new)?,
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
    Ok(())
}

/// One `--set key=value`: the value is TOML, else a string.
struct Assignment<'a> {
    text: &'a str,
    /// The tables on the way to the key.
    path: Vec<&'a str>,
    key: &'a str,
    value: Value,
}

impl Assignment<'_> {
    fn parse(assignment: &str) -> Result<Assignment<'_>> {
        let Some((key, text)) = assignment.split_once('=') else {
            return Err(config_error!("--set {assignment}: it must be key=value"));
        };
        let value = format!("value = {}", text.trim())
            .parse::<Table>()
            .ok()
            .filter(|table| table.len() == 1)
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| Value::String(text.trim().to_string()));
        let mut path: Vec<&str> = key.trim().split('.').collect();
        let last = path.pop().filter(|k| !k.is_empty());
        let Some(key) = last else {
            return Err(config_error!("--set {assignment}: the key is empty"));
        };
        Ok(Assignment { text: assignment, path, key, value })
    }

    fn apply(mut self, top: &mut Table) -> Result<()> {
        let text = self.text;
        let mut table = top;
        if self.path.first() == Some(&"layer") && table.get("layer").is_some_and(Value::is_array) {
            let Some(name) = self.path.get(1) else {
                return Err(config_error!(
                    "--set {text}: layers go by name, --set layer.conv1.weight_sigma=0.03"
                ));
            };
            let layers =
                table.get_mut("layer").and_then(Value::as_array_mut).expect("checked above");
            table = layers::named(layers, name).with_context(|| format!("--set {text}"))?;
            self.path.drain(..2);
        }
        for step in self.path {
            let inner = table.entry(step).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(inner) = inner else {
                return Err(config_error!("--set {text}: {step} is no section"));
            };
            table = inner;
        }
        table.insert(self.key.to_string(), self.value);
        Ok(())
    }
}
