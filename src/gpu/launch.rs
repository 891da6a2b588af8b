//! Launches: a kernel with its constants and its grid, known before anything is compiled, and its
//! code once it is loaded.

use super::compile::Constant;
use super::device::Device;
use super::kernels::KernelSource;
use super::stream::{Arguments, Kernel, Stream};
use anyhow::{Context, Result};
use std::sync::OnceLock;

/// A kernel as it is launched again and again: its constants, its grid, and, once loaded, its code.
pub struct Launch {
    /// The file that holds it.
    pub source: KernelSource,
    /// What it is compiled with.
    pub constants: Vec<Constant>,
    /// The kernel's name in its file.
    pub name: &'static str,
    /// Blocks of the grid.
    pub grid: (usize, usize, usize),
    /// Threads of a block.
    pub block: (usize, usize, usize),
    /// Bytes of shared memory besides what the kernel declares.
    pub shared: usize,
    /// Bytes of the GPU's memory that it reads and writes, each buffer once.
    pub moves: usize,
    kernel: OnceLock<Kernel>,
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

    /// Queues the launch with what `arguments` adds, in the kernel's order.
    ///
    /// # Safety
    /// As for [`Arguments::on`].
    pub unsafe fn run<'a>(
        &'a self,
        stream: &Stream,
        arguments: impl FnOnce(Arguments<'a>) -> Arguments<'a>,
    ) -> Result<()> {
        let kernel = self.kernel.get().with_context(|| {
            format!("kernel {} is launched before it is loaded; an error in the program", self.name)
        })?;
        // SAFETY: the caller promises that the arguments are this kernel's and fit its constants;
        // the grid was made with them.
        unsafe {
            arguments(kernel.arguments()).with_shared(self.shared).on(stream, self.grid, self.block)
        }
    }
}
