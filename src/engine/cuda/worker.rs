//! One thread a GPU, which queues that GPU's work.

use super::network::Network;
use super::pass::{Step, Update};
use super::profile::Spans;
use super::step::Graphs;
use super::sums::Sums;
use crate::engine::LayerTime;
use anyhow::{Context, Result, anyhow};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// What a worker is asked for.
#[derive(Clone)]
pub enum Order {
    Step(Step),
    Update(Arc<Update>),
    /// A step of a batch of which this process has no image.
    Nothing(Arc<Sums>),
    /// Take times from now on.
    Profile,
    /// Hand the times back.
    Times,
}

type Answer = Result<Vec<LayerTime>>;

/// A thread and the way to and from it.
pub struct Worker {
    orders: Option<Sender<Order>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub fn start(network: Arc<Network>, d: usize) -> Result<Worker> {
        let (orders, to_do) = channel();
        let (answer, answers) = channel();
        let thread = std::thread::Builder::new()
            .name(format!("gpu {}", network.devices[d].index))
            .spawn(move || {
                let (mut spans, mut graphs) = (Spans::default(), Graphs::default());
                for order in to_do {
                    let work = || carry_out(&network, d, order, &mut spans, &mut graphs);
                    let result = caught(network.devices[d].index, work);
                    if result.is_err() {
                        network.board.fail();
                    }
                    if answer.send(result).is_err() {
                        return;
                    }
                }
            })
            .context("a thread for a GPU cannot be started")?;
        Ok(Worker { orders: Some(orders), answers, thread: Some(thread) })
    }

    pub fn order(&self, order: Order) -> Result<()> {
        let sent = self.orders.as_ref().map(|orders| orders.send(order));
        sent.and_then(Result::ok).context("the thread of a GPU has ended")
    }

    pub fn answer(&self) -> Answer {
        self.answers.recv().unwrap_or_else(|_| Err(anyhow!("the thread of a GPU has ended")))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What `work` gives, or its panic as an error: other workers wait for what this one has to do, and
/// have to be told that it will not come.
fn caught<T>(gpu: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
        Err(anyhow!(
            "the thread of GPU {gpu} has panicked ({text}); this is an error in the program"
        ))
    })
}

fn carry_out(
    network: &Network,
    d: usize,
    order: Order,
    spans: &mut Spans,
    graphs: &mut Graphs,
) -> Answer {
    let on_gpu = || format!("on GPU {}", network.devices[d].index);
    match order {
        Order::Step(step) => network.step(d, &step, spans, graphs).with_context(on_gpu)?,
        Order::Update(constants) => {
            network.update(d, &constants, spans, graphs).with_context(on_gpu)?;
        }
        Order::Nothing(sums) => network.add_nothing(d, &sums).with_context(on_gpu)?,
        Order::Profile => spans.begin(network.plan.layers.len()),
        Order::Times => return spans.read(),
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        let told = |work: fn() -> Result<u32>| caught(1, work).map_err(|e| e.to_string());
        assert_eq!(told(|| Ok(3)), Ok(3));
        let text = told(|| panic!("no {}", "room")).unwrap_err();
        assert!(text.contains("GPU 1 has panicked (no room)"), "{text}");
        assert!(told(|| panic!("plain")).unwrap_err().contains("(plain)"));
    }
}
