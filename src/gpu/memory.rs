//! Memory that kernels and copies use: buffers on a GPU, and pinned memory on the host.
//!
//! A buffer is one allocation, taken once and kept, or a part of one; the driver's allocator costs
//! milliseconds.

use super::driver_error;
use super::watch::watched;
use anyhow::Result;
use cudarc::driver::{CudaContext, DeviceRepr, result, sys};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// `len` values of `T` in a GPU's memory. What they are is undefined until something writes them.
pub struct Buffer<T> {
    memory: Arc<Memory>,
    pointer: sys::CUdeviceptr,
    len: usize,
    of: PhantomData<fn() -> T>,
}

/// One allocation, given back with the last buffer that lies in it.
struct Memory {
    pointer: sys::CUdeviceptr,
    context: Arc<CudaContext>,
}

impl<T: DeviceRepr> Buffer<T> {
    /// Takes memory; a `len` of 0 takes room for one value, since the driver refuses 0 bytes.
    pub(super) fn new(context: &Arc<CudaContext>, len: usize) -> Result<Buffer<T>> {
        let bytes = len.max(1) * size_of::<T>();
        let take = || {
            context.bind_to_thread()?;
            // SAFETY: at least one value's bytes are asked for; the pointer is given back once, when
            // its `Memory` is dropped.
            unsafe { result::malloc_sync(bytes) }
        };
        let pointer = take().map_err(|e| {
            driver_error(e, &format!("taking {bytes} bytes of memory on GPU {}", context.ordinal()))
        })?;
        let memory = Arc::new(Memory { pointer, context: context.clone() });
        Ok(Buffer { memory, pointer, len, of: PhantomData })
    }

    /// The one with this number of `count` equal portions of it, in the same memory. Panics where
    /// there are not so many.
    pub fn portion(&self, number: usize, count: usize) -> Buffer<T> {
        assert!(number < count, "portion {number} of {count}");
        let len = self.len / count;
        let pointer = self.pointer + (number * len * size_of::<T>()) as u64;
        Buffer { memory: self.memory.clone(), pointer, len, of: PhantomData }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Size of all values in bytes.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    /// Index of the GPU.
    pub fn device(&self) -> usize {
        self.context().ordinal()
    }

    /// Address of the first value on the GPU.
    pub fn pointer(&self) -> sys::CUdeviceptr {
        self.pointer
    }

    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.memory.context
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // After an error of the GPU nothing can be given back; the process is about to end.
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: `Buffer::new` took it in the same context, and nobody else gives it back; the
            // driver waits for work that uses it.
            let free = || unsafe { result::free_sync(self.pointer) };
            let _ = watched(self.context.ordinal(), free);
        }
    }
}

/// What a buffer of so many bytes takes of a GPU's memory: a large one whole pieces of 2 MiB. Small
/// ones share such pieces.
pub fn taken(bytes: usize) -> usize {
    const PIECE: usize = 2 << 20;
    if bytes < PIECE / 2 { bytes } else { bytes.next_multiple_of(PIECE) }
}

/// Host memory that a GPU reads and writes directly, so that copies run beside other work.
pub struct Pinned<T> {
    pointer: *mut T,
    len: usize,
    context: Arc<CudaContext>,
}

// SAFETY: it owns its values as a `Vec` does; any thread may give them back, since `drop` binds the
// context to its own.
unsafe impl<T: Send> Send for Pinned<T> {}
// SAFETY: shared, it hands out shared references to its values and nothing else.
unsafe impl<T: Sync> Sync for Pinned<T> {}

impl<T: DeviceRepr + Copy + Default> Pinned<T> {
    /// Takes memory for `len` values, all default.
    pub(super) fn new(context: &Arc<CudaContext>, len: usize) -> Result<Pinned<T>> {
        let bytes = len.max(1) * size_of::<T>();
        let take = || {
            context.bind_to_thread()?;
            // Portable: any GPU may use it.
            // SAFETY: at least one value's bytes are asked for; the pointer is kept here alone and
            // given back once, in `drop`.
            unsafe { result::malloc_host(bytes, sys::CU_MEMHOSTALLOC_PORTABLE) }
        };
        let pointer = take()
            .map_err(|e| driver_error(e, &format!("taking {bytes} bytes of pinned host memory")))?
            .cast::<T>();
        for i in 0..len {
            // SAFETY: value `i` lies within the allocation, whose pages are aligned for any value.
            unsafe { pointer.add(i).write(T::default()) };
        }
        Ok(Pinned { pointer, len, context: context.clone() })
    }
}

impl<T> Deref for Pinned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `new` took and wrote `len` values, which live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.pointer, self.len) }
    }
}

impl<T> DerefMut for Pinned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: `new` took and wrote `len` values; `self` is borrowed mutably, so nobody else on
        // the host reads them meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.len) }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: `new` took it as pinned memory, and nobody else gives it back.
            let free = || unsafe { result::free_host(self.pointer.cast()) };
            let _ = watched(self.context.ordinal(), free);
        }
    }
}
