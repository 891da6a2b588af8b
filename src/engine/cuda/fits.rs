//! Whether GPUs can do what a plan asks for, before anything is taken of them.

use super::layout::Layout;
use crate::config_error;
use crate::errors::{BATCH_OPTION, TooLarge};
use crate::gpu::device::Device;
use crate::network::Plan;
use anyhow::{Error, Result};
use std::sync::Arc;

/// Refuses a precision that a GPU does not have.
pub fn check_precision(plan: &Plan, devices: &[Arc<Device>]) -> Result<()> {
    let needs = plan.precision.needs();
    let Some(old) = devices.iter().find(|device| device.capability < needs) else { return Ok(()) };
    let precision = plan.precision.name();
    Err(config_error!(
        "[gpu] precision = {precision:?}: GPU {} ({}) has compute capability {}.{}, and tensor \
         cores take {} from {}.{} on; use --set gpu.precision=f32",
        old.index,
        old.name,
        old.capability.0,
        old.capability.1,
        precision.to_uppercase(),
        needs.0,
        needs.1
    ))
}

/// For each device what is taken of its GPU: `bytes`, or more where one GPU plays several devices.
fn need_of_gpus(devices: &[Arc<Device>], bytes: &[usize]) -> Vec<usize> {
    let all = |gpu| devices.iter().zip(bytes).filter(move |(d, _)| d.index == gpu);
    devices.iter().map(|d| all(d.index).map(|(_, bytes)| bytes).sum()).collect()
}

/// Refuses a batch for which there is too little memory; says how large a one would fit.
///
/// What NCCL takes for itself, once processes are joined, is not counted: its makers give no
/// formula, only that it grows with the channels that it opens for the connections it finds
/// (NVIDIA/nccl, issue 864). On A100s with NVLink people have seen 544 and 688 MB (issue 964).
/// Where that is missing NCCL's own error ends the run at its first sum.
pub fn check_memory(
    plan: &Plan,
    devices: &[Arc<Device>],
    layout: &Layout,
    multiprocessors: &[usize],
) -> Result<()> {
    let of_less = |images| Layout::new(plan, images, multiprocessors).ok().map(|l| l.bytes(plan));
    let otherwise = "use a GPU with more memory, two GPUs, or --device cpu";
    check(devices, layout.bytes(plan), of_less, (plan.batch, plan.pieces.all), otherwise)
}

/// Refuses a batch of so many images at once, in so many processes, that needs these bytes on each
/// device, if there are not as many; `of_less` says what fewer images need, `otherwise` what can be
/// done where not one fits.
pub fn check(
    devices: &[Arc<Device>],
    need: Vec<usize>,
    of_less: impl Fn(usize) -> Option<Vec<usize>>,
    (batch, processes): (usize, usize),
    otherwise: &'static str,
) -> Result<()> {
    // The driver's own and the kernels' code.
    const SPARE: usize = 64 << 20;
    let free = devices.iter().map(|d| d.memory()).collect::<Result<Vec<_>>>()?;
    let need = need_of_gpus(devices, &need);
    let fits = |need: &[usize]| {
        need.iter().zip(&free).all(|(need, (free, _))| need + SPARE.min(free / 16) <= *free)
    };
    if fits(&need) {
        return Ok(());
    }
    let (mut most, mut too_many) = (0, batch);
    while too_many - most > 1 {
        let middle = most.midpoint(too_many);
        let fitting = of_less(middle).is_some_and(|need| fits(&need_of_gpus(devices, &need)));
        *(if fitting { &mut most } else { &mut too_many }) = middle;
    }
    let mib = |bytes: usize| bytes.div_ceil(1 << 20);
    let each = devices.iter().zip(need).zip(&free).map(|((d, need), (free, all))| {
        let (need, free, all) = (mib(need), mib(*free), mib(*all));
        format!("GPU {} needs {need} MiB and has {free} of {all} MiB free", d.index)
    });
    let each: Vec<String> = each.collect();
    Err(Error::new(TooLarge {
        batch: batch * processes,
        why: each.join(", "),
        fits: most * processes,
        none_fits: otherwise,
        option: BATCH_OPTION,
    }))
}
