//! The pictures that a run's folder holds while it trains: `curves.png`, how it goes, and
//! `filters.png`, the kernels of its first layer that has some.
//!
//! A thread draws them after each epoch. Training never waits for it: an epoch that ends while it is
//! still at work is drawn with the next. What goes wrong is said once and ends nothing.

use super::history::History;
use super::metrics::Line;
use super::runs::RunFolder;
use crate::engine::{Engine, Slot};
use crate::errors::sentence;
use crate::pictures::curves;
use crate::pictures::kernels::{Kernels, Span, are_drawable};
use anyhow::Result;
use serde_json::Value;
use std::fs;
use std::thread::{self, JoinHandle};

/// Draws beside training.
pub struct Drawing {
    run: RunFolder,
    history: History,
    working: Option<JoinHandle<Result<()>>>,
    /// What waits to be drawn, once the thread is free.
    waiting: Option<Job>,
    failed: bool,
}

/// What there is to draw after an epoch.
struct Job {
    run: RunFolder,
    history: History,
    kernels: Option<Kernels>,
    epoch: u32,
}

impl Job {
    fn draw(&self) -> Result<()> {
        curves::draw(|key| self.history.points(key)).write(&self.run.curves())?;
        if let Some(kernels) = &self.kernels {
            let heading = format!("{} after epoch {}", kernels.layer, self.epoch);
            let (canvas, _) = kernels.draw(&heading, Span::Kernel, kernels.layout());
            canvas.write(&self.run.filters())?;
        }
        Ok(())
    }
}

impl Drawing {
    /// For `run`, whose log says already how its former epochs went.
    pub fn new(run: &RunFolder) -> Drawing {
        let history = History::read(&run.metrics()).unwrap_or_default();
        Drawing { run: run.clone(), history, working: None, waiting: None, failed: false }
    }

    /// Begins to draw how the run stands after the epoch of `line`. What is to be said of an
    /// earlier picture.
    pub fn begin(&mut self, line: &Line, engine: &dyn Engine) -> Option<String> {
        if let Ok(Value::Object(epoch)) = serde_json::to_value(line) {
            self.history.epochs.push(epoch);
        }
        let job = Job {
            run: self.run.clone(),
            history: self.history.clone(),
            kernels: first_kernels(engine),
            epoch: line.epoch,
        };
        self.waiting = Some(job);
        if self.working.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return None;
        }
        let news = self.wait();
        if let Some(job) = self.waiting.take() {
            let thread = thread::Builder::new().name("drawing".into());
            self.working = thread.spawn(move || job.draw()).ok();
        }
        news
    }

    /// Takes the pictures away, so that there is room for checkpoints.
    pub fn give_way(&mut self) {
        self.waiting = None;
        self.wait();
        let _ = fs::remove_file(self.run.curves());
        let _ = fs::remove_file(self.run.filters());
    }

    /// The end of training: all is drawn. What is to be said.
    pub fn finish(&mut self) -> Option<String> {
        let news = self.wait();
        let last = self.waiting.take().map(|job| job.draw());
        news.or_else(|| self.told(last?))
    }

    /// Waits for the thread. What is to be said.
    fn wait(&mut self) -> Option<String> {
        let drawn = self.working.take()?.join();
        self.told(drawn.unwrap_or_else(|_| Err(anyhow::anyhow!("drawing broke down"))))
    }

    /// The first failure in words.
    fn told(&mut self, drawn: Result<()>) -> Option<String> {
        let error = drawn.err().filter(|_| !self.failed)?;
        self.failed = true;
        Some(format!("{}; training goes on without that picture", sentence(&error)))
    }
}

impl Drop for Drawing {
    /// No half picture stays behind.
    fn drop(&mut self) {
        if let Some(thread) = self.working.take() {
            let _ = thread.join();
        }
    }
}

/// The kernels of the first layer that has some, as they are now.
fn first_kernels(engine: &dyn Engine) -> Option<Kernels> {
    let plan = engine.plan();
    let layer = plan.layers.iter().find(|layer| are_drawable(layer))?;
    let name = format!("{}.weight", layer.name);
    let tensor = plan.tensors().iter().position(|tensor| tensor.name == name)?;
    Some(Kernels::new(plan, layer, &engine.read(Slot::Value, tensor).ok()?))
}
