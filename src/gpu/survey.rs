//! What there is of GPUs, driver and compiler on this machine, for `alexnet devices`: everything
//! that is found is told even where something else is missing.

use super::compile::{Compiler, OLDEST};
use super::library;
use super::{device::Device, driver_error};
use anyhow::Result;
use cudarc::driver::sys::CUdevice_attribute;
use cudarc::driver::{CudaContext, sys};
use std::path::PathBuf;

/// One GPU.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Gpu {
    /// As in `cuda:0`.
    pub index: usize,
    /// The board's name, by its driver.
    pub name: String,
    /// Major and minor, as in "8.0".
    pub compute_capability: String,
    /// Number of multiprocessors.
    pub multiprocessors: usize,
    /// All of its memory.
    pub memory_bytes: usize,
    /// What nobody has taken now.
    pub free_bytes: usize,
    /// For each GPU, whether this one can use its memory directly.
    pub peer_access: Vec<bool>,
}

/// A library: its CUDA version and where it was found.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Found {
    /// Major and minor, as in "12.9".
    pub cuda_version: String,
    /// The file, where the system tells it.
    pub path: Option<PathBuf>,
}

/// The machine's GPUs and what they need.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Survey {
    /// The NVIDIA driver.
    pub driver: Option<Found>,
    /// The compiler for the kernels.
    pub nvrtc: Option<Found>,
    /// Every GPU that the driver names.
    pub gpus: Vec<Gpu>,
    /// A sentence for each thing that is missing, with what it would take.
    pub missing: Vec<String>,
}

impl Survey {
    /// Looks for all of it.
    pub fn take() -> Survey {
        let mut survey = Survey::default();
        let driver = library::driver_version();
        // Without a driver, NVRTC may still be there; any version does.
        let version = *driver.as_ref().unwrap_or(&12000);
        match driver {
            Ok(version) => {
                let cuda_version = format!("{}.{}", version / 1000, version % 1000 / 10);
                let path = library::loaded_from(library::DRIVER);
                survey.driver = Some(Found { cuda_version, path });
                match gpus() {
                    Ok(gpus) => survey.gpus = gpus,
                    Err(error) => survey.missing.push(format!("{error:#}")),
                }
            }
            Err(error) => survey.missing.push(format!("{error:#}")),
        }
        match Compiler::new(version, None) {
            Ok(compiler) => {
                let (major, minor) = compiler.version;
                let cuda_version = format!("{major}.{minor}");
                survey.nvrtc = Some(Found { cuda_version, path: compiler.path() });
                for gpu in &survey.gpus {
                    let checked = Device::check(gpu.index, &gpu.name, gpu.capability(), &compiler);
                    survey.missing.extend(checked.err().map(|e| format!("{e:#}")));
                }
            }
            Err(error) => survey.missing.push(format!("{error:#}")),
        }
        survey
    }
}

impl Gpu {
    fn capability(&self) -> (i32, i32) {
        let numbers = self.compute_capability.split_once('.');
        let number = |text: &str| text.parse().unwrap_or(0);
        numbers.map_or((0, 0), |(major, minor)| (number(major), number(minor)))
    }
}

impl Device {
    /// Whether the kernels can run on such a GPU; the error says why not.
    pub fn check(
        index: usize,
        name: &str,
        (major, minor): (i32, i32),
        compiler: &Compiler,
    ) -> Result<()> {
        if (major, minor) < OLDEST {
            anyhow::bail!(
                "GPU {index} ({name}) is too old: compute capability {major}.{minor}, needed is \
                 {}.{} or more; use --device cpu",
                OLDEST.0,
                OLDEST.1
            );
        }
        compiler.check((major, minor))
    }
}

fn gpus() -> Result<Vec<Gpu>> {
    let count = library::device_count()?;
    let look = |index: usize| {
        let context = CudaContext::new(index)?;
        let (major, minor) = context.compute_capability()?;
        let (free_bytes, memory_bytes) = context.mem_get_info()?;
        let multiprocessors =
            context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let gpu = Gpu {
            index,
            name: context.name()?,
            compute_capability: format!("{major}.{minor}"),
            multiprocessors: multiprocessors as usize,
            memory_bytes,
            free_bytes,
            peer_access: Vec::new(),
        };
        Ok((gpu, context.cu_device()))
    };
    let all = (0..count)
        .map(|i| look(i).map_err(|e| driver_error(e, &format!("opening GPU {i}"))))
        .collect::<Result<Vec<_>>>()?;
    let devices: Vec<_> = all.iter().map(|(_, device)| *device).collect();
    all.into_iter()
        .map(|(mut gpu, from)| {
            let can = |&to: &sys::CUdevice| {
                let mut can = 0;
                // SAFETY: both are devices that the driver has named; it writes one integer to
                // where it is told.
                unsafe { sys::cuDeviceCanAccessPeer(&mut can, from, to) }
                    .result()
                    .map_err(|e| driver_error(e, "asking for peer access"))?;
                Ok(can != 0)
            };
            gpu.peer_access = devices.iter().map(can).collect::<Result<_>>()?;
            Ok(gpu)
        })
        .collect()
}
