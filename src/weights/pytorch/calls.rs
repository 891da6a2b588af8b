//! What is understood by the calls of a state dict's pickle: nothing is called.

use super::values::{Function, Id, LONGEST_NAME, Storage, Value, View};
use anyhow::{Context, Result, bail, ensure};

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
