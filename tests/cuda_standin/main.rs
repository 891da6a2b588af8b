//! The stand-in for driver and NVRTC catches what it is for (planted faults), and the host layer
//! for GPUs does what it says: streams, links and cache; `missing.rs`: a sentence for everything
//! that can be missing.

mod missing;
#[path = "../standin/mod.rs"]
mod standin;

use alexnet::gpu::compile::{Compiler, Constant};
use alexnet::gpu::device::Device;
use alexnet::gpu::kernels::KernelSource;
use alexnet::gpu::library::driver_version;
use alexnet::gpu::link::Link;
use alexnet::gpu::memory::Buffer;
use anyhow::Result;
use cudarc::driver::sys;
use std::process::Output;
use std::sync::Arc;

fn open(index: usize) -> Result<Device> {
    Device::open(index, Arc::new(Compiler::new(driver_version()?, None)?))
}

fn device(index: usize) -> Device {
    open(index).unwrap()
}

fn read(device: &Device, buffer: &Buffer<f32>) -> Vec<f32> {
    let mut values = vec![0.0; buffer.len()];
    device.compute.read(buffer, &mut values).unwrap();
    values
}

fn count(n: usize) -> Vec<Constant> {
    vec![("COUNT", n.to_string())]
}

/// y = x * factor at COUNT places.
const SCALE: KernelSource = KernelSource {
    name: "scale.cu",
    text: r#"
extern "C" __global__ void scale(const float* x, float factor, float* y) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i < COUNT) y[i] = x[i] * factor;
}"#,
};

/// Queues `y = x * 2` for `n` elements on the compute stream.
fn double(device: &Device, x: &Buffer<f32>, y: &Buffer<f32>, n: usize) -> Result<()> {
    let kernel = device.kernel(SCALE, &count(n), "scale")?;
    // SAFETY: `scale` takes these three; tests that give it less memory than `n` elements want to
    // see what the stand-in makes of that, in a process of their own.
    unsafe { kernel.arguments().buffer(x).float(2.0).buffer(y).on_each(&device.compute, n) }
}

/// Launches the only kernel, `run(float* out)`, of a source with one block of 64 threads.
fn run_source(device: &Device, text: &'static str, out: &Buffer<f32>) -> Result<()> {
    let kernel = device.kernel(KernelSource { name: "test.cu", text }, &[], "run")?;
    // SAFETY: the tests' kernels touch the first 64 floats of `out`, and all tests give them as
    // many.
    unsafe { kernel.arguments().buffer(out).on(&device.compute, (1, 1, 1), (64, 1, 1))? };
    device.wait()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

// ---- planted faults ---------------------------------------------------------------------------

/// Reverses 64 floats through shared memory.
const REVERSE: &str = r#"
extern "C" __global__ void run(float* out) {
    __shared__ float shared[64];
    shared[threadIdx.x] = out[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = shared[63 - threadIdx.x];
}"#;

fn reversed(device: &Device) -> bool {
    let values: Vec<f32> = (0..64).map(|i| i as f32).collect();
    let out = device.buffer_of(&values).unwrap();
    run_source(device, REVERSE, &out).unwrap();
    read(device, &out) == values.into_iter().rev().collect::<Vec<_>>()
}

#[test]
fn a_barrier_makes_it_right_in_any_order() {
    for order in ["forward", "reverse", "random"] {
        let switches = [("STANDIN_ORDER", order)];
        standin::run("a_barrier_makes_it_right_in_any_order", &switches, || {
            assert!(reversed(&device(0)));
        });
    }
}

#[test]
fn a_removed_barrier_shows() {
    for order in ["forward", "reverse", "random"] {
        let switches = [("STANDIN_ORDER", order), ("STANDIN_CXXFLAGS", " -DSTANDIN_DROP_BARRIERS")];
        standin::run("a_removed_barrier_shows", &switches, || assert!(!reversed(&device(0))));
    }
}

#[test]
fn a_barrier_that_some_threads_miss_ends_the_kernel() {
    let output = standin::outcome("a_barrier_that_some_threads_miss_ends_the_kernel", &[], || {
        let device = device(0);
        let out = device.buffer::<f32>(64).unwrap();
        let source = r#"extern "C" __global__ void run(float* out) {
            if (threadIdx.x < 40) __syncthreads();
            out[threadIdx.x] = 1.f;
        }"#;
        let error = run_source(&device, source, &out).unwrap_err().to_string();
        assert!(error.contains("a kernel failed on the GPU"), "{error}");
    });
    let Some(output) = output else { return };
    assert!(output.status.success(), "{}", errors(&output));
    assert!(errors(&output).contains("not reached by all threads: 40 of 64 wait"));
}

#[test]
fn a_shuffle_that_some_lanes_miss_ends_the_kernel() {
    standin::only("a_shuffle_that_some_lanes_miss_ends_the_kernel", &[], || {
        let device = device(0);
        let out = device.buffer::<f32>(64).unwrap();
        let source = r#"extern "C" __global__ void run(float* out) {
            float v = threadIdx.x;
            if (threadIdx.x % 2) v = __shfl_xor_sync(0xffffffffu, v, 1);
            out[threadIdx.x] = v;
        }"#;
        assert!(run_source(&device, source, &out).is_err());
    });
}

#[test]
fn shuffles_give_what_they_should() {
    standin::run("shuffles_give_what_they_should", &[("STANDIN_ORDER", "random")], || {
        let device = device(0);
        let out = device.buffer::<f32>(64).unwrap();
        let source = r#"extern "C" __global__ void run(float* out) {
            float sum = threadIdx.x;
            for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
            out[threadIdx.x] = sum + __shfl_sync(0xffffffffu, float(threadIdx.x), 3) * 1000.f;
        }"#;
        run_source(&device, source, &out).unwrap();
        // 0 + ... + 31 = 496 and 32 + ... + 63 = 1520; lane 3 holds 3 and 35.
        let want = [vec![3496.0; 32], vec![36520.0; 32]].concat();
        assert_eq!(read(&device, &out), want);
    });
}

#[test]
fn a_write_behind_the_end_is_reported() {
    let output = standin::outcome("a_write_behind_the_end_is_reported", &[], || {
        let device = device(0);
        let x = device.buffer_of(&[1f32; 68]).unwrap();
        let y = device.buffer::<f32>(64).unwrap();
        double(&device, &x, &y, 68).unwrap();
        let error = device.wait().unwrap_err().to_string();
        assert!(error.contains("GPU 0") && error.contains("ILLEGAL_ADDRESS"), "{error}");
    });
    let Some(output) = output else { return };
    assert!(output.status.success(), "{}", errors(&output));
    let place =
        "kernel scale, block (0, 0, 0), thread (64, 0, 0): an access 0 bytes behind the end";
    assert!(errors(&output).contains(place), "{}", errors(&output));
}

/// Between the end and the guard page lie up to 15 bytes; what is written there is seen when the
/// buffer is given back.
#[test]
fn a_write_just_behind_an_odd_end_is_reported() {
    let output = standin::outcome("a_write_just_behind_an_odd_end_is_reported", &[], || {
        let device = device(0);
        let x = device.buffer_of(&[1f32; 64]).unwrap();
        let y = device.buffer::<f32>(63).unwrap();
        double(&device, &x, &y, 64).unwrap();
        device.wait().unwrap();
    });
    let Some(output) = output else { return };
    assert!(errors(&output).contains("something wrote behind a buffer of 252 bytes"));
}

#[test]
fn memory_that_nobody_wrote_is_not_a_number() {
    standin::only("memory_that_nobody_wrote_is_not_a_number", &[], || {
        let device = device(0);
        let [x, y] = [(); 2].map(|()| device.buffer::<f32>(10).unwrap());
        double(&device, &x, &y, 10).unwrap();
        assert!(read(&device, &y).iter().all(|v| v.is_nan()));
    });
}

#[test]
fn a_pointer_of_the_other_gpu_is_reported() {
    let output = standin::outcome("a_pointer_of_the_other_gpu_is_reported", &[], || {
        let (first, second) = (device(0), device(1));
        let x = second.buffer_of(&[1f32; 10]).unwrap();
        let y = first.buffer::<f32>(10).unwrap();
        double(&first, &x, &y, 10).unwrap();
        assert!(first.wait().is_err());
    });
    let Some(output) = output else { return };
    assert!(output.status.success(), "{}", errors(&output));
    assert!(errors(&output).contains("a pointer of device 1 is used on device 0"));
}

/// Uploads on one stream, computes on another; `wait` puts the event between them.
fn upload_and_double(wait: bool) -> Vec<f32> {
    let device = device(0);
    let [x, y] = [(); 2].map(|()| device.buffer::<f32>(4).unwrap());
    let mut host = device.pinned::<f32>(4).unwrap();
    host.copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
    let uploaded = device.event(false).unwrap();
    // SAFETY: `host` lives until the function ends; where nothing has waited for the copy before,
    // the stand-in does all that is queued before it gives pinned memory back.
    unsafe { device.upload.write_later(&host, &x).unwrap() };
    device.upload.record(&uploaded).unwrap();
    if wait {
        device.compute.wait_for(&uploaded).unwrap();
    }
    double(&device, &x, &y, 4).unwrap();
    read(&device, &y)
}

#[test]
fn a_missing_wait_between_streams_shows() {
    standin::only("a_missing_wait_between_streams_shows", &[], || {
        assert!(upload_and_double(false).iter().all(|v| v.is_nan()));
        assert_eq!(upload_and_double(true), [2.0, 4.0, 6.0, 8.0]);
    });
}

#[test]
fn dropped_waits_can_be_planted() {
    standin::run("dropped_waits_can_be_planted", &[("STANDIN_DROP_WAITS", "1")], || {
        assert!(upload_and_double(true).iter().all(|v| v.is_nan()));
    });
}

// ---- links between GPUs -----------------------------------------------------------------------

/// Two copies of `len` floats through one link into two buffers, the source changed in between.
fn through_a_link(direct: bool, len: usize) {
    let (first, second) = (Arc::new(device(0)), Arc::new(device(standin::gpu(1))));
    let link = Link::open(&first, &second, 4 * len).unwrap();
    assert_eq!(link.is_direct(), direct);
    let before = (!standin::on_gpu()).then(standin::counters);
    let x = first.buffer_of(&vec![1f32; len]).unwrap();
    let [a, b] = [(); 2].map(|()| second.buffer::<f32>(len).unwrap());
    let (written, copied) = (first.event(false).unwrap(), link.event().unwrap());
    for target in [&a, &b] {
        double(&first, &x, &x, len).unwrap();
        first.compute.record(&written).unwrap();
        link.copy(&x, target, &[&written], &copied).unwrap();
        first.compute.wait_for(&copied).unwrap(); // the next doubling writes what is being copied
        second.compute.wait_for(&copied).unwrap();
    }
    for (buffer, value) in [(&a, 2f32), (&b, 4.0)] {
        assert!(read(&second, buffer).iter().all(|v| *v == value));
    }
    if let Some(before) = before {
        let after = standin::counters();
        let copies = after.peer_copies - before.peer_copies;
        assert_eq!(copies, if direct { 2 } else { 0 });
        assert_eq!(after.peer_bytes - before.peer_bytes, copies * 4 * len as u64);
    }
    // One GPU that plays both parts has no wrong way.
    let wrong_way = first.index == second.index || link.copy(&a, &x, &[], &copied).is_err();
    assert!(wrong_way, "the wrong way round");
}

#[test]
fn copies_between_gpus_go_directly() {
    standin::run("copies_between_gpus_go_directly", &[], || through_a_link(true, 1000));
}

#[test]
fn copies_between_gpus_go_through_the_host_where_peer_access_is_refused() {
    let test = "copies_between_gpus_go_through_the_host_where_peer_access_is_refused";
    // The second one in pieces, the last of them a short one.
    standin::run(test, &[("STANDIN_PEER", "0")], || {
        through_a_link(false, 1000);
        through_a_link(false, 300_001);
    });
}

/// What drivers have answered: 2 out of memory, 205 mapping failed, 304 an error of the operating
/// system.
#[test]
fn an_error_on_the_way_to_peer_access_leads_through_the_host() {
    for (switch, code) in [("QUERY", "205"), ("ENABLE", "2"), ("ENABLE", "205"), ("ENABLE", "304")]
    {
        let switch = format!("STANDIN_PEER_{switch}");
        let test = "an_error_on_the_way_to_peer_access_leads_through_the_host";
        standin::run(test, &[(&switch, code)], || through_a_link(false, 1000));
    }
}

// ---- the compiler -----------------------------------------------------------------------------

#[test]
fn compiled_kernels_are_kept_and_checked() {
    standin::run("compiled_kernels_are_kept_and_checked", &[], || {
        let folder = tempfile::tempdir().unwrap();
        let compiler = || Compiler::new(12090, Some(folder.path().join("kernels"))).unwrap();
        let code = |compiler: &Compiler, n| compiler.code(SCALE, &count(n), (8, 0)).unwrap();
        let first = compiler();
        let original = code(&first, 10);
        assert_eq!(first.compiled(), 1);
        let second = compiler();
        assert_eq!(code(&second, 10), original);
        assert_eq!(second.compiled(), 0);
        code(&second, 11);
        second.code(SCALE, &count(10), (9, 0)).unwrap();
        assert_eq!(second.compiled(), 2, "another constant, another architecture");
        // A file that does not hold its key is compiled anew.
        for file in std::fs::read_dir(folder.path().join("kernels")).unwrap() {
            std::fs::write(file.unwrap().path(), "half a file").unwrap();
        }
        let third = compiler();
        assert_eq!(code(&third, 10), original);
        assert_eq!(third.compiled(), 1);
    });
}

#[test]
fn an_error_in_a_kernel_names_file_and_line() {
    standin::run("an_error_in_a_kernel_names_file_and_line", &[], || {
        let device = device(0);
        let out = device.buffer::<f32>(64).unwrap();
        let source = "extern \"C\" __global__ void run(float* out) {\n    out[0] = nothing;\n}";
        let error = format!("{:#}", run_source(&device, source, &out).unwrap_err());
        assert!(error.contains("does not compile kernels/test.cu"), "{error}");
        assert!(error.contains("test.cu(2): error") && error.contains("nothing"), "{error}");
    });
}

#[test]
fn a_gpu_newer_than_nvrtc_gets_ptx() {
    standin::run("a_gpu_newer_than_nvrtc_gets_ptx", &[("STANDIN_CAPABILITY", "12.0")], || {
        assert!(reversed(&device(0)));
    });
}

// ---- what can be missing ----------------------------------------------------------------------

fn sentence<T>(result: Result<T>) -> String {
    format!("{:#}", result.err().expect("an error"))
}

#[test]
fn a_launch_that_fails() {
    standin::run("a_launch_that_fails", &[("STANDIN_FAIL_LAUNCH", "scale")], || {
        let device = device(0);
        let x = device.buffer_of(&[1f32; 4]).unwrap();
        let text = sentence(double(&device, &x, &x, 4));
        assert!(text.contains("kernel scale") && text.contains("LAUNCH_FAILED"), "{text}");
    });
}

#[test]
fn the_host_sleeps_while_it_waits() {
    standin::run("the_host_sleeps_while_it_waits", &[], || {
        let _device = device(0);
        let mut flags = 0;
        // SAFETY: the device's context is this thread's, and the driver writes one number.
        unsafe { sys::cuCtxGetFlags(&mut flags) }.result().unwrap();
        assert_eq!(flags & 7, sys::CUctx_flags_enum::CU_CTX_SCHED_BLOCKING_SYNC as u32);
    });
}

#[test]
fn events_tell_time() {
    standin::run("events_tell_time", &[], || {
        let device = device(0);
        let x = device.buffer_of(&[1f32; 4]).unwrap();
        let [begin, end] = [(); 2].map(|()| device.event(true).unwrap());
        device.compute.record(&begin).unwrap();
        double(&device, &x, &x, 4).unwrap();
        device.compute.record(&end).unwrap();
        assert!(begin.milliseconds_until(&end).unwrap() >= 0.0);
    });
}
