//! Arguments to a command, errors to exit codes.

use alexnet::commands::{Arguments, run};
use alexnet::errors::{complain, exit, exit_code, install_panic_hook, sentence};
use alexnet::interrupt;
use clap::Parser;

fn main() {
    install_panic_hook();
    let arguments = Arguments::parse();
    let heard = interrupt::watch(arguments.if_stopped());
    if let Err(error) = heard.and_then(|()| run(arguments)) {
        complain(&format!("error: {}", sentence(&error)));
        exit(exit_code(&error));
    }
    exit(0);
}
