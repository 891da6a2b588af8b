//! How long steps and epochs take, and how much of it is waiting for data.

use std::time::{Duration, Instant};

/// Running since the epoch began, or since this process went on with it.
pub struct Clock {
    step: Instant,
    epoch: Instant,
    waited: Duration,
    epoch_wait: f64,
    /// Trained on in this epoch by this process.
    pub images: u64,
    /// As many steps.
    pub steps: u64,
}

impl Clock {
    /// Running from now on.
    pub fn start() -> Clock {
        let now = Instant::now();
        Clock {
            step: now,
            epoch: now,
            waited: Duration::ZERO,
            epoch_wait: 0.0,
            images: 0,
            steps: 0,
        }
    }

    /// Seconds since the last lap, and how many of them waited for data; `waited` is the total.
    pub fn lap(&mut self, waited: Duration, images: u64) -> (f64, f64) {
        self.images += images;
        self.steps += 1;
        let wait = waited.saturating_sub(self.waited).as_secs_f64();
        self.waited = waited;
        self.epoch_wait += wait;
        (std::mem::replace(&mut self.step, Instant::now()).elapsed().as_secs_f64(), wait)
    }

    /// Of this epoch: seconds, how many of them waited for data, images per second.
    pub fn epoch(&self) -> (f64, f64, f64) {
        let seconds = self.epoch.elapsed().as_secs_f64();
        (seconds, self.epoch_wait, self.images as f64 / seconds.max(1e-9))
    }

    /// A new epoch begins.
    pub fn restart(&mut self) {
        *self = Clock { waited: self.waited, ..Clock::start() };
    }
}
