//! A sentence for everything that a machine may not have: driver, GPU, compiler, memory.

use crate::{REVERSE, device, open, run_source, sentence, standin};
use alexnet::gpu::compile::Compiler;
use alexnet::gpu::device::Device;
use alexnet::gpu::library::{device_count, driver_version};
use std::sync::Arc;

#[test]
fn no_driver() {
    // Without the stand-in; where a driver is installed there is nothing to test.
    let Err(error) = driver_version() else { return };
    let text = error.to_string();
    assert!(text.contains("driver") && text.contains("--device cpu"), "{text}");
}

#[test]
fn no_gpu() {
    standin::run("missing::no_gpu", &[("STANDIN_DEVICES", "0")], || {
        let text = sentence(device_count());
        assert!(text.contains("finds no GPU") && text.contains("--device cpu"), "{text}");
    });
}

#[test]
fn no_such_gpu() {
    standin::run("missing::no_such_gpu", &[], || {
        let count = device_count().unwrap();
        let error = open(count).err().unwrap();
        assert_eq!(alexnet::errors::exit_code(&error), 2);
        let sentence = format!("there is no GPU {count}: this machine has {count}");
        assert!(error.to_string().contains(&sentence), "{error}");
    });
}

#[test]
fn a_gpu_too_old() {
    standin::run("missing::a_gpu_too_old", &[("STANDIN_CAPABILITY", "5.2")], || {
        let device = device(0);
        let out = device.buffer::<f32>(64).unwrap();
        let text = sentence(run_source(&device, REVERSE, &out));
        assert!(text.contains("compute capability 5.2") && text.contains("too old"), "{text}");
    });
}

/// The driver's own version comes first, but not for a GPU that it has left behind.
#[test]
fn of_two_nvrtcs_one_that_knows_the_gpu() {
    for (capability, major) in [("7.0", 12), ("8.0", 13)] {
        let switches = [("STANDIN_CAPABILITY", capability), ("STANDIN_DRIVER", "13000")];
        let name = "missing::of_two_nvrtcs_one_that_knows_the_gpu";
        let output = standin::outcome(name, &switches, || {
            let compiler = Compiler::new(driver_version().unwrap(), None).unwrap();
            let file = compiler.path().unwrap();
            println!("version {} of {}.", compiler.version.0, file.display());
            let device = Device::open(0, Arc::new(compiler)).unwrap();
            let out = device.buffer::<f32>(64).unwrap();
            run_source(&device, REVERSE, &out).unwrap();
        });
        let Some(output) = output else { return };
        let text = String::from_utf8_lossy(&output.stdout);
        let file = format!("libnvrtc.so.{major}.");
        assert!(text.contains(&format!("version {major} of")) && text.contains(&file), "{text}");
    }
}

#[test]
fn no_nvrtc() {
    // A folder with the driver alone, and no other place to look; a toolkit in /usr/local stays.
    if standin::skipped_on_gpu("missing::no_nvrtc") {
        return;
    }
    let Some(folder) = standin::build() else { return };
    let lone = tempfile::tempdir().unwrap();
    std::fs::copy(folder.join("libcuda.so.1"), lone.path().join("libcuda.so.1")).unwrap();
    let path = lone.path().to_str().unwrap();
    let switches = [
        ("LD_LIBRARY_PATH", path),
        ("PATH", ""),
        ("HOME", path),
        ("CUDA_HOME", ""),
        ("VIRTUAL_ENV", ""),
    ];
    standin::run("missing::no_nvrtc", &switches, || {
        let Err(error) = Compiler::new(driver_version().unwrap(), None) else { return };
        let text = error.to_string();
        assert!(text.contains("libnvrtc.so.12"), "{text}");
        assert!(text.contains("pip install nvidia-cuda-nvrtc-cu12"), "{text}");
    });
}

#[test]
fn too_little_memory() {
    standin::run("missing::too_little_memory", &[("STANDIN_MEMORY", "10000")], || {
        let device = device(0);
        assert_eq!(device.memory().unwrap(), (10000, 10000));
        let kept = device.buffer::<f32>(2000).unwrap();
        let text = sentence(device.buffer::<f32>(1000));
        assert!(text.contains("taking 4000 bytes of memory on GPU 0"), "{text}");
        assert!(text.contains("smaller batch"), "{text}");
        drop(kept);
        assert_eq!(device.memory().unwrap().0, 10000);
    });
}
