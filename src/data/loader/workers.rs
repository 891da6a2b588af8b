//! The loader's threads: one that walks through the epochs, and a pool that fills its batches.

use super::{Batch, Crops, Images};
use crate::data::area::Area;
use crate::data::augment::{Augmentation, Draw, Geometry};
use crate::data::form::{CropBuffer, CropViewMut, Form};
use crate::data::order::Order;
use anyhow::{Context, Error, Result, anyhow};
use rayon::prelude::*;
use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

/// What the threads and the owner tell one another beside the queue.
#[derive(Default)]
pub(super) struct Signals {
    /// Leave the rest undone.
    pub(super) stop: AtomicBool,
    /// What the first thread that panicked said.
    panic: Mutex<Option<String>>,
}

impl Signals {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Notes a panic and stops all threads.
    fn note(&self, panic: Box<dyn Any + Send>) {
        let text = match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic.downcast_ref::<&str>().unwrap_or(&"no message").to_string(),
        };
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn panicked(&self) -> Result<()> {
        match self.panic.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(text) => Err(anyhow!("a loader thread panicked, which is a bug: {text}")),
            None => Ok(()),
        }
    }
}

/// The loader's own thread: through the epochs, batch by batch. The fields are the request's.
pub(super) struct Walk {
    pub(super) order: Order,
    pub(super) epochs: Range<u32>,
    pub(super) first_batch: u32,
    pub(super) color_noise: Box<dyn Fn(u32) -> bool + Send>,
    pub(super) returned: Receiver<Batch>,
    pub(super) workers: Workers,
}

/// The sender's end of the queue. `Ok(None)` is the end of the run.
pub(super) type Out = SyncSender<Result<Option<Batch>>>;

impl Walk {
    pub(super) fn run(self, out: &Out) {
        let result = catch_unwind(AssertUnwindSafe(|| self.epochs(out)));
        let last = match result {
            Ok(Ok(())) => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(panic) => {
                self.workers.signals.note(panic);
                return;
            }
        };
        // Fails only where the owner no longer listens.
        let _ = out.send(last);
    }

    /// Sends all batches; ends early without an error when told to stop.
    fn epochs(&self, out: &Out) -> Result<()> {
        let Workers { images, batch: size, seed, signals, .. } = &self.workers;
        let mut order = Vec::new();
        let mut skip = self.first_batch as usize;
        for epoch in self.epochs.clone() {
            self.order.fill(&mut order, *seed, epoch, images.len() as u32);
            let noise = (self.color_noise)(epoch);
            let batches = order.chunks(*size);
            let count = batches.len();
            for (number, indices) in batches.enumerate().skip(std::mem::take(&mut skip)) {
                let mut batch = match self.returned.try_recv() {
                    Ok(batch) => batch,
                    Err(_) => self.workers.new_batch()?,
                };
                batch.epoch = epoch;
                batch.number = number as u32;
                batch.last = number + 1 == count;
                batch.whole = indices.len();
                let share = &self.workers.share;
                batch.first = share.start.min(batch.whole);
                let mine = &indices[batch.first..share.end.min(batch.whole)];
                self.workers.fill(&mut batch, mine, noise)?;
                if signals.stopped() || out.send(Ok(Some(batch))).is_err() {
                    return signals.panicked();
                }
            }
        }
        Ok(())
    }
}

/// What the pool's threads share. The fields are the request's, but for the last three.
pub(super) struct Workers {
    pub(super) images: Arc<dyn Images>,
    pub(super) augmentation: Arc<Augmentation>,
    pub(super) crops: Crops,
    pub(super) form: Form,
    pub(super) batch: usize,
    pub(super) share: Range<usize>,
    pub(super) seed: u64,
    /// One stored image for each thread of the pool.
    pub(super) scratch: Vec<Mutex<Vec<u8>>>,
    pub(super) pool: rayon::ThreadPool,
    pub(super) signals: Arc<Signals>,
}

impl Workers {
    /// Buffers for a batch.
    fn new_batch(&self) -> Result<Batch> {
        let most = self.share.len().min(self.images.len());
        let geometry = &self.augmentation.geometry;
        Ok(Batch {
            images: CropBuffer::new(&self.form, geometry, most * self.crops.count())?,
            labels: Vec::with_capacity(most),
            indices: Vec::with_capacity(most),
            first: 0,
            whole: 0,
            epoch: 0,
            number: 0,
            last: false,
        })
    }

    /// Fills a batch with the images `indices`, shared among the pool's threads.
    fn fill(&self, batch: &mut Batch, indices: &[u32], noise: bool) -> Result<()> {
        batch.indices.clear();
        batch.indices.extend_from_slice(indices);
        batch.labels.clear();
        batch.labels.extend(indices.iter().map(|&i| self.images.label(i as usize)));
        let crops = self.crops.count();
        batch.images.resize(indices.len() * crops);
        let first = batch.number as usize * self.batch + batch.first;
        let epoch = batch.epoch;
        // The first image that fails in the batch's order is reported, whoever comes to it first:
        // images after a known failure are left out, those before it are still tried.
        let failed_at = AtomicUsize::new(usize::MAX);
        let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        self.pool.install(|| {
            batch.images.par_chunks_mut(crops).enumerate().for_each(|(i, out)| {
                if self.signals.stopped() || i > failed_at.load(Ordering::Relaxed) {
                    return;
                }
                let one = || self.image(out, indices[i], epoch, (first + i) as u32, noise);
                match catch_unwind(AssertUnwindSafe(one)) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        failed_at.fetch_min(i, Ordering::Relaxed);
                        let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                        if failure.as_ref().is_none_or(|(before, _)| i < *before) {
                            *failure = Some((i, error));
                        }
                    }
                    Err(panic) => self.signals.note(panic),
                }
            });
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Reads one image and writes its crops.
    fn image(
        &self,
        mut out: CropViewMut<'_>,
        index: u32,
        epoch: u32,
        position: u32,
        noise: bool,
    ) -> Result<()> {
        let augmentation = &self.augmentation;
        let thread = rayon::current_thread_index().unwrap_or(0);
        let mut pixels = self.scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
        let Geometry { height, width, .. } = augmentation.geometry;
        pixels.resize(augmentation.geometry.image_len(), 0);
        let (one, ten);
        let (window, draws): (_, &[Draw]) = match self.crops {
            Crops::Ten => {
                ten = augmentation.ten();
                (Area::all(height, width), &ten)
            }
            Crops::Random | Crops::Centre => {
                one = if self.crops == Crops::Random {
                    augmentation.training(self.seed, epoch, index, position, noise)
                } else {
                    augmentation.centre()
                };
                (augmentation.window(&one), std::slice::from_ref(&one))
            }
        };
        self.images
            .read(index as usize, &window, &mut pixels)
            .with_context(|| format!("cannot load image {index} of the data set"))?;
        for (number, draw) in draws.iter().enumerate() {
            out.write(number, &pixels, draw, augmentation);
        }
        Ok(())
    }
}
