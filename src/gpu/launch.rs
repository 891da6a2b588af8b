//! Launches: a kernel with its constants and its grid, known before anything is compiled, and its
//! code once it is loaded.

use super::compile::Constant;
use super::device::Device;
use super::kernels::KernelSource;
use super::stream::{Argument, Arguments, Kernel, Stream};
use anyhow::{Context, Result, bail};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::OnceLock;

/// A kernel as it is launched again and again: its constants, its grid, and, once loaded, its code.
pub struct Launch {
    /// The file that holds it.
    pub source: KernelSource,
    /// What it is compiled with.
    pub constants: Vec<Constant>,
    /// The kernel's name in its file.
    pub name: &'static str,
    /// Blocks of the grid, of one tower.
    pub grid: (usize, usize, usize),
    /// Threads of a block.
    pub block: (usize, usize, usize),
    /// Bytes of shared memory besides what the kernel declares.
    pub shared: usize,
    /// Bytes of the GPU's memory that it reads and writes, each buffer once, of one tower.
    pub moves: usize,
    kernel: OnceLock<Kernel>,
}

/// What a kernel is compiled with that works for both towers of a layer in one launch
/// (`kernels/real.cuh`).
pub const BOTH_TOWERS: (&str, usize) = ("TOWERS", 2);

/// Where launches are queued. Of two towers that are worked on together the first one's are kept
/// until the second one's come, in the same order, and go with them.
#[derive(Clone, Copy)]
pub struct Queue<'a> {
    stream: &'a Stream,
    turn: Turn<'a>,
}

#[derive(Clone, Copy)]
enum Turn<'a> {
    Alone,
    First(&'a Kept),
    Second(&'a Kept),
}

/// Launches of a first tower that wait for those of the second.
#[derive(Default)]
pub struct Kept(RefCell<VecDeque<(&'static str, Vec<Argument>)>>);

/// Two towers of which each does something else.
const UNLIKE: &str = "two towers are not alike; this is an error in the program";

impl Kept {
    /// Err: something was kept of the first tower for which nothing of the second has come.
    pub fn end(&self) -> Result<()> {
        if self.0.borrow().is_empty() { Ok(()) } else { bail!(UNLIKE) }
    }
}

impl<'a> Queue<'a> {
    /// Of a tower alone.
    pub fn of(stream: &'a Stream) -> Queue<'a> {
        Queue { stream, turn: Turn::Alone }
    }

    /// Of the first or else the second of two towers.
    pub fn together(stream: &'a Stream, kept: &'a Kept, is_first: bool) -> Queue<'a> {
        Queue { stream, turn: if is_first { Turn::First(kept) } else { Turn::Second(kept) } }
    }
}

impl<'a> From<&'a Stream> for Queue<'a> {
    fn from(stream: &'a Stream) -> Queue<'a> {
        Queue::of(stream)
    }
}

/// Constants from whole numbers.
pub fn constants(pairs: &[(&'static str, usize)]) -> Vec<Constant> {
    pairs.iter().map(|(name, value)| (*name, value.to_string())).collect()
}

impl Launch {
    /// The kernel `name` of `source`, not compiled yet.
    pub fn new(
        source: KernelSource,
        constants: Vec<Constant>,
        name: &'static str,
        grid: (usize, usize, usize),
        block: (usize, usize, usize),
    ) -> Launch {
        let kernel = OnceLock::new();
        Launch { source, constants, name, grid, block, shared: 0, moves: 0, kernel }
    }

    /// The same with so many bytes of shared memory besides what the kernel declares.
    pub fn with_shared(self, shared: usize) -> Launch {
        Launch { shared, ..self }
    }

    /// The same, which reads and writes so many bytes of the GPU's memory.
    pub fn moving(self, moves: usize) -> Launch {
        Launch { moves, ..self }
    }

    /// One thread for each of `count` elements.
    pub fn each(
        source: KernelSource,
        constants: Vec<Constant>,
        name: &'static str,
        count: usize,
    ) -> Launch {
        Launch::new(source, constants, name, (count.div_ceil(256), 1, 1), (256, 1, 1))
    }

    /// Compiles and loads the kernel for `device`.
    pub fn load(&self, device: &Device) -> Result<()> {
        if self.kernel.get().is_none() {
            let kernel = device.kernel(self.source, &self.constants, self.name)?;
            kernel.allow_shared(self.shared)?;
            let _ = self.kernel.set(kernel);
        }
        Ok(())
    }

    /// Whether both are the same kernel on as many blocks.
    pub fn is_like(&self, other: &Launch) -> bool {
        let all = |of: &Launch| (of.name, of.source.name, of.grid, of.block, of.shared);
        all(self) == all(other) && self.constants == other.constants
    }

    /// For how many towers one launch works.
    pub fn towers(&self) -> usize {
        let (name, both) = BOTH_TOWERS;
        if self.constants.iter().any(|(own, _)| *own == name) { both } else { 1 }
    }

    /// Bytes of the GPU's memory that one launch reads and writes, each tower's buffers once.
    pub fn bytes(&self) -> usize {
        self.moves * self.towers()
    }

    /// Queues the launch with what `arguments` adds, in the kernel's order: those of one tower.
    ///
    /// # Safety
    /// As for [`Arguments::on`].
    pub unsafe fn run<'a, 'q>(
        &'a self,
        queue: impl Into<Queue<'q>>,
        arguments: impl FnOnce(Arguments<'a>) -> Arguments<'a>,
    ) -> Result<()> {
        let kernel = self.kernel.get().with_context(|| {
            format!("kernel {} is launched before it is loaded; an error in the program", self.name)
        })?;
        let arguments = arguments(kernel.arguments()).with_shared(self.shared);
        let queue = queue.into();
        let arguments = match queue.turn {
            Turn::Alone => arguments,
            Turn::First(kept) => {
                kept.0.borrow_mut().push_back((self.name, arguments.into_all()));
                return Ok(());
            }
            Turn::Second(kept) => match kept.0.borrow_mut().pop_front() {
                Some((name, first)) if name == self.name => arguments.with_first(&first)?,
                _ => bail!(UNLIKE),
            },
        };
        let towers = if matches!(queue.turn, Turn::Second(_)) { 2 } else { 1 };
        if towers != self.towers() {
            bail!("kernel {} is launched for {towers} towers; an error in the program", self.name);
        }
        let (x, y, z) = self.grid;
        // SAFETY: the caller promises that the arguments are this kernel's and fit its constants;
        // the grid was made with them.
        unsafe { arguments.on(queue.stream, (x * towers, y, z), self.block) }
    }
}
