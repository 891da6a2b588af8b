//! The batch loader: reads, crops and hands over batches ahead of the device.
//!
//! A thread of its own walks through the epochs; for each batch it shares the images among a small
//! pool of threads and puts the batch into a queue of bounded length, from which [`Loader::next`]
//! takes it. Buffers that the caller gives back are filled again, so nothing is allocated for a
//! batch once the queue has gone round. What a batch holds depends on (seed, epoch, image) alone,
//! so any number of threads, and a run continued at any batch, gives the same bits.
//!
//! Nothing that goes wrong makes the caller wait for ever: an image that cannot be read is an error
//! in its batch's place, and a panic in a worker is an error at once.

mod workers;

use crate::data::area::Area;
use crate::data::augment::Augmentation;
use crate::data::form::{CropBuffer, Form};
use crate::data::order::Order;
use crate::machine::threads;
use anyhow::{Context, Result, anyhow, ensure};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use workers::{Signals, Walk, Workers};

/// Labelled images of one shape, read by index from any thread.
pub trait Images: Send + Sync {
    /// The number of images.
    fn len(&self) -> usize;

    /// Whether there are no images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of image `index`.
    fn label(&self, index: usize) -> u32;

    /// Reads the `window` of image `index` into `pixels`, `[height, width, channels]` bytes; what
    /// lies outside may be left as it was.
    ///
    /// # Errors
    /// If it cannot be read; a sentence that names the file.
    fn read(&self, index: usize, window: &Area, pixels: &mut [u8]) -> Result<()>;
}

/// What the network reads in one step.
#[derive(Debug)]
pub struct Batch {
    /// A crop of each image; with [`Crops::Ten`] ten of each, the crops of an image after one
    /// another.
    pub images: CropBuffer,
    /// The class of each image.
    pub labels: Vec<u32>,
    /// The index of each image in the data set.
    pub indices: Vec<u32>,
    /// The place of its first image in the whole batch, where this is a share of one.
    pub first: usize,
    /// Images of the whole batch, of which this may be a share.
    pub whole: usize,
    /// The epoch it belongs to.
    pub epoch: u32,
    /// Its number in the epoch, from 0.
    pub number: u32,
    /// Whether it is the last of its epoch. The last may be smaller than the others.
    pub last: bool,
}

/// Which crops of an image are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crops {
    /// One, drawn anew each epoch; for training.
    Random,
    /// The one in the middle.
    Centre,
    /// The ten of the paper's test; see [`Augmentation::ten`].
    Ten,
}

impl Crops {
    /// Crops of one image.
    pub fn count(self) -> usize {
        if self == Crops::Ten { 10 } else { 1 }
    }
}

/// All that a loader has to know.
pub struct Request {
    /// Where images come from.
    pub images: Arc<dyn Images>,
    /// How they become crops.
    pub augmentation: Arc<Augmentation>,
    /// Which crops.
    pub crops: Crops,
    /// What the device takes.
    pub form: Form,
    /// Images of a batch.
    pub batch: usize,
    /// Seed of the run.
    pub seed: u64,
    /// Order of the images.
    pub order: Order,
    /// The epochs to deliver, the end not included.
    pub epochs: Range<u32>,
    /// Where to begin in the first epoch: as many batches are left out. For runs that continue.
    pub first_batch: u32,
    /// Whether there is colour noise in an epoch.
    pub color_noise: Box<dyn Fn(u32) -> bool + Send>,
    /// Batches that are made ahead.
    pub prefetch: usize,
    /// Threads that read and crop.
    pub threads: usize,
}

/// Makes batches in the background. Dropping it ends its threads.
pub struct Loader {
    /// None once dropped.
    batches: Option<Receiver<Result<Option<Batch>>>>,
    spare: Sender<Batch>,
    signals: Arc<Signals>,
    ended: Ended,
    waited: Duration,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    No,
    Whole,
    Failed,
}

/// How often a caller that waits for a batch looks whether a worker has panicked. Only of use when
/// a panic in one worker meets a read in another that never returns; else the queue itself wakes
/// it.
const LOOK: Duration = Duration::from_millis(100);

/// How long dropping a loader waits for its threads, which end after the image at hand. A read that
/// the disk does not answer must not hold up the end of the program.
const PATIENCE: Duration = Duration::from_secs(2);

impl Loader {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the request does not hold together (the augmentation's [`check`](Augmentation::check),
    /// more batches to leave out than an epoch has, a count of 0), or no thread can be started.
    pub fn start(request: Request) -> Result<Loader> {
        let all = 0..request.batch;
        Loader::start_share(request, all)
    }

    /// As [`Loader::start`], of each batch only the images at the places `share`: other processes
    /// have the rest. The last batch of an epoch may have none of them.
    pub fn start_share(request: Request, share: Range<usize>) -> Result<Loader> {
        request.augmentation.check()?;
        let n = request.images.len();
        ensure!(n > 0, "the data set holds no images to load");
        ensure!(
            u32::try_from(n).is_ok(),
            "the data set holds {n} images; at most 2^32 - 1 can be used"
        );
        ensure!(request.batch > 0, "a batch of 0 images cannot be loaded; choose 1 or more");
        ensure!(
            share.start < share.end && share.end <= request.batch,
            "the images {share:?} of a batch of {} cannot be loaded",
            request.batch
        );
        ensure!(request.threads > 0, "0 loader threads cannot load anything; choose 1 or more");
        let batches = n.div_ceil(request.batch);
        ensure!(
            request.first_batch as usize <= batches,
            "cannot continue after batch {} of an epoch that has {batches} ({n} images in batches \
             of {})",
            request.first_batch,
            request.batch
        );
        let pool = threads::pool("loading images", request.threads)?;
        let (out, batches) = mpsc::sync_channel(request.prefetch);
        let (spare, returned) = mpsc::channel();
        let signals = Arc::new(Signals::default());
        let workers = Workers {
            images: request.images,
            augmentation: request.augmentation,
            crops: request.crops,
            form: request.form,
            batch: request.batch,
            share,
            seed: request.seed,
            scratch: (0..pool.current_num_threads()).map(|_| Mutex::default()).collect(),
            pool,
            signals: Arc::clone(&signals),
        };
        let walk = Walk {
            order: request.order,
            epochs: request.epochs,
            first_batch: request.first_batch,
            color_noise: request.color_noise,
            returned,
            workers,
        };
        let thread = std::thread::Builder::new()
            .name("loader".into())
            .spawn(move || walk.run(&out))
            .context("cannot start the loader's thread")?;
        Ok(Loader {
            batches: Some(batches),
            spare,
            signals,
            ended: Ended::No,
            waited: Duration::ZERO,
            thread: Some(thread),
        })
    }

    /// The next batch in order, or None after the last one; waits until it is ready.
    ///
    /// # Errors
    /// If one of its images cannot be read or a worker has panicked; there are no batches
    /// afterwards.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot take buffers back")]
    pub fn next(&mut self) -> Result<Option<Batch>> {
        match self.ended {
            Ended::No => {}
            Ended::Whole => return Ok(None),
            Ended::Failed => return Err(anyhow!("the loader has stopped after an error")),
        }
        let result = self.receive();
        match &result {
            Ok(Some(_)) => {}
            Ok(None) => self.ended = Ended::Whole,
            Err(_) => {
                self.ended = Ended::Failed;
                self.signals.stop.store(true, Ordering::Relaxed);
            }
        }
        result
    }

    fn receive(&mut self) -> Result<Option<Batch>> {
        let batches = self.batches.as_ref().context("the loader has stopped")?;
        self.signals.panicked()?;
        match batches.try_recv() {
            Ok(result) => return result,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        let since = Instant::now();
        let result = loop {
            match batches.recv_timeout(LOOK) {
                Ok(result) => break result,
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.signals.panicked() {
                        break Err(error);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    break self.signals.panicked().and(Err(anyhow!("the loader's thread is gone")));
                }
            }
        };
        self.waited += since.elapsed();
        result
    }

    /// Gives a batch's buffers back to be filled again, once nothing reads them any more.
    pub fn recycle(&mut self, batch: Batch) {
        // After the last batch nobody takes it, and it is dropped here.
        let _ = self.spare.send(batch);
    }

    /// The time that calls of [`next`](Self::next) have waited so far: the device was faster.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.signals.stop.store(true, Ordering::Relaxed);
        // Wakes the thread if it waits for room in the queue.
        self.batches = None;
        let since = Instant::now();
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() && since.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                // It catches its own panics, so there is no news here.
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests;
