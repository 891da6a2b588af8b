//! The pictures that a run's folder holds while it trains: `curves.png`, how it goes, and
//! `filters.png`, the kernels of its first layer that has some.
//!
//! A thread draws them after each epoch. Training never waits for it: an epoch that ends while it is
//! still at work is drawn with the next. What goes wrong is said once and ends nothing.

use super::history::History;
use super::metrics::Line;
use super::runs::RunFolder;
use crate::engine::{Engine, Slot};
use crate::errors::{guarded, sentence};
use crate::pictures::curves;
use crate::pictures::kernels::{Kernels, Span, are_drawable};
use anyhow::{Result, bail};
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
    /// Draws both. Err: what is wrong with the first that is missing; an error in the program is
    /// none that ends a run.
    fn draw(&self) -> Result<()> {
        let curves = guarded(|| self.draw_curves());
        let filters = guarded(|| self.draw_filters());
        let drawn = curves.zip(filters).map(|(curves, filters)| curves.and(filters));
        drawn.unwrap_or_else(|| bail!("an error in the program keeps pictures from being drawn"))
    }

    fn draw_curves(&self) -> Result<()> {
        curves::draw(|key| self.history.points(key)).write(&self.run.curves())
    }

    fn draw_filters(&self) -> Result<()> {
        let Some(kernels) = &self.kernels else { return Ok(()) };
        let heading = format!("{} after epoch {}", kernels.layer, self.epoch);
        let (canvas, _) = kernels.draw(&heading, Span::Kernel, kernels.layout());
        canvas.write(&self.run.filters())
    }
}

impl Drawing {
    /// For `run`, whose log says already how its former epochs went.
    pub fn new(run: &RunFolder) -> Drawing {
        let history = History::read(&run.metrics()).unwrap_or_default();
        Drawing { run: run.clone(), history, working: None, waiting: None, failed: false }
    }

    /// Keeps in mind how the epoch of `line` went.
    pub fn add(&mut self, line: &Line) {
        if let Ok(Value::Object(epoch)) = serde_json::to_value(line) {
            self.history.epochs.push(epoch);
        }
    }

    /// Begins to draw how the run stands after `epoch`. What is to be said of an earlier picture.
    pub fn begin(&mut self, epoch: u32, engine: &dyn Engine) -> Option<String> {
        let job = Job {
            run: self.run.clone(),
            history: self.history.clone(),
            kernels: first_kernels(engine),
            epoch,
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
        self.told(drawn.unwrap_or(Ok(())))
    }

    /// The first failure in words.
    fn told(&mut self, drawn: Result<()>) -> Option<String> {
        let error = drawn.err().filter(|_| !self.failed)?;
        self.failed = true;
        Some(format!("{}; the run goes on without that picture", sentence(&error)))
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
