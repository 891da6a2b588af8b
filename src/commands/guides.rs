//! `alexnet completions` and `alexnet man`: what a shell and `man` know of the commands.

use super::print;
use crate::config_error;
use anyhow::{Context, Result};
use clap::Command;
use clap_complete::Shell;
use std::path::PathBuf;

/// Print what a shell needs to complete commands and options.
#[derive(clap::Args, Debug)]
#[command(after_help = SHELLS)]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

const SHELLS: &str = "Examples:
  alexnet completions bash > ~/.local/share/bash-completion/completions/alexnet
  alexnet completions zsh > ~/.zfunc/_alexnet
  alexnet completions fish > ~/.config/fish/completions/alexnet.fish";

/// Print the manual's page of a command, or write all pages into a folder.
#[derive(clap::Args, Debug)]
#[command(after_help = PAGES)]
pub struct Man {
    /// The command [default: alexnet itself].
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Option<String>,
    /// A folder for the pages of all commands.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

const PAGES: &str = "Examples:
  alexnet man train | man -l -
  alexnet man --out ~/.local/share/man/man1";

/// Prints the script.
pub fn completions(args: &Completions, mut all: Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut all, "alexnet", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())
}

/// Prints a page, or writes all.
pub fn man(args: &Man, all: Command) -> Result<()> {
    if let Some(folder) = &args.out {
        let context = || format!("the pages cannot be written into {}", folder.display());
        std::fs::create_dir_all(folder).with_context(context)?;
        clap_mangen::generate_to(all, folder).with_context(context)?;
        return print(&format!("{}: alexnet.1 and a page for each command", folder.display()));
    }
    let mut all = all;
    // Names of commands with the program's before them.
    all.build();
    let command = match &args.command {
        None => all,
        Some(name) => all
            .find_subcommand(name)
            .cloned()
            .ok_or_else(|| config_error!("{name:?} is no command; alexnet --help lists them"))?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    print(String::from_utf8_lossy(&page).trim_end())
}
