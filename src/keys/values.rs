//! From a TOML value to a Rust one, for serde: as the TOML library does it, but what does not fit
//! is kept as data (where it stands, what stands there, what should) and told in a person's words,
//! not in names of types: `batch = -1: it must be a whole number from 0 up`.

use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use std::fmt::{self, Display};
use toml::Value;
use toml::map::Iter;

/// Why a value cannot be read.
#[derive(Debug)]
pub struct Misfit {
    /// The way to it from the section on, as in `steps[0].rate`; empty for the section itself.
    path: String,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    /// Something else should stand there; what does is known once the value's place is.
    Wrong {
        right: String,
        found: Option<String>,
    },
    /// A table lacks this key.
    Missing(&'static str),
    Other(String),
}

impl Misfit {
    fn new(problem: Problem) -> Misfit {
        Misfit { path: String::new(), problem }
    }

    /// `right` says what should stand there, after "it must be".
    pub fn must_be(right: impl Display) -> Misfit {
        Misfit::new(Problem::Wrong { right: right.to_string(), found: None })
    }

    /// The same, seen from the table or array around it: `value` stands at `step`, a key or `[2]`.
    pub fn at(mut self, step: &str, value: &Value) -> Misfit {
        if let (true, Problem::Wrong { found, .. }) = (self.path.is_empty(), &mut self.problem) {
            *found = Some(value.to_string());
        }
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{step}{dot}{}", self.path);
        self
    }
}

impl Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Problem::Wrong { found: Some(found), .. } = &self.problem {
            write!(f, " = {found}")?;
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        match &self.problem {
            Problem::Wrong { right, .. } => write!(f, "it must be {right}"),
            Problem::Missing(key) => write!(f, "there is no `{key}`"),
            Problem::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: Display>(text: T) -> Misfit {
        Misfit::new(Problem::Other(text.to_string()))
    }
    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Misfit {
        Misfit::must_be(expected)
    }
    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Misfit {
        Misfit::must_be(expected)
    }
    fn invalid_length(_: usize, expected: &dyn Expected) -> Misfit {
        Misfit::must_be(expected)
    }
    fn unknown_variant(_: &str, names: &'static [&'static str]) -> Misfit {
        Misfit::must_be(one_of(names))
    }
    fn missing_field(key: &'static str) -> Misfit {
        Misfit::new(Problem::Missing(key))
    }
}

/// `` `a` ``, `` `a` or `b` ``, `` `a`, `b` or `c` ``.
pub fn one_of(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} or {last}", before.join(", ")),
        None => "nothing".to_string(),
    }
}

/// A value to be read.
pub struct In<'a>(pub &'a Value);

impl<'de> In<'de> {
    fn whole<V: Visitor<'de>>(self, most: u64, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Integer(n) if *n >= 0 && *n as u64 <= most => visitor.visit_u64(*n as u64),
            Value::Integer(n) if *n > 0 => {
                Err(Misfit::must_be(format!("a whole number from 0 up to {most}")))
            }
            _ => Err(Misfit::must_be("a whole number from 0 up")),
        }
    }
}

/// `right` is said of a value that is no array.
fn array<'de, V: Visitor<'de>>(
    value: &'de Value,
    right: impl Display,
    visitor: V,
) -> Result<V::Value, Misfit> {
    let Value::Array(values) = value else { return Err(Misfit::must_be(right)) };
    let mut items = Items { values, at: 0 };
    let result = visitor.visit_seq(&mut items)?;
    match items.at {
        taken if taken < values.len() => {
            Err(Misfit::must_be(format!("an array of length {taken}")))
        }
        _ => Ok(result),
    }
}

fn table<'de, V: Visitor<'de>>(value: &'de Value, visitor: V) -> Result<V::Value, Misfit> {
    let Value::Table(table) = value else { return Err(Misfit::must_be("a table")) };
    visitor.visit_map(Entries { rest: table.iter(), now: None })
}

impl<'de> Deserializer<'de> for In<'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::String(text) => visitor.visit_str(text),
            Value::Integer(n) => visitor.visit_i64(*n),
            Value::Float(x) => visitor.visit_f64(*x),
            Value::Boolean(on) => visitor.visit_bool(*on),
            Value::Datetime(_) => {
                Err(de::Error::invalid_type(Unexpected::Other("a date"), &visitor))
            }
            Value::Array(_) => array(self.0, "an array", visitor),
            Value::Table(_) => table(self.0, visitor),
        }
    }
    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.whole(u32::MAX.into(), visitor)
    }
    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.whole(u64::MAX, visitor)
    }
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Integer(n) => visitor.visit_i64(*n),
            Value::Float(x) => visitor.visit_f64(*x),
            _ => Err(Misfit::must_be("a number")),
        }
    }
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Boolean(on) => visitor.visit_bool(*on),
            _ => Err(Misfit::must_be("true or false")),
        }
    }
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::String(text) => visitor.visit_str(text),
            _ => Err(Misfit::must_be("a string")),
        }
    }
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        array(self.0, "an array", visitor)
    }
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        array(self.0, format!("an array of length {length}"), visitor)
    }
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        table(self.0, visitor)
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        table(self.0, visitor)
    }
    /// A config's enums are names without content.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => Err(Misfit::must_be(one_of(names))),
        }
    }
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }
    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 u8 u16 f32 char bytes byte_buf unit unit_struct tuple_struct identifier
    }
}

/// An array's values one after the other.
struct Items<'a> {
    values: &'a [Value],
    at: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        let Some(value) = self.values.get(self.at) else { return Ok(None) };
        let step = format!("[{}]", self.at);
        self.at += 1;
        seed.deserialize(In(value)).map(Some).map_err(|e| e.at(&step, value))
    }
}

/// A table's keys and values one after the other.
struct Entries<'a> {
    rest: Iter<'a, String, Value>,
    now: Option<(&'a String, &'a Value)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Misfit;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        self.now = self.rest.next();
        let Some((key, _)) = self.now else { return Ok(None) };
        seed.deserialize(key.as_str().into_deserializer()).map(Some)
    }
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Misfit> {
        let (key, value) = self.now.expect("serde asks for the key first");
        seed.deserialize(In(value)).map_err(|e| e.at(key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Part {
        #[serde(default)]
        count: u32,
        #[serde(default)]
        large: u64,
        #[serde(default)]
        rate: Option<f64>,
        #[serde(default)]
        on: bool,
        #[serde(default)]
        name: String,
        #[serde(default)]
        path: Option<std::path::PathBuf>,
        #[serde(default)]
        sides: [usize; 2],
        #[serde(default)]
        list: Vec<Inner>,
        #[serde(default)]
        way: Way,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        epoch: u32,
        #[serde(default)]
        rates: std::collections::BTreeMap<String, f64>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Way {
        #[default]
        ThereAndBack,
        Round,
    }

    fn read(text: &str) -> Result<Part, Misfit> {
        Part::deserialize(In(&Value::Table(text.parse().unwrap())))
    }

    #[test]
    fn values_that_fit_are_read() {
        let text = "count = 4294967295\nlarge = 9223372036854775807\nrate = 1\non = true\n\
            name = 'x'\npath = 'a/b'\nsides = [1, 2]\nway = 'round'\nother = 1979-05-27\n\
            list = [{ epoch = 3, rates = { a = 0.1 } }]";
        let part = read(text).unwrap();
        assert_eq!((part.count, part.large), (u32::MAX, i64::MAX as u64));
        assert_eq!((part.rate, part.on, part.sides), (Some(1.0), true, [1, 2]));
        assert_eq!((part.name.as_str(), part.path), ("x", Some("a/b".into())));
        assert_eq!((part.list[0].epoch, part.list[0].rates["a"]), (3, 0.1));
        assert_eq!(part.way, Way::Round);
        assert_eq!(read("").unwrap().rate, None);
    }

    #[test]
    fn what_does_not_fit_is_said_with_its_place_and_what_would() {
        for (text, sentence) in [
            ("count = -1", "count = -1: it must be a whole number from 0 up"),
            ("count = 1.5", "count = 1.5: it must be a whole number from 0 up"),
            (
                "count = 4294967296",
                "count = 4294967296: it must be a whole number from 0 up to 4294967295",
            ),
            ("rate = 'x'", "rate = \"x\": it must be a number"),
            ("rate = 1979-05-27", "rate = 1979-05-27: it must be a number"),
            ("on = 1", "on = 1: it must be true or false"),
            ("name = 3", "name = 3: it must be a string"),
            ("path = 3", "path = 3: it must be a string"),
            ("sides = 1", "sides = 1: it must be an array of length 2"),
            ("sides = [1]", "sides = [1]: it must be an array of length 2"),
            ("sides = [1, 2, 3]", "sides = [1, 2, 3]: it must be an array of length 2"),
            ("sides = [1, -2]", "sides[1] = -2: it must be a whole number from 0 up"),
            ("list = 3", "list = 3: it must be an array"),
            ("list = [3]", "list[0] = 3: it must be a table"),
            ("list = [{ rates = {} }]", "list[0]: there is no `epoch`"),
            ("list = [{ epoch = 1, rates = 3 }]", "list[0].rates = 3: it must be a table"),
            (
                "list = [{ epoch = 1 }, { epoch = 2, rates = { a = true } }]",
                "list[1].rates.a = true: it must be a number",
            ),
            ("way = 'out'", "way = \"out\": it must be `there-and-back` or `round`"),
            ("way = 3", "way = 3: it must be `there-and-back` or `round`"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), sentence);
        }
        let lone = Inner::deserialize(In(&Value::Table(toml::Table::new()))).unwrap_err();
        assert_eq!(lone.to_string(), "there is no `epoch`");
        assert_eq!(one_of(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
