//! Keys and values as they are written in a config: which keys a section knows, which of them a
//! mistyped one was probably meant to be, a section as its struct, and what is wrong with a value
//! in a person's words.

mod values;

pub use values::{Misfit, one_of};

use crate::config_error;
use anyhow::Result;
use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};
use values::In;

/// The keys that the struct `T` reads, as serde derives them.
pub fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    struct Ask<'a>(&'a mut &'static [&'static str]);
    impl<'de> de::Deserializer<'de> for Ask<'_> {
        type Error = de::value::Error;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(de::Error::custom("only structs are asked for their keys"))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            Err(de::Error::custom("asked"))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut fields: &'static [&'static str] = &[];
    let _ = T::deserialize(Ask(&mut fields));
    fields
}

/// Refuses a key of `table` that is not among `known`, naming the nearest that is.
pub fn check(table: &Table, known: &[&str], place: &str) -> Result<()> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(config_error!(
            "{place} has no key {key:?}{}; it knows {}",
            nearest(key, known),
            known.join(", ")
        )),
    }
}

/// `", did you mean X?"`-like text where a known name is close, else nothing.
pub fn nearest(name: &str, known: &[&str]) -> String {
    known
        .iter()
        .map(|k| (strsim::jaro_winkler(name, k), k))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| format!(" (the nearest is {k:?})"))
        .unwrap_or_default()
}

/// `table` as the struct `T`. Err: which key does not fit and what it must be; no word on where the
/// table stands, which callers know.
pub fn settings<T: DeserializeOwned>(table: &Table) -> Result<T> {
    T::deserialize(In(&Value::Table(table.clone()))).map_err(|e| config_error!("{e}"))
}

/// As [`settings`], with the table's place before the error.
pub fn typed<T: DeserializeOwned>(table: &Table, place: &str) -> Result<T> {
    settings(table).map_err(|e| config_error!("{place}: {e}"))
}

/// The value at `key` as a `T`. Err: as of [`settings`].
pub fn value<T: DeserializeOwned>(key: &str, value: &Value) -> Result<T> {
    T::deserialize(In(value)).map_err(|e| config_error!("{}", e.at(key, value)))
}

/// Settings as a value.
pub fn to_value(part: &impl Serialize) -> Value {
    Value::try_from(part).expect("settings are plain data")
}

/// Settings as a table.
pub fn to_table(part: &impl Serialize) -> Table {
    match to_value(part) {
        Value::Table(table) => table,
        _ => unreachable!("settings are structs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_struct_tells_its_keys() {
        assert_eq!(
            fields_of::<crate::config::Train>(),
            [
                "batch",
                "parts",
                "distribute",
                "epochs",
                "momentum",
                "weight_decay",
                "optimizer",
                "trust_coefficient",
                "keep",
                "checkpoint_minutes",
                "checkpoint_steps",
                "tensorboard",
                "freeze"
            ]
        );
    }

    #[test]
    fn a_typo_names_the_nearest_key() {
        let table: Table = "krenels = 3".parse().unwrap();
        let error = check(&table, &["kernels", "size"], "layer conv1").unwrap_err().to_string();
        assert!(error.contains("\"krenels\" (the nearest is \"kernels\")"), "{error}");
        assert_eq!(nearest("zzz", &["kernels"]), "");
    }
}
