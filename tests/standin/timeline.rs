//! When what would run on GPUs, by the calls that the stand-in wrote down (`timeline.hpp`) and a
//! duration for each launch and copy.
//!
//! A GPU runs one kernel at a time, of those that are ready one of the streams that go first; a
//! copy takes the way out of one GPU and the way into the other, each at its own pace and both at
//! once. The host queues in no time, and what it queues after it has waited begins no earlier. All
//! of that is simpler than a GPU is; it says what waits for what, and for about how long.

use serde_json::Value;
use std::collections::HashMap;

/// The streams of a device in the order in which they are made (`src/gpu/device.rs`): those that go
/// first, and the one for copies between GPUs.
const FIRST: [u64; 2] = [1, 4];
const BETWEEN: u64 = 3;
/// The next batch comes in there, long before it is needed: what goes between GPUs is not held up.
const UPLOAD: u64 = 2;

/// What one piece of work has for itself: a device's kernels, its ways out and in, its uploads.
type Way = (i64, What);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Kernels,
    Out,
    In,
    Upload,
}

/// What a call came to.
#[derive(Clone, Copy, Default)]
struct Done {
    at: f64,
    /// It was there so late because of another GPU.
    other: bool,
}

/// A call that was written down.
struct Call {
    /// 0 is the host, which waits.
    stream: (i64, u64),
    /// Calls that it comes behind: of its stream, of the host, and what it waits for.
    behind: Vec<usize>,
    work: Option<Work>,
}

struct Work {
    name: String,
    seconds: f64,
    kernel: bool,
    ways: Vec<Way>,
}

/// What one GPU did.
#[derive(Clone, Debug, Default)]
pub struct Gpu {
    /// From the beginning of its first kernel to the end of its last.
    pub seconds: f64,
    /// In kernels.
    pub busy: f64,
    /// In none, while what comes next waited for another GPU or a copy from there.
    pub waited: f64,
    /// The same, kernel by kernel: its name, and what was waited before it.
    pub before: Vec<(String, f64)>,
}

/// The GPUs, from the lines that the stand-in wrote. `seconds` gives a launch's duration by its
/// name and constants; copies move `pace` bytes a second.
pub fn simulate(text: &str, seconds: impl Fn(&str) -> f64, pace: f64) -> Vec<Gpu> {
    let calls = read(text, seconds, pace);
    let mut done: Vec<Option<Done>> = (0..calls.len()).map(|_| None).collect();
    let mut gpus: Vec<Gpu> = Vec::new();
    let (mut begun, mut free) = (HashMap::new(), HashMap::<Way, f64>::new());
    let mut queues: HashMap<(i64, u64), Vec<usize>> = HashMap::new();
    for (index, call) in calls.iter().enumerate().rev() {
        queues.entry(call.stream).or_default().push(index);
    }
    loop {
        // Of each stream the oldest call, if all that it comes behind is known.
        let mut next: Option<((f64, bool, usize), Done)> = None;
        for queue in queues.values() {
            let Some(&index) = queue.last() else { continue };
            let call = &calls[index];
            let Some(behind) = call.behind.iter().map(|&i| Some((i, done[i]?))).collect() else {
                continue;
            };
            let ready = latest(behind, &calls, call);
            let ways = call.work.iter().flat_map(|work| &work.ways);
            let at = ways.fold(ready.at, |at, way| at.max(*free.get(way).unwrap_or(&0.0)));
            let first = call.work.is_none() || FIRST.contains(&call.stream.1);
            let order = (at, !first, index);
            if next.as_ref().is_none_or(|(other, _)| order < *other) {
                next = Some((order, ready));
            }
        }
        let Some(((at, _, index), ready)) = next else { break };
        let call = &calls[index];
        queues.get_mut(&call.stream).unwrap().pop();
        let Some(work) = &call.work else {
            done[index] = Some(ready);
            continue;
        };
        let end = at + work.seconds;
        if work.kernel {
            let device = call.stream.0 as usize;
            gpus.resize(gpus.len().max(device + 1), Gpu::default());
            let begin = *begun.entry(device).or_insert(at);
            let before = *free.get(&(device as i64, What::Kernels)).unwrap_or(&begin);
            let gpu = &mut gpus[device];
            gpu.busy += work.seconds;
            if ready.other && at > before {
                gpu.waited += at - before;
                gpu.before.push((work.name.clone(), at - before));
            }
            gpu.seconds = end - begin;
        }
        free.extend(work.ways.iter().map(|&way| (way, end)));
        done[index] = Some(Done { at: end, other: !work.kernel && call.stream.1 == BETWEEN });
    }
    assert!(done.iter().all(Option::is_some), "calls that wait for each other");
    gpus
}

/// The last of what a call comes behind, and whether that was another GPU's fault.
fn latest(behind: Vec<(usize, Done)>, calls: &[Call], call: &Call) -> Done {
    let mut last = Done::default();
    for (index, done) in behind {
        if done.at > last.at {
            let of = calls[index].stream.0;
            let other = of >= 0 && call.stream.0 >= 0 && of != call.stream.0;
            last = Done { at: done.at, other: done.other || other };
        }
    }
    last
}

fn read(text: &str, seconds: impl Fn(&str) -> f64, pace: f64) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut last: HashMap<(i64, u64), usize> = HashMap::new();
    let mut records: HashMap<u64, usize> = HashMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let number = |key: &str| line[key].as_u64();
        let device = number("device").unwrap_or(0) as i64;
        let mut stream = (device, number("stream").unwrap_or(0));
        let mut behind = Vec::new();
        match line["host_waits_for"].as_str() {
            Some("event") => behind.extend(records.get(&number("event").unwrap())),
            Some("stream") => behind.extend(last.get(&stream)),
            Some(_) => behind.extend(last.iter().filter(|(of, _)| of.0 == device).map(|(_, i)| i)),
            None => behind.extend(number("wait").and_then(|event| records.get(&event))),
        }
        if line["host_waits_for"].is_string() {
            stream = (-1, 0);
        }
        behind.extend(last.get(&stream).into_iter().chain(last.get(&(-1, 0))));
        let index = calls.len();
        if let Some(event) = number("record") {
            records.insert(event, index);
        }
        last.insert(stream, index);
        let work = line["work"].as_str().map(|name| {
            let bytes = number("bytes").unwrap() as f64;
            let launch = name.strip_prefix("kernel ");
            let ways = match name {
                "a copy to the device" if stream.1 == UPLOAD => vec![(device, What::Upload)],
                "a copy to the device" => vec![(device, What::In)],
                "a copy to the host" => vec![(device, What::Out)],
                "a copy between devices" => vec![(device, What::Out), (1 - device, What::In)],
                _ if launch.is_some() => vec![(device, What::Kernels)],
                _ => Vec::new(), // filling, and copies on the device: over at once
            };
            let seconds = match launch {
                Some(launch) => seconds(launch),
                None if ways.is_empty() => 0.0,
                None => bytes / pace,
            };
            Work { name: name.into(), seconds, kernel: launch.is_some(), ways }
        });
        calls.push(Call { stream, behind, work });
    }
    calls
}
