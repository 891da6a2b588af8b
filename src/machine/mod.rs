//! What the machine has to give to this process: memory and threads, asked for before they are
//! taken, so that a want of them is a sentence and not an end by the kernel's hand.

pub mod memory;
mod systems;
pub mod tasks;
pub mod threads;
