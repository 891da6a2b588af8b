//! Memory that kernels and copies use: buffers on a GPU, and pinned memory on the host.
//!
//! A buffer is one allocation, taken once and kept; the driver's allocator costs milliseconds.

use super::driver_error;
use anyhow::Result;
use cudarc::driver::{CudaContext, DeviceRepr, result, sys};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// `len` values of `T` in a GPU's memory. What they are is undefined until something writes them.
pub struct Buffer<T> {
    pointer: sys::CUdeviceptr,
    len: usize,
    context: Arc<CudaContext>,
    of: PhantomData<fn() -> T>,
}

impl<T: DeviceRepr> Buffer<T> {
    /// Takes memory; a `len` of 0 takes room for one value, since the driver refuses 0 bytes.
    pub(super) fn new(context: &Arc<CudaContext>, len: usize) -> Result<Buffer<T>> {
        let bytes = len.max(1) * size_of::<T>();
        let take = || {
            context.bind_to_thread()?;
            // SAFETY: the pointer is freed once, in `drop`.
            unsafe { result::malloc_sync(bytes) }
        };
        let pointer = take().map_err(|e| {
            driver_error(e, &format!("taking {bytes} bytes of memory on GPU {}", context.ordinal()))
        })?;
        Ok(Buffer { pointer, len, context: context.clone(), of: PhantomData })
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
        self.context.ordinal()
    }

    /// Address of the first value on the GPU.
    pub fn pointer(&self) -> sys::CUdeviceptr {
        self.pointer
    }

    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // After an error of the GPU nothing can be given back; the process is about to end.
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated in `new`; the driver waits for work that uses it.
            let _ = unsafe { result::free_sync(self.pointer) };
        }
    }
}

/// Host memory that a GPU reads and writes directly, so that copies run beside other work.
pub struct Pinned<T> {
    pointer: *mut T,
    len: usize,
    context: Arc<CudaContext>,
}

// SAFETY: it is plain memory, owned like a Vec.
unsafe impl<T: Send> Send for Pinned<T> {}
unsafe impl<T: Sync> Sync for Pinned<T> {}

impl<T: DeviceRepr + Copy + Default> Pinned<T> {
    /// Takes memory for `len` values, all default.
    pub(super) fn new(context: &Arc<CudaContext>, len: usize) -> Result<Pinned<T>> {
        let bytes = len.max(1) * size_of::<T>();
        let take = || {
            context.bind_to_thread()?;
            // SAFETY: freed once, in `drop`. Portable: any GPU may use it.
            unsafe { result::malloc_host(bytes, sys::CU_MEMHOSTALLOC_PORTABLE) }
        };
        let pointer = take()
            .map_err(|e| driver_error(e, &format!("taking {bytes} bytes of pinned host memory")))?
            .cast::<T>();
        for i in 0..len {
            // SAFETY: within the allocation, which is aligned for any value.
            unsafe { pointer.add(i).write(T::default()) };
        }
        Ok(Pinned { pointer, len, context: context.clone() })
    }
}

impl<T> Deref for Pinned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` values, written in `new`.
        unsafe { std::slice::from_raw_parts(self.pointer, self.len) }
    }
}

impl<T> DerefMut for Pinned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.len) }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated in `new`.
            let _ = unsafe { result::free_host(self.pointer.cast()) };
        }
    }
}
