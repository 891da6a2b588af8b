//! How an engine's gradients are joined with those of other processes while it still computes others.

use crate::layers::softmax::Tally;
use anyhow::Result;

/// The other processes, as an engine sees them in one step. Gradients are sent in the same order by
/// all of them, each with a key of its own.
pub trait Exchange {
    /// Tells the others this process's `tally`; that of the whole batch.
    ///
    /// # Errors
    /// What has ended another process, or keeps it from answering. Nothing has been sent yet.
    fn agree(&mut self, tally: Tally) -> Result<Tally>;
    /// A gradient that is complete here, on its way from now on.
    fn send(&mut self, key: usize, gradient: Vec<f32>);
    /// All are on their way.
    fn flush(&mut self);
    /// The sum of all processes' gradients of this key, in the memory that was sent.
    ///
    /// # Errors
    /// As [`Exchange::agree`]; the gradients are lost.
    fn receive(&mut self, key: usize) -> Result<Vec<f32>>;
}
