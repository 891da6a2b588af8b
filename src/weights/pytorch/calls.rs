//! The names that a state dict's pickle speaks of, and what is understood by calling them.

use super::pickle::{Id, Value};
use crate::weights::Kind;
use anyhow::{Context, Result, bail, ensure};

/// What to do about a pickle that is more than tensors.
pub const WAY_OUT: &str =
    "save the weights alone, in PyTorch: torch.save(model.state_dict(), \"weights.pth\")";

/// Bytes of the name of a tensor or a storage.
pub const LONGEST_NAME: usize = 256;

/// Something that a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `collections.OrderedDict`
    OrderedDict,
    /// `torch._utils._rebuild_tensor` and `_rebuild_tensor_v2`
    Tensor,
    /// `torch._utils._rebuild_parameter`
    Parameter,
    /// `torch.Size`
    Size,
    /// `torch.FloatStorage` and its sisters: what the numbers are (None: integers, of which no
    /// weights are), and how many bytes one has.
    Storage(Option<Kind>, usize),
}

impl Function {
    /// That of this module and name.
    ///
    /// # Errors
    /// If it is none of the few.
    pub fn named(module: &str, name: &str) -> Result<Function> {
        let kind = |kind: Kind| Function::Storage(Some(kind), kind.bytes());
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Function::OrderedDict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Function::Tensor,
            ("torch._utils", "_rebuild_parameter") => Function::Parameter,
            ("torch", "Size") => Function::Size,
            ("torch", "FloatStorage") => kind(Kind::F32),
            ("torch", "DoubleStorage") => kind(Kind::F64),
            ("torch", "HalfStorage") => kind(Kind::F16),
            ("torch", "BFloat16Storage") => kind(Kind::BF16),
            ("torch", "LongStorage") => Function::Storage(None, 8),
            ("torch", "IntStorage") => Function::Storage(None, 4),
            ("torch", "ShortStorage") => Function::Storage(None, 2),
            ("torch", "CharStorage" | "ByteStorage" | "BoolStorage") => Function::Storage(None, 1),
            _ => bail!(
                "it would call {}.{}, which no state dict needs, and nothing of a file is carried \
                 out here; {WAY_OUT}",
                short(module),
                short(name)
            ),
        })
    }

    /// As Python calls it.
    pub fn name(self) -> &'static str {
        match self {
            Function::OrderedDict => "OrderedDict",
            Function::Tensor => "_rebuild_tensor",
            Function::Parameter => "_rebuild_parameter",
            Function::Size => "torch.Size",
            Function::Storage(..) => "a storage",
        }
    }
}

/// A name from a file, on one line and not endless.
fn short(name: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    let mut text: String = name.chars().take(80).map(plain).collect();
    if name.chars().nth(80).is_some() {
        text.push('…');
    }
    text
}

/// Numbers outside of the pickle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// What they are; None: integers.
    pub kind: Option<Kind>,
    /// Bytes of one.
    pub size: usize,
    /// What they are called in the file.
    pub key: String,
    /// How many there are.
    pub count: usize,
    /// The first of them within the storage of that name, which old files share among several.
    pub first: usize,
}

/// A tensor: a view on numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Where its numbers are.
    pub storage: Storage,
    /// The first one.
    pub first: usize,
    /// Its sizes.
    pub shape: Vec<usize>,
    /// Numbers from one index to the next.
    pub steps: Vec<isize>,
}

/// What a call gives.
pub enum Made {
    /// Something new.
    New(Value),
    /// One of its arguments.
    Same(Id),
}

/// What a persistent id stands for: `('storage', kind, key, place, count[, view])`.
///
/// # Errors
/// If it is of another form.
pub fn storage(values: &[Value], id: Id) -> Result<Storage> {
    let Value::List(parts) = &values[id as usize] else { bail!("a storage has no description") };
    let part = |at: usize| parts.get(at).map(|&id| &values[id as usize]);
    match (part(0), part(1), part(2), part(4)) {
        (
            Some(Value::Text(what)),
            Some(&Value::Function(Function::Storage(kind, size))),
            Some(Value::Text(key)),
            Some(&Value::Int(count)),
        ) if what == "storage" => {
            let count = usize::try_from(count).context("a storage has less than no numbers")?;
            ensure!(key.len() <= LONGEST_NAME, "a storage has a name of {} bytes", key.len());
            let (key, first, count) = match part(5) {
                Some(Value::List(view)) => {
                    let number = |at: usize| view.get(at).map(|&id| &values[id as usize]);
                    let (Some(&Value::Int(first)), Some(&Value::Int(count))) =
                        (number(1), number(2))
                    else {
                        bail!("a part of a storage has no place");
                    };
                    (key, usize::try_from(first)?, usize::try_from(count)?)
                }
                _ => (key, 0, count),
            };
            Ok(Storage { kind, size, key: key.clone(), count, first })
        }
        _ => bail!("a storage is described in another way than PyTorch's"),
    }
}

/// What `function` of `arguments` is.
///
/// # Errors
/// If the arguments are none of its own.
pub fn call(values: &[Value], function: Function, arguments: &[Id]) -> Result<Made> {
    let argument = |at: usize| -> Result<&Value> {
        let id = arguments.get(at);
        let id = id.with_context(|| format!("{} has too few arguments", function.name()))?;
        Ok(&values[*id as usize])
    };
    match function {
        Function::OrderedDict if arguments.is_empty() => Ok(Made::New(Value::Dict(Vec::new()))),
        Function::OrderedDict => match argument(0)? {
            Value::List(items) => Ok(Made::New(Value::Dict(items_of(values, items)?))),
            _ => bail!("an OrderedDict is made of what is no list"),
        },
        Function::Size => match argument(0)? {
            Value::List(_) => Ok(Made::Same(arguments[0])),
            _ => bail!("a torch.Size is made of what is no list"),
        },
        Function::Parameter => match argument(0)? {
            Value::Tensor(_) => Ok(Made::Same(arguments[0])),
            _ => bail!("a parameter is made of what is no tensor"),
        },
        Function::Tensor => {
            let (Value::Storage(storage), &Value::Int(first)) = (argument(0)?, argument(1)?) else {
                bail!("a tensor is made of what is no storage");
            };
            let shape = integers(values, argument(2)?)?;
            let steps = integers(values, argument(3)?)?;
            let shape: Result<Vec<usize>, _> = shape.into_iter().map(usize::try_from).collect();
            let steps: Result<Vec<isize>, _> = steps.into_iter().map(isize::try_from).collect();
            Ok(Made::New(Value::Tensor(View {
                storage: storage.clone(),
                first: usize::try_from(first).context("a tensor begins before its storage")?,
                shape: shape.context("a tensor has a size below 0")?,
                steps: steps.context("a tensor has a step that is beyond counting")?,
            })))
        }
        Function::Storage(..) => bail!("it makes a storage of its own, which no state dict does"),
    }
}

/// The pairs that `items` are.
fn items_of(values: &[Value], items: &[Id]) -> Result<Vec<(Id, Id)>> {
    let pair = |&id: &Id| match &values[id as usize] {
        Value::List(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
        _ => bail!("an OrderedDict is made of what are no pairs"),
    };
    items.iter().map(pair).collect()
}

fn integers(values: &[Value], list: &Value) -> Result<Vec<i64>> {
    let Value::List(ids) = list else { bail!("a tensor's shape is no list") };
    ensure!(ids.len() <= 16, "a tensor has {} dimensions", ids.len());
    let integer = |&id: &Id| match values[id as usize] {
        Value::Int(integer) => Ok(integer),
        _ => bail!("a tensor's shape has what is no integer"),
    };
    ids.iter().map(integer).collect()
}
