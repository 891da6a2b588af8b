//! What a driver refuses, called as a program would: access to another device's memory, objects of
//! other contexts, launches beyond their bounds, memory by the piece.

use super::{device, kernel, planted};
use crate::standin;
use alexnet::gpu::device::Device;
use cudarc::driver::sys::{self, CUcontext, CUresult};
use std::ptr::null_mut;

const OK: CUresult = CUresult::CUDA_SUCCESS;

/// The primary context of a device, made current.
fn context(index: i32) -> CUcontext {
    let mut context = null_mut();
    // SAFETY: the driver writes one handle, which stays valid: it is never given back.
    unsafe {
        assert_eq!(sys::cuInit(0), OK);
        assert_eq!(sys::cuDevicePrimaryCtxRetain(&mut context, index), OK);
        assert_eq!(sys::cuCtxSetCurrent(context), OK);
    }
    context
}

/// Memory of the current context.
fn memory(bytes: usize) -> sys::CUdeviceptr {
    let mut pointer = 0;
    // SAFETY: the driver writes one address.
    assert_eq!(unsafe { sys::cuMemAlloc_v2(&mut pointer, bytes) }, OK);
    pointer
}

/// A stream and an event of the current context.
fn objects() -> (sys::CUstream, sys::CUevent) {
    let (mut stream, mut event) = (null_mut(), null_mut());
    // SAFETY: the driver writes a handle each.
    unsafe {
        assert_eq!(sys::cuStreamCreate(&mut stream, 1), OK);
        assert_eq!(sys::cuEventCreate(&mut event, 0), OK);
    }
    (stream, event)
}

/// Enabled one way, copies go that way; the fault is to take that for both.
#[test]
fn peer_access_has_a_direction() {
    let words = ["a copy on device 1 needs access to device 0, which is not enabled"];
    planted("driver::peer_access_has_a_direction", &[], &words, |fault| {
        let contexts = [0, 1].map(context);
        // SAFETY: the handles are of this process; the copies lie within their buffers.
        unsafe {
            let here = memory(64); // of device 1, which is current
            let (second, _) = objects();
            assert_eq!(sys::cuCtxSetCurrent(contexts[0]), OK);
            let (there, (first, _)) = (memory(64), objects());
            assert_eq!(sys::cuCtxEnablePeerAccess(contexts[1], 0), OK);
            let again = sys::cuCtxEnablePeerAccess(contexts[1], 0);
            assert_eq!(again, CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
            let own = sys::cuCtxEnablePeerAccess(contexts[0], 0);
            assert_eq!(own, CUresult::CUDA_ERROR_INVALID_CONTEXT);
            let copy =
                |stream| sys::cuMemcpyPeerAsync(here, contexts[1], there, contexts[0], 64, stream);
            assert_eq!(copy(first), OK);
            assert_eq!(sys::cuStreamSynchronize(first), OK);
            assert_eq!(sys::cuCtxSetCurrent(contexts[1]), OK);
            if !fault {
                assert_eq!(sys::cuCtxEnablePeerAccess(contexts[0], 0), OK);
            }
            let want = if fault { CUresult::CUDA_ERROR_PEER_ACCESS_NOT_ENABLED } else { OK };
            assert_eq!(copy(second), want);
            assert_eq!(sys::cuStreamSynchronize(second), OK);
        }
    });
}

/// A kernel may use memory of another device where that is enabled, and only there; it is counted.
#[test]
fn a_kernel_needs_peer_access() {
    let words = ["a pointer of device 1 is used on device 0"];
    planted("driver::a_kernel_needs_peer_access", &[], &words, |fault| {
        let (first, second) = (device(0), device(1));
        let (from, to) = (second.buffer_of(&[1f32; 64]).unwrap(), first.buffer(64).unwrap());
        let (one, other) = if fault { (1, 0) } else { (0, 1) };
        let (_, contexts) = (context(0), [context(0), context(1)]);
        // SAFETY: both are contexts of this process.
        unsafe {
            assert_eq!(sys::cuCtxSetCurrent(contexts[one]), OK);
            assert_eq!(sys::cuCtxEnablePeerAccess(contexts[other], 0), OK);
        }
        let add = kernel(&first, "add_one");
        super::add_one(&first.compute, &add, (&from, &to), (0, 64));
        assert_eq!(first.wait().is_err(), fault);
        if !fault {
            let mut values = [0.0; 64];
            first.compute.read(&to, &mut values).unwrap();
            assert_eq!(values, [2.0; 64]);
            assert_eq!(standin::counters().peer_touched, 1);
        }
    });
}

#[test]
fn an_event_belongs_to_a_context() {
    let words = ["an event is recorded that is gone or of another context"];
    planted("driver::an_event_belongs_to_a_context", &[], &words, |fault| {
        context(0);
        let (stream, event) = objects();
        context(1);
        let (other, of_other) = objects();
        let recorded = if fault { of_other } else { event };
        let want = if fault { CUresult::CUDA_ERROR_INVALID_HANDLE } else { OK };
        // SAFETY: the handles are of this process, and the milliseconds are written to where the
        // driver is told.
        unsafe {
            assert_eq!(sys::cuEventRecord(recorded, stream), want);
            // Waiting is not bound to a context.
            assert_eq!(sys::cuStreamWaitEvent(other, event, 0), OK);
            assert_eq!(sys::cuEventRecord(of_other, other), OK);
            assert_eq!(sys::cuStreamSynchronize(other), OK);
            let (mut time, invalid) = (0.0, CUresult::CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuEventElapsedTime(&mut time, event, of_other), invalid);
        }
    });
}

#[test]
fn an_event_that_is_gone() {
    let words = ["a stream that is gone waits, or for an event that is"];
    planted("driver::an_event_that_is_gone", &[], &words, |fault| {
        context(0);
        let (stream, event) = objects();
        let want = if fault { CUresult::CUDA_ERROR_INVALID_HANDLE } else { OK };
        // SAFETY: the stand-in keeps what is destroyed, so that its use can be seen.
        unsafe {
            assert_eq!(sys::cuEventRecord(event, stream), OK);
            if fault {
                assert_eq!(sys::cuEventDestroy_v2(event), OK);
            }
            assert_eq!(sys::cuStreamWaitEvent(stream, event, 0), want);
        }
    });
}

/// Launches `name` of `of` on the compute stream of `on`; whether it was taken.
fn launched(of: &Device, on: &Device, name: &str, threads: usize, shared: usize) -> bool {
    let out = of.buffer::<f32>(256).unwrap();
    let kernel = kernel(of, name);
    let arguments = kernel.arguments().buffer(&out).word(0).with_shared(shared);
    // SAFETY: the kernels take a buffer of 256 floats and a number; no launch has more threads.
    let taken = unsafe { arguments.on(&on.compute, (1, 1, 1), (threads, 1, 1)) };
    let done = of.wait();
    taken.is_ok() && done.is_ok()
}

#[test]
fn a_kernel_belongs_to_a_context() {
    let words = ["a kernel is launched on a stream of another context"];
    planted("driver::a_kernel_belongs_to_a_context", &[], &words, |fault| {
        let (first, second) = (device(0), device(1));
        let on = if fault { &second } else { &first };
        assert_eq!(launched(&first, on, "bounded", 64, 0), !fault);
    });
}

#[test]
fn launch_bounds_hold() {
    let words =
        ["kernel bounded is launched with 65 threads a block, and its launch bounds are 64"];
    planted("driver::launch_bounds_hold", &[], &words, |fault| {
        let first = device(0);
        let threads = if fault { 65 } else { 64 };
        assert_eq!(launched(&first, &first, "bounded", threads, 0), !fault);
    });
}

#[test]
fn much_shared_memory_has_to_be_asked_for() {
    let words = ["asks for 50000 bytes of shared memory, and 49152 are allowed"];
    planted("driver::much_shared_memory_has_to_be_asked_for", &[], &words, |fault| {
        let first = device(0);
        let shared = if fault { 50_000 } else { 48 << 10 };
        assert_eq!(launched(&first, &first, "bounded", 64, shared), !fault);
    });
}

#[test]
fn large_buffers_take_whole_pieces() {
    standin::only("driver::large_buffers_take_whole_pieces", &[], || {
        let device = device(0);
        let free = || device.memory().unwrap().0;
        let (all, piece) = (free(), 2 << 20);
        let small = device.buffer::<u8>(1000).unwrap();
        assert_eq!(all - free(), 1000);
        let large = [piece / 2, piece, piece + 1].map(|bytes| device.buffer::<u8>(bytes).unwrap());
        assert_eq!(all - free(), 1000 + piece + piece + 2 * piece);
        drop((small, large));
        assert_eq!(free(), all);
    });
}
