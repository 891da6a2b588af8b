//! Arguments to a command, errors to exit codes.

use alexnet::commands::{Arguments, run};
use alexnet::errors::{exit_code, install_panic_hook, sentence};
use alexnet::{interrupt, note};
use clap::Parser;

fn main() {
    install_panic_hook();
    let arguments = Arguments::parse();
    if let Err(error) = interrupt::watch().and_then(|()| run(arguments)) {
        note!("error: {}", sentence(&error));
        std::process::exit(exit_code(&error));
    }
}
