//! Copies from one GPU to another: directly where the pair has peer access, else through pinned
//! host memory. Either way they are queued and ordered by events, and the host does not wait.

use super::device::Device;
use super::driver_error;
use super::memory::{Buffer, Pinned};
use super::stream::Event;
use anyhow::{Result, bail};
use cudarc::driver::sys::{CUdevice, CUresult};
use cudarc::driver::{DeviceRepr, result, sys};
use std::ops::Range;
use std::sync::Arc;

/// The way from one GPU to another.
pub struct Link {
    from: Arc<Device>,
    to: Arc<Device>,
    /// Bytes that a copy has at most.
    most: usize,
    host: Option<Detour>,
}

/// The way through the host: from the GPU into pinned memory and from there to the other GPU, in
/// pieces, so that one goes up while the next comes down.
struct Detour {
    pieces: [Piece; 2],
}

/// Pinned memory for one piece of a copy.
struct Piece {
    staging: Pinned<u8>,
    filled: Event,  // on `from`: staging holds the piece
    emptied: Event, // on `to`: staging may be written again
}

/// Bytes of a piece: of a copy a quarter, within these bounds. Each takes some 10 µs to queue, in
/// which 12 GB/s move 128 KiB.
const PIECE: (usize, usize) = (256 << 10, 1 << 20);

/// Bytes of the pieces of a copy of so many.
fn piece_of(bytes: usize) -> usize {
    bytes.div_ceil(4).clamp(PIECE.0, PIECE.1)
}

/// Whether GPU `from` can use the memory of GPU `to`.
pub fn peer_access(from: &Device, to: &Device) -> Result<bool> {
    let device = |d: &Device| -> CUdevice { d.context().cu_device() };
    let mut can = 0;
    // SAFETY: both devices are open; the driver writes one integer to where it is told.
    unsafe { sys::cuDeviceCanAccessPeer(&mut can, device(from), device(to)) }
        .result()
        .map_err(|e| driver_error(e, "asking for peer access"))?;
    Ok(can != 0)
}

impl Link {
    /// Opens the way for copies of at most `most` bytes. Peer access is asked for, enabled and
    /// tried with one copy; if any of that fails, whatever the driver's reason, the way leads
    /// through the host. A GPU that plays both parts has access to itself.
    pub fn open(from: &Arc<Device>, to: &Arc<Device>, most: usize) -> Result<Link> {
        let mut link = Link { from: from.clone(), to: to.clone(), most, host: None };
        let peers = || peer_access(from, to).is_ok_and(|can| can && enable(from, to));
        let reachable = from.index == to.index || peers();
        if !(reachable && link.works().unwrap_or(false)) {
            let piece = || {
                let (filled, emptied) = (from.event(false)?, to.event(false)?);
                let staging = from.pinned(piece_of(most).min(most))?;
                Ok::<_, anyhow::Error>(Piece { staging, filled, emptied })
            };
            link.host = Some(Detour { pieces: [piece()?, piece()?] });
        }
        Ok(link)
    }

    /// Whether copies go directly, without the host.
    pub fn is_direct(&self) -> bool {
        self.host.is_none()
    }

    /// An event that [`Link::copy`] can record.
    pub fn event(&self) -> Result<Event> {
        if self.is_direct() { self.from.event(false) } else { self.to.event(false) }
    }

    /// Queues a copy of all of `source` to the beginning of `target`, after each of `after` (the
    /// source is written, the target no longer read), and records `done` (of [`Link::event`]).
    pub fn copy<T: DeviceRepr>(
        &self,
        source: &Buffer<T>,
        target: &Buffer<T>,
        after: &[&Event],
        done: &Event,
    ) -> Result<()> {
        let len = source.bytes();
        let right = source.device() == self.from.index && target.device() == self.to.index;
        if !right || target.bytes() < len || self.most < len {
            bail!(
                "a copy of {len} bytes from GPU {} to {} on GPU {} does not fit the link; this is \
                 an error in the program",
                source.device(),
                target.bytes(),
                target.device()
            );
        }
        for event in after {
            self.from.peer.wait_for(event)?;
        }
        let Some(host) = &self.host else {
            self.copy_directly(source, target)?;
            return self.from.peer.record(done);
        };
        let piece = piece_of(len);
        let pieces = (0..len).step_by(piece).map(|start| start..(start + piece).min(len));
        for (range, piece) in pieces.zip(host.pieces.iter().cycle()) {
            self.copy_piece(piece, source, target, range)?;
        }
        self.to.peer.record(done)
    }

    /// Queues the copy of these bytes of `source` to the same place in `target` through `piece`.
    fn copy_piece<T: DeviceRepr>(
        &self,
        piece: &Piece,
        source: &Buffer<T>,
        target: &Buffer<T>,
        range: Range<usize>,
    ) -> Result<()> {
        let (out, back) = (&self.from.peer, &self.to.peer);
        let (len, start) = (range.len(), range.start as u64);
        out.wait_for(&piece.emptied)?;
        let copy = || {
            self.from.context().bind_to_thread()?;
            let staging = piece.staging.as_ptr().cast_mut();
            // SAFETY: staging holds the largest piece of a copy as long as the link allows, and
            // lives as long as the link. The host never looks at it, so nothing else is borrowed
            // while this slice lives.
            let staging = unsafe { std::slice::from_raw_parts_mut(staging, len) };
            let from = source.pointer() + start;
            // SAFETY: the range lies within the source; before this copy the stream waits for the
            // last one out of staging, and giving back pinned memory waits for copies that are
            // under way.
            unsafe { result::memcpy_dtoh_async(staging, from, out.raw().cu_stream()) }
        };
        copy().map_err(|e| driver_error(e, "copying between GPUs through the host"))?;
        out.record(&piece.filled)?;
        back.wait_for(&piece.filled)?;
        let copy = || {
            self.to.context().bind_to_thread()?;
            let (staged, to) = (&piece.staging[..len], target.pointer() + start);
            // SAFETY: the target is as long as the source (checked by the caller), on the stream's
            // GPU; staging lives as long as the link, and the next copy into it waits for
            // `emptied`, recorded behind this one.
            unsafe { result::memcpy_htod_async(to, staged, back.raw().cu_stream()) }
        };
        copy().map_err(|e| driver_error(e, "copying between GPUs through the host"))?;
        back.record(&piece.emptied)
    }

    fn copy_directly<T: DeviceRepr>(&self, source: &Buffer<T>, target: &Buffer<T>) -> Result<()> {
        let copy = || {
            self.from.context().bind_to_thread()?;
            // SAFETY: the callers have checked that the target is as long as the source; both
            // buffers live until the copy is done, since giving them back waits for it.
            unsafe {
                result::memcpy_peer_async(
                    target.context().cu_ctx(),
                    target.pointer(),
                    source.context().cu_ctx(),
                    source.pointer(),
                    source.bytes(),
                    self.from.peer.raw().cu_stream(),
                )
            }
        };
        copy().map_err(|e| driver_error(e, "copying between GPUs"))
    }

    /// One copy there, compared: some boards report peer access and deliver something else.
    fn works(&self) -> Result<bool> {
        let sent: Vec<u8> = (0..1024).map(|i| i as u8).collect();
        let source = self.from.buffer_of(&sent)?;
        let target = self.to.buffer_of(&vec![0xff; sent.len()])?;
        let mut received = vec![0; sent.len()];
        self.copy_directly(&source, &target)?;
        self.from.peer.wait()?;
        self.to.compute.read(&target, &mut received)?;
        Ok(received == sent)
    }
}

/// Enables access from `from` to the memory of `to`; `false` where the driver refuses.
fn enable(from: &Device, to: &Device) -> bool {
    let enable = || {
        from.context().bind_to_thread()?;
        // SAFETY: the context belongs to `to`, which outlives the call; the flags have to be 0.
        unsafe { sys::cuCtxEnablePeerAccess(to.context().cu_ctx(), 0) }.result()
    };
    match enable() {
        Ok(()) => true,
        Err(e) => e.0 == CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED,
    }
}
