//! Sums that are under way while the thread that computes goes on. MPI moves them only while it is
//! called, so that a thread of its own begins them and looks after them; until all have come back
//! nobody else calls MPI. All ranks send the same lengths in the same order. Two ranks exchange
//! what they have, which takes half the time that Open MPI's sums of two do; more leave it to the
//! library.
//!
//! What two exchange goes in pieces that libraries send without asking first. A larger one begins
//! with a question and an answer, which over TCP stand in line behind all that is under way: at
//! 1 Gbit/s pieces of 4 MB, four at once, came at 0.62 Gbit/s under Open MPI 4.1, sixteen at 0.83,
//! these at 0.95, which is what the wire can carry.

use super::library::Request;
use super::link::{For, Link, PIECE, Patience};
use super::team::Team;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, VecDeque};
use std::mem::take;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What the waits are for.
const WHAT: &str = "the sum of gradients";
/// Tag of gradients on their way from one of two ranks to the other.
const EXCHANGED: i32 = 4;
/// Values of a transfer.
pub const TRANSFER: usize = PIECE / size_of::<f32>();
/// Fewer values than this do not travel by themselves.
pub const SMALL: usize = TRANSFER / 4;
/// Sums of the library under way at once.
const WINDOW: usize = 4;
/// Values of a piece that two ranks exchange, with room for a head below the 64 KiB up to which
/// Open MPI over TCP asks nothing.
const EXCHANGE: usize = (60 << 10) / size_of::<f32>();
/// Such pieces under way at once, as many bytes as sums of the library.
const EXCHANGES: usize = WINDOW * TRANSFER / EXCHANGE;

/// Sums of all ranks, some of them under way.
pub struct Travelling {
    /// To the thread that looks after them.
    to: Sender<Load>,
    back: Receiver<Result<Load>>,
    /// Whether nothing else is left to be done here.
    awaited: Arc<AtomicBool>,
    /// Small ones, which wait for others.
    small: Load,
    arrived: BTreeMap<usize, Vec<f32>>,
    waited: Duration,
}

/// What travels as one.
#[derive(Default)]
struct Load {
    /// By key.
    parts: Vec<(usize, Vec<f32>)>,
    /// Where there are several parts: their values one after the other.
    joined: Vec<f32>,
}

impl Load {
    fn values(&mut self) -> &mut [f32] {
        match &mut self.parts[..] {
            [(_, one)] => one,
            _ => &mut self.joined,
        }
    }

    fn len(&self) -> usize {
        self.parts.iter().map(|(_, values)| values.len()).sum()
    }

    /// Puts the parts' values side by side.
    fn join(&mut self) {
        self.joined.clear();
        if self.parts.len() > 1 {
            self.joined.extend(self.parts.iter().flat_map(|(_, values)| values));
        }
    }

    /// The parts with what has become of their values.
    fn part(mut self) -> Vec<(usize, Vec<f32>)> {
        let mut rest = &self.joined[..];
        for (_, values) in self.parts.iter_mut().filter(|_| !rest.is_empty()) {
            let (mine, others) = rest.split_at(values.len());
            values.copy_from_slice(mine);
            rest = others;
        }
        self.parts
    }
}

impl Team {
    /// A way to add up numbers while others are computed; None: this process is alone.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn travelling(&self) -> Result<Option<Travelling>> {
        let Some(link) = self.link().filter(|_| self.is_several()) else { return Ok(None) };
        let ((to, jobs), (done, back)) = (channel(), channel());
        let awaited = Arc::new(AtomicBool::new(false));
        let of_thread = awaited.clone();
        thread::Builder::new()
            .name("sums of ranks".into())
            .spawn(move || Carrier::new(link, jobs, done, of_thread).work())
            .context("no thread can be started to add up the ranks' gradients")?;
        Ok(Some(Travelling {
            to,
            back,
            awaited,
            small: Load::default(),
            arrived: BTreeMap::new(),
            waited: Duration::ZERO,
        }))
    }
}

impl Travelling {
    /// Sends `values` on their way; small ones once there are enough of them.
    pub fn send(&mut self, key: usize, values: Vec<f32>) {
        if values.len() >= SMALL {
            self.begin(Load { parts: vec![(key, values)], joined: Vec::new() });
            return;
        }
        self.small.parts.push((key, values));
        if self.small.len() >= TRANSFER {
            self.flush();
        }
    }

    /// Sends what still waits for others.
    pub fn flush(&mut self) {
        if !self.small.parts.is_empty() {
            let mut load = take(&mut self.small);
            load.join();
            self.begin(load);
        }
    }

    fn begin(&mut self, load: Load) {
        // Where the thread has ended its last answer says why.
        let _ = self.to.send(load);
    }

    /// What has become of the values sent with `key`: the sum of all ranks'. Waits for it.
    ///
    /// # Errors
    /// Those of the library; a wait without end.
    pub fn receive(&mut self, key: usize) -> Result<Vec<f32>> {
        let begun = Instant::now();
        self.awaited.store(true, Ordering::Relaxed);
        let values = loop {
            if let Some(values) = self.arrived.remove(&key) {
                break values;
            }
            let Ok(load) = self.back.recv() else { bail!("the ranks are no longer connected") };
            self.arrived.extend(load?.part());
        };
        self.awaited.store(false, Ordering::Relaxed);
        self.waited += begun.elapsed();
        Ok(values)
    }

    /// So long something else was waited for.
    pub fn add_wait(&mut self, time: Duration) {
        self.waited += time;
    }

    /// How long sums have been waited for since this was last asked.
    pub fn waited(&mut self) -> Duration {
        take(&mut self.waited)
    }
}

/// The thread that looks after sums.
struct Carrier {
    link: &'static Link,
    /// The only other rank, where there are two.
    other: Option<usize>,
    jobs: Receiver<Load>,
    done: Sender<Result<Load>>,
    awaited: Arc<AtomicBool>,
    /// Memory for the next transfers.
    spare: Vec<Vec<f32>>,
}

/// A load on its way.
struct Voyage {
    load: Load,
    /// Values of it that transfers have begun for.
    begun: usize,
    /// Those that are not over, the oldest first.
    transfers: VecDeque<Transfer>,
}

/// Some of a load's values.
struct Transfer {
    requests: Vec<Request>,
    values: Range<usize>,
    /// Of two ranks the other's values; else this one's, which the sums take the place of.
    beside: Vec<f32>,
}

impl Carrier {
    fn new(
        link: &'static Link,
        jobs: Receiver<Load>,
        done: Sender<Result<Load>>,
        awaited: Arc<AtomicBool>,
    ) -> Carrier {
        let other = (link.size() == 2).then(|| 1 - link.rank);
        Carrier { link, other, jobs, done, awaited, spare: Vec::new() }
    }

    /// Values of a transfer, and how many are under way at once.
    fn transfers(&self) -> (usize, usize) {
        if self.other.is_some() { (EXCHANGE, EXCHANGES) } else { (TRANSFER, WINDOW) }
    }

    /// For whom waits are.
    fn of(&self) -> For {
        For { rank: self.other, what: WHAT }
    }

    /// Until nobody sends any more, or something goes wrong.
    fn work(mut self) {
        let mut under_way = VecDeque::new();
        if let Err(error) = self.carry(&mut under_way) {
            // The library may write to them as long as the process lives.
            std::mem::forget(under_way);
            let _ = self.done.send(Err(error));
        }
    }

    fn carry(&mut self, under_way: &mut VecDeque<Voyage>) -> Result<()> {
        let mut patience = Patience::default();
        // Over since the last look that found none to be.
        let (mut over, mut pace) = (0, Pace::default());
        loop {
            let next = match under_way.is_empty() {
                true => self.jobs.recv().map_err(|_| TryRecvError::Disconnected),
                false => self.jobs.try_recv(),
            };
            match next {
                Ok(load) => {
                    under_way.push_back(Voyage { load, begun: 0, transfers: VecDeque::new() });
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) if under_way.is_empty() => return Ok(()),
                Err(TryRecvError::Disconnected) => {}
            }
            self.begin(under_way)?;
            if self.end(under_way)? {
                over += 1;
                patience.anew();
            } else {
                let awaited = self.awaited.load(Ordering::Relaxed);
                if self.other.is_some() && !awaited {
                    patience.pause = pace.next(over);
                }
                over = 0;
                self.link.look_again(&mut patience, self.of(), awaited)?;
            }
        }
    }

    /// Begins as many transfers as may be under way.
    fn begin(&mut self, under_way: &mut VecDeque<Voyage>) -> Result<()> {
        let (most, at_once) = self.transfers();
        let mut room = at_once - under_way.iter().map(|v| v.transfers.len()).sum::<usize>();
        for voyage in under_way {
            let all = voyage.load.values();
            while room > 0 && voyage.begun < all.len() {
                let values = voyage.begun..all.len().min(voyage.begun + most);
                voyage.begun = values.end;
                voyage.transfers.push_back(self.transfer(all, values)?);
                room -= 1;
            }
        }
        Ok(())
    }

    /// Begins to add up these values of `all`.
    fn transfer(&mut self, all: &mut [f32], values: Range<usize>) -> Result<Transfer> {
        let (of, piece) = (self.of(), &mut all[values.clone()]);
        let mut beside = self.spare.pop().unwrap_or_default();
        if self.other.is_some() {
            beside.resize(piece.len(), 0.0);
        } else {
            beside.clear();
            beside.extend_from_slice(piece);
        }
        let requests = match self.other {
            // Two exchange what they have, both ways at once, and each adds it up: to the same
            // bits.
            Some(_) => {
                // SAFETY: `beside` and the load are kept until both are over, or forgotten.
                unsafe { self.link.begin_exchange(piece, &mut beside, EXCHANGED, of) }
                    .map(Vec::from)
            }
            // SAFETY: as above.
            None => unsafe { self.link.begin_sum(&beside, piece, of) }.map(|request| vec![request]),
        };
        match requests {
            Ok(requests) => Ok(Transfer { requests, values, beside }),
            Err(error) => {
                std::mem::forget(beside);
                Err(error)
            }
        }
    }

    /// Looks whether the oldest transfer is over, and hands back what is complete. True: it is.
    fn end(&mut self, under_way: &mut VecDeque<Voyage>) -> Result<bool> {
        let Some(voyage) = under_way.front_mut() else { return Ok(false) };
        if let Some(transfer) = voyage.transfers.front_mut() {
            while let Some(request) = transfer.requests.last_mut() {
                if !self.link.is_over(request, self.of())? {
                    return Ok(false);
                }
                transfer.requests.pop();
            }
            let transfer = voyage.transfers.pop_front().expect("the one at hand");
            if self.other.is_some() {
                let sums = &mut voyage.load.values()[transfer.values];
                sums.iter_mut().zip(&transfer.beside).for_each(|(sum, more)| *sum += more);
            }
            self.spare.push(transfer.beside);
        }
        if voyage.transfers.is_empty() && voyage.begun == voyage.load.values().len() {
            let voyage = under_way.pop_front().expect("the one at hand");
            let _ = self.done.send(Ok(voyage.load));
        }
        Ok(true)
    }
}

/// How long the pauses between looks at exchanges are. Each look takes some microseconds of a core
/// that may be the only one, and in a pause no more comes than is under way: so as long that an
/// eighth of that comes, within bounds.
struct Pace {
    pause: Duration,
    /// Exchanges that were over after a pause, of late.
    usual: f32,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { pause: Duration::from_micros(100), usual: Pace::FEW }
    }
}

impl Pace {
    const BOUNDS: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(1)];
    const MANY: f32 = (EXCHANGES / 8) as f32;
    const FEW: f32 = Pace::MANY / 2.0;

    /// The next pause, after one in which `over` exchanges have come to their ends.
    fn next(&mut self, over: usize) -> Duration {
        let [shortest, longest] = Pace::BOUNDS;
        self.usual += (over as f32 - self.usual) / 8.0;
        if self.usual > Pace::MANY && self.pause > shortest {
            self.pause /= 2;
            self.usual /= 2.0;
        } else if self.usual < Pace::FEW && self.pause < longest {
            self.pause = (2 * self.pause).min(longest);
            self.usual *= 2.0;
        }
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The usual pause, in microseconds, on a network of so many Gbit/s that hands over what has
    /// come every so many looks.
    fn settled(gbit: f64, looks: usize) -> u128 {
        let (mut pace, mut come, mut pauses) = (Pace::default(), 0.0, Vec::new());
        for look in 0..1000 {
            let bytes = gbit * 1e9 / 8.0 * pace.pause.as_secs_f64();
            come += bytes / (4 * EXCHANGE) as f64;
            let over = if look % looks == 0 { (come as usize).min(EXCHANGES) } else { 0 };
            // More than what is under way does not come.
            come = if over == EXCHANGES { 0.0 } else { come - over as f64 };
            pauses.push(pace.next(over).as_micros());
        }
        pauses[500..].iter().sum::<u128>() / 500
    }

    #[test]
    fn pauses_are_as_long_as_the_network_is_slow() {
        assert_eq!(settled(1.0, 1), 1000);
        assert!((400..=1000).contains(&settled(10.0, 1)), "{}", settled(10.0, 1));
        assert!((50..200).contains(&settled(100.0, 1)), "{}", settled(100.0, 1));
        // A library that asks first: three looks until what is under way is over, however long.
        assert!(settled(1000.0, 3) < 100, "{}", settled(1000.0, 3));
    }
}
