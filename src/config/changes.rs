//! What differs between two configs, key by key, as a person would set it.

use super::Config;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// A key whose value differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// As `--set` takes it: `train.batch`, `layer.conv1.bias`. `layer` is the order of the layers.
    pub key: String,
    /// The value as TOML; None: the key is not set.
    pub old: Option<String>,
    /// As `old`.
    pub new: Option<String>,
}

/// The keys in which `new` differs from `old`, defaults counted as if they were written, in
/// alphabetical order.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let [old, new] = [old, new].map(|config| {
        let mut flat = BTreeMap::new();
        flatten(String::new(), &config.to_table(), &mut flat);
        flat.remove("format");
        flat
    });
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    let change = |key: &String| Change {
        key: key.clone(),
        old: old.get(key).cloned(),
        new: new.get(key).cloned(),
    };
    keys.into_iter().map(change).filter(|change| change.old != change.new).collect()
}

fn flatten(prefix: String, table: &Table, flat: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            Value::Table(inner) => flatten(format!("{key}."), inner, flat),
            Value::Array(layers) if key == "layer" => {
                let layers: Vec<&Table> = layers.iter().filter_map(Value::as_table).collect();
                let name = |layer: &Table| layer["name"].as_str().unwrap_or_default().to_string();
                let names: Vec<String> = layers.iter().map(|layer| name(layer)).collect();
                for (name, layer) in names.iter().zip(layers) {
                    flatten(format!("layer.{name}."), layer, flat);
                }
                flat.insert(key, names.join(", "));
            }
            value => {
                flat.insert(key, value.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(set: &[&str]) -> Config {
        let text = "name = 'a'\n[data]\ncrop = 8\n[[layer]]\nname = 'fc'\nkind = 'fc'\noutputs = \
            4\n[[layer]]\nname = 'softmax'\nkind = 'softmax'\n";
        let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
        Config::parse(text, &set, "text").unwrap()
    }

    #[test]
    fn each_key_that_differs_is_named_with_both_values() {
        assert_eq!(changes(&config(&[]), &config(&["train.batch=128"])), []);
        let new = config(&["data.flip=false", "layer.fc.bias=1", "schedule.bias_rate=0.5"]);
        let words: Vec<String> = changes(&config(&[]), &new)
            .into_iter()
            .map(|c| format!("{}: {:?} {:?}", c.key, c.old, c.new))
            .collect();
        assert_eq!(
            words,
            [
                "data.flip: Some(\"true\") Some(\"false\")",
                "layer.fc.bias: Some(\"0.0\") Some(\"1.0\")",
                "schedule.bias_rate: None Some(\"0.5\")",
            ]
        );
        let steps = config(&["schedule.kind=steps", "schedule.steps=[{epoch=2,rate=0.5}]"]);
        let all = changes(&config(&[]), &steps);
        let new = |key: &str| all.iter().find(|c| c.key == key).unwrap().new.clone();
        assert_eq!(new("schedule.patience"), None);
        assert_eq!(new("schedule.steps").unwrap(), "[{ epoch = 2, rate = 0.5 }]");
    }
}
