//! Python's pickles, the few instructions of them that describe tensors: a machine with a stack and
//! a memo that makes plain values of them and calls nothing. What a pickle would have called is a
//! name, and a name that is not in [`Function`] ends the reading.
//!
//! Values lie in one list and name each other by their place in it, so that neither a value that
//! holds itself nor one that is a million deep takes a stack to walk or to drop.

use super::calls;
use super::values::{Function, Id, Value, WAY_OUT};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;

/// A larger pickle describes no state dict: one of PyTorch's AlexNet has a kilobyte.
pub const MOST_BYTES: usize = 16 << 20;
/// Values of one pickle.
const MOST_VALUES: usize = 1 << 18;
/// Bytes of a text: names of parameters and keys.
const LONGEST_TEXT: usize = 1 << 16;

/// What a pickle has made.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    /// What it ended with.
    pub root: Id,
    /// Bytes it took.
    pub length: usize,
}

impl Pickle {
    /// The value at `id`.
    pub fn get(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    /// All values, of whatever use.
    pub fn all(&self) -> impl Iterator<Item = &Value> {
        self.values.iter()
    }

    /// The text at `id`, if it is one.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads the pickle that `bytes` begin with.
///
/// # Errors
/// A sentence: it is damaged, too large, or would call what is none of PyTorch's few functions.
pub fn read(bytes: &[u8]) -> Result<Pickle> {
    let cut = bytes.len() > MOST_BYTES;
    let bytes = &bytes[..bytes.len().min(MOST_BYTES)];
    let mut machine = Machine { bytes, ..Machine::default() };
    loop {
        let at = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => {
                return Ok(Pickle { values: machine.values, root, length: machine.at });
            }
            Err(error) if cut && machine.at >= MOST_BYTES - 8 => {
                return Err(error.context("its pickle has more than the 16 MiB read"));
            }
            Err(error) => return Err(error.context(format!("byte {at} of its pickle"))),
        }
    }
}

/// The machine between two instructions.
#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    /// What the next instruction works on; None is a mark.
    stack: Vec<Option<Id>>,
    memo: HashMap<u32, Id>,
    /// Entries of dictionaries that were made of lists, of which a file could have any number made.
    copied: usize,
}

impl Machine<'_> {
    /// Carries out one instruction; Some: it was the last, and this is what the pickle is.
    fn step(&mut self) -> Result<Option<Id>> {
        let code = self.byte()?;
        match code {
            0x80 => {
                let protocol = self.byte()?;
                ensure!((2..=5).contains(&protocol), "pickles of protocol {protocol} are not read");
            }
            // A frame's length says nothing that its end does not.
            0x95 => _ = self.take(8)?,
            b'(' => self.stack.push(None),
            b'.' => return Ok(Some(self.pop()?)),
            b'0' => _ = self.stack.pop().context("nothing is on its stack")?,
            b'1' => _ = self.above_mark()?,
            b'N' => self.push(Value::Nothing)?,
            0x88 | 0x89 => self.push(Value::Bool(code == 0x88))?,
            b'G' => {
                self.take(8)?;
                self.push(Value::Nothing)?;
            }
            b'J' | b'K' | b'M' | 0x8a => {
                let number = self.number(code)?;
                self.push(number)?;
            }
            b'X' | b'U' | b'T' | 0x8c | 0x8d => {
                let text = self.text(code)?;
                self.push(Value::Text(text))?;
            }
            b'q' | b'r' | 0x94 => self.memorise(code)?,
            b'h' | b'j' => {
                let key = if code == b'h' { self.byte()?.into() } else { self.u32()? };
                let value = self.memo.get(&key).copied();
                self.stack.push(Some(value.with_context(|| format!("memo {key} is empty"))?));
                ensure!(self.stack.len() <= MOST_VALUES, "its stack is too high");
            }
            b']' | b')' => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b't' | b'l' | b'd' | 0x85..=0x87 => self.gather(code)?,
            b'a' | b'e' => self.append(code)?,
            b's' | b'u' => self.set(code)?,
            b'c' | 0x93 => self.global(code)?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            b'Q' => {
                let name = self.pop()?;
                let storage = calls::storage(&self.values, name)?;
                self.push(Value::Storage(storage))?;
            }
            // What makes objects of classes: INST, OBJ, NEWOBJ, NEWOBJ_EX and extension codes.
            b'i' | b'o' | 0x81 | 0x92 | 0x82..=0x84 => {
                bail!("it makes an object of a class, which is not done here: {}", WAY_OUT)
            }
            other => bail!(
                "the instruction {other:#04x} is none of those that a state dict needs; {}",
                WAY_OUT
            ),
        }
        Ok(None)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(*self.take(4)?.first_chunk().expect("four bytes")))
    }

    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let from = self.at;
        self.at = end.unwrap_or(self.bytes.len());
        end.map(|end| &self.bytes[from..end]).context("it is cut short")
    }

    fn push(&mut self, value: Value) -> Result<()> {
        ensure!(
            self.values.len() < MOST_VALUES && self.stack.len() <= MOST_VALUES,
            "it has more than the {MOST_VALUES} values read"
        );
        self.values.push(value);
        self.stack.push(Some(self.values.len() as Id - 1));
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        self.stack.pop().flatten().context("nothing is on its stack")
    }

    /// The values above the last mark, which go with it.
    fn above_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.stack.iter().rposition(Option::is_none).context("it sets no mark")?;
        let above = self.stack.drain(mark..).flatten().collect();
        Ok(above)
    }

    /// The value on top, to be changed.
    fn top(&mut self) -> Result<&mut Value> {
        let top = self.stack.last().copied().flatten().context("nothing is on its stack")?;
        Ok(&mut self.values[top as usize])
    }

    fn number(&mut self, code: u8) -> Result<Value> {
        Ok(match code {
            b'J' => Value::Int(i64::from(self.u32()? as i32)),
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => {
                Value::Int(u16::from_le_bytes(*self.take(2)?.first_chunk().expect("two")).into())
            }
            _ => {
                let length = self.byte()?.into();
                let bytes = self.take(length)?;
                let fill = if bytes.last().is_some_and(|b| b >> 7 == 1) { 0xff } else { 0 };
                match bytes.len() {
                    0..=8 => {
                        let mut whole = [fill; 8];
                        whole[..bytes.len()].copy_from_slice(bytes);
                        Value::Int(i64::from_le_bytes(whole))
                    }
                    _ => Value::Long(bytes.to_vec()),
                }
            }
        })
    }

    fn text(&mut self, code: u8) -> Result<String> {
        let length = match code {
            b'U' | 0x8c => self.byte()?.into(),
            0x8d => u64::from_le_bytes(*self.take(8)?.first_chunk().expect("eight bytes")),
            _ => self.u32()?.into(),
        };
        ensure!(length <= LONGEST_TEXT as u64, "it has a text of {length} bytes");
        let bytes = self.take(length as usize)?;
        Ok(std::str::from_utf8(bytes).context("it has a text that is no UTF-8")?.to_string())
    }

    fn memorise(&mut self, code: u8) -> Result<()> {
        let key = match code {
            b'q' => self.byte()?.into(),
            b'r' => self.u32()?,
            _ => self.memo.len() as u32,
        };
        let top = self.stack.last().copied().flatten().context("nothing is on its stack")?;
        self.memo.insert(key, top);
        Ok(())
    }

    /// Tuples, lists and dictionaries of what is on the stack.
    fn gather(&mut self, code: u8) -> Result<()> {
        let items = match code {
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
                items.reverse();
                items
            }
            _ => self.above_mark()?,
        };
        let value = if code == b'd' { Value::Dict(pairs(items)?) } else { Value::List(items) };
        self.push(value)
    }

    fn append(&mut self, code: u8) -> Result<()> {
        let items = if code == b'a' { vec![self.pop()?] } else { self.above_mark()? };
        match self.top()? {
            Value::List(list) => list.extend(items),
            _ => bail!("it appends to what is no list"),
        }
        Ok(())
    }

    fn set(&mut self, code: u8) -> Result<()> {
        let items = match code {
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.above_mark()?,
        };
        let items = pairs(items)?;
        match self.top()? {
            Value::Dict(dict) => dict.extend(items),
            _ => bail!("it sets keys of what is no dictionary"),
        }
        Ok(())
    }

    /// A name of a module: of the few that are known, or a sentence.
    fn global(&mut self, code: u8) -> Result<()> {
        let (module, name) = if code == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            let text = |id: Id| match &self.values[id as usize] {
                Value::Text(text) => Ok(text.clone()),
                _ => Err(anyhow::anyhow!("it looks up what is no name")),
            };
            (text(module)?, text(name)?)
        };
        self.push(Value::Function(Function::named(&module, &name)?))
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(LONGEST_TEXT).position(|&byte| byte == b'\n');
        let line = self.take(end.context("it is cut short")?)?;
        let line = String::from_utf8_lossy(line).into_owned();
        self.at += 1;
        Ok(line)
    }

    fn reduce(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Function(function) = self.values[function as usize] else {
            bail!("it calls what is no function");
        };
        let Value::List(arguments) = &self.values[arguments as usize] else {
            bail!("it calls {} without arguments", function.name());
        };
        if function == Function::OrderedDict
            && let Some(Value::List(items)) = arguments.first().map(|id| &self.values[*id as usize])
        {
            self.copied += items.len();
            ensure!(self.copied <= MOST_VALUES, "it has more than the {MOST_VALUES} values read");
        }
        match calls::call(&self.values, function, arguments)? {
            calls::Made::New(value) => self.push(value)?,
            calls::Made::Same(id) => self.stack.push(Some(id)),
        }
        Ok(())
    }

    /// The attributes of a dictionary (`_metadata` of a state dict) say nothing of its tensors.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        match self.top()? {
            Value::Dict(_) | Value::Tensor(_) => Ok(()),
            _ => bail!("it gives attributes to what is no dictionary"),
        }
    }
}

/// Keys and values in turn.
fn pairs(items: Vec<Id>) -> Result<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    ensure!(rest.is_empty(), "it has a key without a value");
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
