//! A batch on its way to the GPUs: images as bytes, from the pinned memory into which the loader
//! wrote them, other input as floats.

use super::network::Network;
use crate::data::form::CropView;
use crate::engine::batch::check_images;
use crate::gpu::memory::Pinned;
use crate::layers::Run;
use anyhow::Result;
use std::sync::Arc;

/// Pinned memory for what goes to the GPUs with a batch's crops, which lie in pinned memory of
/// their own.
pub(super) struct Host {
    /// [images, 2 * channels]
    pub colours: Pinned<f32>,
    /// `[images]`
    pub labels: Pinned<i32>,
}

impl Host {
    /// For the batches of `network`.
    pub fn new(network: &Network) -> Result<Host> {
        let (first, plan) = (&network.devices[0], &network.plan);
        Ok(Host {
            colours: first.pinned(plan.batch * 2 * plan.input.channels)?,
            labels: first.pinned(plan.batch)?,
        })
    }
}

impl Network {
    /// Sends a batch off to all GPUs. Until the upload streams are done, `images` must stay.
    pub(super) fn upload(
        &self,
        host: &mut Host,
        run: &Run,
        images: CropView<'_>,
        labels: Option<&[u32]>,
    ) -> Result<()> {
        let (pixels, colours) = match images {
            CropView::Bytes { pixels, colours } => (pixels, colours),
            CropView::Floats(values) => return self.upload_floats(run, values, labels),
        };
        let (plan, Host { colours: host_colours, labels: host_labels }) = (&self.plan, host);
        let (values, colour_len) = (plan.input.len(), 2 * plan.input.channels);
        let given = [("bytes", pixels.len(), values), ("colours", colours.len(), colour_len)];
        check_images(plan, run, &given)?;
        host_colours[..colours.len()].copy_from_slice(colours);
        for (to, &label) in host_labels.iter_mut().zip(labels.unwrap_or_default()) {
            *to = label as i32;
        }
        for (device, input) in self.devices.iter().zip(&self.inputs) {
            device.upload.wait_for(&input.taken)?;
            // SAFETY: `pass` waits for the upload streams before anything of this changes.
            unsafe {
                device.upload.write_later(pixels, &input.crops)?;
                device.upload.write_later(&host_colours[..colours.len()], &input.colours)?;
                // The step before has read its labels: its loss has been waited for.
                if labels.is_some() && Arc::ptr_eq(device, self.last()) {
                    device.upload.write_later(host_labels, &self.loss.labels)?;
                }
            }
            device.upload.record(&input.uploaded)?;
        }
        Ok(())
    }

    /// As [`Network::upload`], of input that is no image; waits for the pass before, which may still
    /// read its own, and until all is there.
    fn upload_floats(&self, run: &Run, values: &[f32], labels: Option<&[u32]>) -> Result<()> {
        let plan = &self.plan;
        check_images(plan, run, &[("values", values.len(), plan.input.len())])?;
        let labels: Vec<i32> = labels.unwrap_or_default().iter().map(|&l| l as i32).collect();
        let encoded = self.encoded(values);
        for (d, device) in self.devices.iter().enumerate() {
            let data = &self.buffers[plan.data[d]];
            if run.batch < plan.batch {
                device.compute.zero(data)?;
            }
            device.compute.wait()?;
            // SAFETY: waited for right here, while what is copied is borrowed.
            unsafe {
                device.compute.write_later(&encoded, data)?;
                if !labels.is_empty() && Arc::ptr_eq(device, self.last()) {
                    device.compute.write_later(&labels, &self.loss.labels)?;
                }
            }
            device.compute.wait()?;
        }
        Ok(())
    }

    /// Input values as they are stored on the GPUs.
    fn encoded(&self, values: &[f32]) -> Vec<u8> {
        let (plan, stored) = (&self.plan, self.layout.buffers[self.plan.data[0]]);
        let (channels, pixels) = (plan.input.channels, plan.input.pixels());
        let zeros = vec![0.0; stored.values / pixels - channels];
        if zeros.is_empty() {
            return stored.format.encode(values);
        }
        let pixel = |pixel: &[f32]| [pixel, &zeros].concat();
        stored.format.encode(&values.chunks(channels).flat_map(pixel).collect::<Vec<_>>())
    }
}
