//! The library in use: transfers that are waited for, with a bound, and words about for whom.

use super::library::{Calls, Request};
use super::member::Member;
use crate::progress;
use anyhow::{Result, bail};
use std::cell::RefCell;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// So long nothing is said of a wait; then after twice as long, and so on.
const SILENT: Duration = Duration::from_secs(30);
/// So long is waited at most, unless [`VARIABLE`] says otherwise: longer than preparing a data set
/// or a disk that is full for a while takes.
const BOUND: Duration = Duration::from_secs(30 * 60);
/// Seconds that a rank is waited for at most.
const VARIABLE: &str = "ALEXNET_MPI_WAIT";
/// Bytes of a transfer: large enough for the wire, small enough to add up while the next comes.
pub(super) const PIECE: usize = 4 << 20;
/// Looks between which only the other threads of the core are let go first.
const EAGER: u32 = 2000;
/// So long MPI may take to end, where all is done, and to end all ranks.
const LAST_WAIT: Duration = Duration::from_secs(5);
const ABORT_WAIT: Duration = Duration::from_millis(1500);
/// The pause between two looks after that, unless the one who waits knows better.
const PAUSE: Duration = Duration::from_micros(100);

/// For whom a wait is, and what for.
#[derive(Clone, Copy)]
pub(super) struct For {
    /// None: all ranks together.
    pub rank: Option<usize>,
    pub what: &'static str,
}

/// Numbers for one rank, and as many as there is room for from another one.
pub(super) struct Swap<'a> {
    pub theirs: &'a [f32],
    pub to: usize,
    pub ours: &'a mut [f32],
    pub from: usize,
}

/// How long something has been looked at that does not come to its end.
pub(super) struct Patience {
    looks: u32,
    begun: Option<Instant>,
    /// After so long it is said.
    said: Duration,
    /// Between two looks, when others are let go first no more.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { looks: 0, begun: None, said: SILENT, pause: PAUSE }
    }
}

impl Patience {
    /// Something has come to its end; the pause stays.
    pub fn anew(&mut self) {
        *self = Patience { pause: self.pause, ..Patience::default() };
    }
}

/// MPI, started.
pub(super) struct Link {
    pub calls: Box<dyn Calls>,
    pub rank: usize,
    /// As many as there are ranks.
    size: usize,
    /// Set once all have met.
    members: OnceLock<Vec<Member>>,
    /// Whether any thread may call.
    pub any_thread: bool,
    /// A wait has come to no end: nothing is called any more but the end of all.
    broken: AtomicBool,
    /// This rank is about to end: others may be gone before it.
    closing: AtomicBool,
    /// All have come to their ends.
    closed: AtomicBool,
    /// Of rank 0: which have said that they have ended.
    pub ended: RefCell<Vec<bool>>,
    bound: Duration,
    /// Bytes of numbers that this rank has sent to one other.
    sent: AtomicU64,
    /// Bytes of numbers that the library has added up over all ranks.
    summed: AtomicU64,
    /// Where pieces are received. It stays as long as the process, whatever comes late.
    incoming: RefCell<Vec<f32>>,
}

// SAFETY: the cells are used by the thread that computes only; others ask the flags and abort.
unsafe impl Sync for Link {}

impl Link {
    /// For `rank` of `size` ranks, of which nothing is known yet.
    pub fn new(calls: Box<dyn Calls>, (rank, size): (usize, usize), any_thread: bool) -> Link {
        let asked = std::env::var(VARIABLE).ok().and_then(|text| text.trim().parse().ok());
        Link {
            calls,
            rank,
            size,
            members: OnceLock::new(),
            any_thread,
            broken: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            ended: RefCell::new(vec![false; size]),
            bound: asked.map_or(BOUND, Duration::from_secs),
            sent: AtomicU64::new(0),
            summed: AtomicU64::new(0),
            incoming: RefCell::default(),
        }
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// All ranks, once they have met; before, none.
    pub fn members(&self) -> &[Member] {
        self.members.get().map_or(&[], Vec::as_slice)
    }

    /// All know of all.
    pub fn met(&self, members: Vec<Member>) {
        let _ = self.members.set(members);
    }

    /// Whether a wait has come to no end.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// From now on others may be gone without harm.
    pub fn closing(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// Whether others may be gone.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// All have come to their ends: MPI can be ended.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// The last thing before the process ends with `code`: ends MPI where all have come to their
    /// ends, else all ranks, if that can be done from here. `computes`: in the thread that
    /// computes.
    pub fn last(&self, code: i32, computes: bool) {
        let closed = self.closed.load(Ordering::SeqCst);
        if !computes && (closed || !self.any_thread) {
            return;
        }
        // A launcher that is ending all processes may never answer.
        let wait = if closed { LAST_WAIT } else { ABORT_WAIT };
        let ender = std::thread::Builder::new().name("the last second".into());
        let ended = ender.spawn(move || {
            std::thread::sleep(wait);
            signal_hook::low_level::exit(code);
        });
        match closed {
            true => drop(self.calls.finalize()),
            // Without the thread nothing would end this process but the launcher.
            false if ended.is_ok() => self.calls.abort(code),
            false => {}
        }
    }

    /// `rank 3 on worker-2`.
    pub fn name(&self, rank: usize) -> String {
        match self.members().get(rank) {
            Some(member) => format!("rank {rank} on {}", member.host),
            None => format!("rank {rank}"),
        }
    }

    fn begun(&self, begun: Result<Request>, of: For) -> Result<Request> {
        begun.map_err(|error| self.broke(error, of))
    }

    /// Marks the link as broken; the error with for whom it was.
    fn broke(&self, error: anyhow::Error, of: For) -> anyhow::Error {
        self.broken.store(true, Ordering::Relaxed);
        error.context(format!("{} with {}", of.what, self.whom(of)))
    }

    fn whom(&self, of: For) -> String {
        let other = (self.size == 2).then_some(1 - self.rank.min(1));
        of.rank.or(other).map_or("the other ranks".into(), |rank| self.name(rank))
    }

    /// Whether the transfer is over.
    pub fn is_over(&self, request: &mut Request, of: For) -> Result<bool> {
        self.calls.test(request).map_err(|error| self.broke(error, of))
    }

    /// Waits until the transfer is over.
    fn wait(&self, request: &mut Request, of: For) -> Result<()> {
        let mut patience = Patience::default();
        while !self.is_over(request, of)? {
            self.look_again(&mut patience, of, true)?;
        }
        Ok(())
    }

    /// The time until the next look at what is waited for. `eager`: nothing else is to be done
    /// meanwhile.
    ///
    /// # Errors
    /// If it has been too long.
    pub fn look_again(&self, patience: &mut Patience, of: For, eager: bool) -> Result<()> {
        patience.looks = patience.looks.saturating_add(1);
        if eager && patience.looks < EAGER {
            std::thread::yield_now();
            return Ok(());
        }
        let waited = patience.begun.get_or_insert_with(Instant::now).elapsed();
        if waited >= self.bound {
            self.broken.store(true, Ordering::Relaxed);
            bail!(
                "{} has not answered for {} s ({}); {VARIABLE} says how many seconds it is \
                 waited for",
                self.whom(of),
                waited.as_secs(),
                of.what
            );
        }
        if waited >= patience.said {
            let seconds = waited.as_secs();
            progress::say(&format!("waiting for {} since {seconds} s: {}", self.whom(of), of.what));
            patience.said *= 2;
        }
        std::thread::sleep(patience.pause);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.is_broken() {
            bail!("the ranks are no longer connected");
        }
        Ok(())
    }

    /// Sends `bytes` to the rank of `of`, in pieces.
    pub fn send(&self, bytes: &[u8], tag: i32, of: For) -> Result<()> {
        self.check()?;
        let to = of.rank.expect("sent to one");
        for piece in bytes.chunks(PIECE) {
            // SAFETY: the borrow lasts until the transfer is over, or nothing is called any more.
            let begun = unsafe { self.calls.send(piece.as_ptr(), piece.len(), to, tag) };
            self.wait(&mut self.begun(begun, of)?, of)?;
        }
        Ok(())
    }

    /// Fills `bytes` with what the rank of `of` sends, in pieces.
    pub fn receive(&self, bytes: &mut [u8], tag: i32, of: For) -> Result<()> {
        self.check()?;
        let from = of.rank.expect("received from one");
        for piece in bytes.chunks_mut(PIECE) {
            // SAFETY: the borrow lasts until the transfer is over; where that comes to no end, the
            // process makes no further call, without which nothing comes in.
            let begun = unsafe { self.calls.receive(piece.as_mut_ptr(), piece.len(), from, tag) };
            self.wait(&mut self.begun(begun, of)?, of)?;
        }
        Ok(())
    }

    /// Adds what the rank of `of` sends to `sums`, in pieces.
    pub fn receive_sums(&self, sums: &mut [f32], tag: i32, of: For) -> Result<()> {
        let mut incoming = self.incoming.borrow_mut();
        for sums in sums.chunks_mut(PIECE / size_of::<f32>()) {
            if incoming.len() < sums.len() {
                incoming.resize(sums.len(), 0.0);
            }
            let piece = &mut incoming[..sums.len()];
            self.receive(bytemuck::cast_slice_mut(piece), tag, of)?;
            sums.iter_mut().zip(&*piece).for_each(|(sum, more)| *sum += more);
        }
        Ok(())
    }

    /// Hands rank 0's `values` to all.
    pub fn spread(&self, values: &mut [f32], what: &'static str) -> Result<()> {
        self.together(values, what, |piece| {
            // SAFETY: as in `together`.
            unsafe { self.calls.spread(piece.as_mut_ptr(), piece.len()) }
        })
    }

    /// Begins to add up all ranks' `from`; the sums come to `to`, as long.
    ///
    /// # Safety
    /// Both must stay where they are, and be left alone, until that is over or the process ends.
    pub unsafe fn begin_sum(&self, from: &[f32], to: &mut [f32], of: For) -> Result<Request> {
        self.check()?;
        self.summed.fetch_add(size_of_val(from) as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps the memory until the transfer is over, or as long as the
        // process.
        self.begun(unsafe { self.calls.sum(from.as_ptr(), to.as_mut_ptr(), to.len()) }, of)
    }

    /// Begins to send `theirs` to the rank of `of`, and to receive as many values from it as `ours`
    /// holds.
    ///
    /// # Safety
    /// As of [`Link::begin_sum`], also where this fails.
    pub unsafe fn begin_exchange(
        &self,
        theirs: &[f32],
        ours: &mut [f32],
        tag: i32,
        of: For,
    ) -> Result<[Request; 2]> {
        self.check()?;
        let rank = of.rank.expect("exchanged with one");
        self.sent.fetch_add(size_of_val(theirs) as u64, Ordering::Relaxed);
        let (theirs, ours): (&[u8], &mut [u8]) =
            (bytemuck::cast_slice(theirs), bytemuck::cast_slice_mut(ours));
        // SAFETY: the caller keeps the memory until the transfer is over, or as long as the
        // process.
        let received = unsafe { self.calls.receive(ours.as_mut_ptr(), ours.len(), rank, tag) };
        let received = self.begun(received, of)?;
        // SAFETY: as above.
        let sent = unsafe { self.calls.send(theirs.as_ptr(), theirs.len(), rank, tag) };
        Ok([received, self.begun(sent, of)?])
    }

    /// Sends and receives numbers, pair by pair, all under way at once.
    pub fn swap(&self, swaps: Vec<Swap<'_>>, tag: i32, what: &'static str) -> Result<()> {
        self.check()?;
        let mut requests = Vec::new();
        for Swap { theirs, to, ours, from } in swaps {
            self.sent.fetch_add(size_of_val(theirs) as u64, Ordering::Relaxed);
            let of = For { rank: Some(from), what };
            for piece in bytemuck::cast_slice_mut::<f32, u8>(ours).chunks_mut(PIECE) {
                // SAFETY: the borrow lasts until all are over; where that comes to no end, the
                // process makes no further call, without which nothing comes in.
                let begun =
                    unsafe { self.calls.receive(piece.as_mut_ptr(), piece.len(), from, tag) };
                requests.push((self.begun(begun, of)?, of));
            }
            let of = For { rank: Some(to), what };
            for piece in bytemuck::cast_slice::<f32, u8>(theirs).chunks(PIECE) {
                // SAFETY: as above.
                let begun = unsafe { self.calls.send(piece.as_ptr(), piece.len(), to, tag) };
                requests.push((self.begun(begun, of)?, of));
            }
        }
        requests.into_iter().try_for_each(|(mut request, of)| self.wait(&mut request, of))
    }

    /// Bytes of numbers that this rank has sent so far; of sums that the library has made, the
    /// least that it can be, 2·(N − 1)/N of what is added up.
    pub fn bytes_sent(&self) -> u64 {
        let ranks = self.size as u64;
        let summed = self.summed.load(Ordering::Relaxed);
        self.sent.load(Ordering::Relaxed) + 2 * summed * (ranks - 1) / ranks
    }

    /// A call of all ranks for each piece of `values`, all under way at once.
    fn together(
        &self,
        values: &mut [f32],
        what: &'static str,
        begin: impl Fn(&mut [f32]) -> Result<Request>,
    ) -> Result<()> {
        self.check()?;
        let of = For { rank: None, what };
        // The borrow of `values` lasts until all are over, or nothing is called any more.
        let pieces = values.chunks_mut(PIECE / size_of::<f32>());
        let requests: Vec<Request> =
            pieces.map(|piece| self.begun(begin(piece), of)).collect::<Result<_>>()?;
        requests.into_iter().try_for_each(|mut request| self.wait(&mut request, of))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name(self.rank), self.size)
    }
}
