//! Arguments to a command, errors to exit codes.

use alexnet::commands::{Arguments, run};
use alexnet::errors::{complain, exit, exit_code, install_panic_hook, sentence};
use alexnet::{interrupt, quoting};
use clap::Parser;
use console::style;

fn main() {
    install_panic_hook();
    quoting::as_called();
    let arguments = Arguments::parse();
    let heard = interrupt::watch(arguments.if_stopped());
    if let Err(error) = heard.and_then(|()| run(arguments)) {
        let word = style("error:").for_stderr().red().bold();
        complain(&format!("{word} {}", sentence(&error)));
        exit(exit_code(&error));
    }
    exit(0);
}
