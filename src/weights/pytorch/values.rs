//! What a pickle may hold: values, and the names that a state dict's pickle speaks of.

use crate::weights::Kind;
use anyhow::{Result, bail};

/// A value's place in the list.
pub type Id = u32;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`, or what says nothing of weights: a float.
    Nothing,
    /// A truth value.
    Bool(bool),
    /// An integer, of those that fit.
    Int(i64),
    /// An integer of many bytes, the lowest first, such as the number that PyTorch's older files
    /// begin with.
    Long(Vec<u8>),
    /// A text.
    Text(String),
    /// A tuple or a list.
    List(Vec<Id>),
    /// A dictionary, in its order.
    Dict(Vec<(Id, Id)>),
    /// Something that could be called.
    Function(Function),
    /// Numbers outside of the pickle.
    Storage(Storage),
    /// A tensor on them.
    Tensor(View),
}

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
