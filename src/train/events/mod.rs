//! Event files: a run's curves and its first kernels as TensorBoard reads them (`tensorboard
//! --logdir runs`).
//!
//! A process that trains writes a file of its own, `events.out.tfevents.SECONDS.alexnet`, whose name
//! sorts after those that are there. One that goes on with a run says first from which step on, and
//! readers forget what earlier files have of that step and later ones. The curves `step/…` are means
//! over a hundredth of an epoch, so that a file stays small however long the run; `metrics.jsonl`
//! has every step. Nothing here ends a run: what cannot be written is left out, and that is said.

mod kernels;
mod message;
mod record;

use super::metrics::Line;
use message::{Event, Image, SessionLog, Summary, Value};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use kernels::{Picture, first_kernels, kernels_picture};

/// What the names of event files begin with.
const NAME: &str = "events.out.tfevents.";
/// Points of an epoch in a curve of steps, about.
const POINTS: u64 = 100;

/// The event file of this process.
pub struct Events {
    folder: PathBuf,
    /// None: it is not there yet.
    file: Option<Out>,
    /// The step that the run goes on after; 0: it is new.
    begun: u64,
    /// Steps of a point.
    window: u64,
    steps: Mean,
    /// Whether the last write failed.
    failed: bool,
}

/// A file that grows by whole records.
struct Out {
    path: PathBuf,
    file: File,
    /// Bytes of whole records in it.
    whole: u64,
}

impl Events {
    /// Those of a run in `folder` that goes on after `step`, of so many steps an epoch.
    pub fn new(folder: &Path, step: u64, steps_per_epoch: u64) -> Events {
        Events {
            folder: folder.to_path_buf(),
            file: None,
            begun: step,
            window: steps_per_epoch.div_ceil(POINTS).max(1),
            steps: Mean::default(),
            failed: false,
        }
    }

    /// Adds what a line of the log says. What is to be said of the file.
    pub fn log(&mut self, line: &Line) -> Option<String> {
        if line.kind == "step" {
            self.steps.add(line);
            return if self.steps.count == self.window { self.flush() } else { None };
        }
        let steps = self.flush();
        let mut values = scalars("epoch/", line);
        if let Some(v) = line.validation {
            let of = [v.val_loss, v.val_top1_error, v.val_top5_error];
            let names = ["loss", "top1_error", "top5_error"];
            values.extend(names.iter().zip(of).map(|(name, v)| scalar("validation/", name, v)));
        }
        self.put(line.step, values).or(steps)
    }

    /// Adds a picture as it is after `step`. What is to be said of the file.
    pub fn picture(&mut self, step: u64, tag: &str, picture: Picture) -> Option<String> {
        let image = Image {
            height: picture.height as i32,
            width: picture.width as i32,
            colorspace: 3,
            encoded_image_string: picture.png,
        };
        let value = Value { tag: tag.into(), image: Some(image), ..Value::default() };
        self.put(step, vec![value])
    }

    /// The point of the steps since the last one. What is to be said of the file.
    pub fn flush(&mut self) -> Option<String> {
        let mean = std::mem::take(&mut self.steps).line()?;
        self.put(mean.step, scalars("step/", &mean))
    }

    fn put(&mut self, step: u64, value: Vec<Value>) -> Option<String> {
        let summary = Some(Summary { value });
        let event = Event { step: step as i64, summary, ..now() };
        let failed = self.write(&event).err();
        let was = std::mem::replace(&mut self.failed, failed.is_some());
        let path = self.file.as_ref().map_or(&self.folder, |out| &out.path).display();
        match failed {
            Some(error) if !was => Some(format!(
                "{path}: events for TensorBoard cannot be written: {error}; training goes on, and \
                 its curves there have a gap"
            )),
            None if was => Some(format!("{path}: events for TensorBoard are written again")),
            _ => None,
        }
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        let out = match &mut self.file {
            Some(out) => out,
            none => none.insert(Out::create(&self.folder, self.begun)?),
        };
        out.add(&record::record(event))
    }
}

impl Out {
    /// A file behind those in `folder`, with its first records.
    fn create(folder: &Path, begun: u64) -> io::Result<Out> {
        let seconds = now().wall_time as u64;
        let last = files(folder).last().and_then(|path| seconds_of(path));
        let seconds = last.map_or(seconds, |last| seconds.max(last.saturating_add(1)));
        let path = folder.join(format!("{NAME}{seconds:010}.alexnet"));
        let mut head =
            record::record(&Event { file_version: Some("brain.Event:2".into()), ..now() });
        if begun > 0 {
            let session_log = Some(SessionLog { status: message::START });
            head.extend(record::record(&Event { step: begun as i64 + 1, session_log, ..now() }));
        }
        let mut file = OpenOptions::new().append(true).create_new(true).open(&path)?;
        // Its head is there, or it is not there.
        if let Err(error) = file.write_all(&head) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(Out { path, file, whole: head.len() as u64 })
    }

    /// Adds a record, whole or not at all.
    fn add(&mut self, record: &[u8]) -> io::Result<()> {
        // What a failed write may have left.
        if self.file.metadata()?.len() != self.whole {
            self.file.set_len(self.whole)?;
        }
        if let Err(error) = self.file.write_all(record) {
            let _ = self.file.set_len(self.whole);
            return Err(error);
        }
        self.whole += record.len() as u64;
        Ok(())
    }
}

/// The event files in `folder`, in the order in which they are read.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| seconds_of(path).is_some()).collect();
    files.sort();
    files
}

/// The number in an event file's name.
fn seconds_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_prefix(NAME)?;
    let (seconds, writer) = name.split_once('.')?;
    seconds.parse().ok().filter(|_| writer == "alexnet")
}

/// An event of now.
fn now() -> Event {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Event { wall_time: since.as_secs_f64(), ..Event::default() }
}

fn scalar(group: &str, name: &str, value: f64) -> Value {
    Value { tag: format!("{group}{name}"), simple_value: Some(value as f32), image: None }
}

/// What every line says.
fn scalars(group: &str, line: &Line) -> Vec<Value> {
    let values = [
        ("loss", line.loss),
        ("top1_error", line.top1_error),
        ("top5_error", line.top5_error),
        ("learning_rate", line.learning_rate),
        ("images_per_second", line.images_per_second),
        ("wait_seconds", line.wait_seconds),
    ];
    values.map(|(name, value)| scalar(group, name, value)).into()
}

/// The mean of lines of steps.
#[derive(Default)]
struct Mean {
    count: u64,
    /// The sums, with the last line's step, epoch and rate; of the images per second those of their
    /// inverses, since the batches are equal and not the times.
    sum: Option<Line>,
}

impl Mean {
    fn add(&mut self, line: &Line) {
        self.count += 1;
        let slow = 1.0 / line.images_per_second;
        let Some(sum) = &mut self.sum else {
            self.sum = Some(Line { images_per_second: slow, ..line.clone() });
            return;
        };
        (sum.step, sum.epoch, sum.learning_rate) = (line.step, line.epoch, line.learning_rate);
        sum.loss += line.loss;
        sum.top1_error += line.top1_error;
        sum.top5_error += line.top5_error;
        sum.images_per_second += slow;
        sum.wait_seconds += line.wait_seconds;
    }

    fn line(self) -> Option<Line> {
        let (mut line, count) = (self.sum?, self.count as f64);
        line.images_per_second = count / line.images_per_second;
        let sums = [&mut line.loss, &mut line.top1_error, &mut line.top5_error];
        sums.into_iter().chain([&mut line.wait_seconds]).for_each(|sum| *sum /= count);
        Some(line)
    }
}

/// The pictures of the group `group` in the event files of `folder` and their steps, what a later
/// file has taken back left out.
pub fn pictures(folder: &Path, group: &str) -> Vec<(u64, Vec<u8>)> {
    let mut found: Vec<(u64, Vec<u8>)> = Vec::new();
    for path in files(folder) {
        let bytes = fs::read(path).unwrap_or_default();
        for event in record::messages::<Event>(&bytes) {
            let step = event.step.max(0) as u64;
            if event.session_log.is_some_and(|log| log.status == message::START) {
                found.retain(|(earlier, _)| *earlier < step);
            }
            let values = event.summary.into_iter().flat_map(|summary| summary.value);
            let images =
                values.filter(|value| value.tag.starts_with(group)).filter_map(|value| value.image);
            found.extend(images.map(|image| (step, image.encoded_image_string)));
        }
    }
    found
}
