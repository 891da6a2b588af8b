//! Arguments to a command, errors to exit codes.

use alexnet::commands::{Arguments, run};
use alexnet::errors::{exit_code, sentence};
use alexnet::note;
use clap::Parser;

fn main() {
    if let Err(error) = run(Arguments::parse()) {
        note!("error: {}", sentence(&error));
        std::process::exit(exit_code(&error));
    }
}
