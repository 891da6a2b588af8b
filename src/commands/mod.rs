//! One file a command; each reads like a summary of what it does.

pub mod data;
pub mod prepare;
