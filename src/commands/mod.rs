//! The commands, one file each. Results go to standard output, progress and logs to standard error.

pub mod bench;
pub mod codes;
pub mod data;
pub mod devices;
pub mod eval;
pub mod export;
pub mod features;
pub mod filters;
pub mod guides;
mod images;
pub mod import;
mod inside;
pub mod inspect;
pub mod maps;
pub mod model;
pub mod neighbours;
mod outputs;
mod own_gpus;
pub mod plot;
pub mod predict;
pub mod prepare;
pub mod report;
mod right_label;
pub mod runs;
pub mod saliency;
mod same_data;
mod table;
pub mod train;

use crate::files::open_files;
use crate::log;
use crate::machine::threads;
use crate::mpi::{self, Team};
use crate::vectors;
use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};
use std::io::Write;

/// Train, evaluate and use the network of Krizhevsky, Sutskever and Hinton 2012.
///
/// Start with `alexnet train --config configs/demo.toml`: it trains a small network on the images
/// that come with the configs, in a few minutes, and says what to try next.
#[derive(Parser, Debug)]
#[command(name = "alexnet", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Threads that compute; all cores by default. The results do not depend on it.
    #[arg(
        long,
        global = true,
        value_name = "N",
        display_order = 100,
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    threads: Option<u16>,
    /// Say nothing but results and errors.
    #[arg(short, long, global = true, display_order = 101, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more of what is done.
    #[arg(short, long, global = true, display_order = 102)]
    verbose: bool,
}

const EXAMPLES: &str = "Examples:
  alexnet train --config configs/demo.toml
  alexnet prepare image-folder photos --out data/photos --size 128
  alexnet train --config own-images --data data/photos
  alexnet predict photo.jpg
Each command's --help has more.";

/// Each command's help is the documentation of its `Args`.
#[derive(Subcommand, Debug)]
enum Command {
    Prepare(prepare::Args),
    Data(data::Args),
    Import(import::Args),
    Train(train::Args),
    Eval(eval::Args),
    Predict(predict::Args),
    Export(export::Args),
    Filters(filters::Args),
    Maps(maps::Args),
    Saliency(saliency::Args),
    Plot(plot::Args),
    Features(features::Args),
    Neighbours(neighbours::Args),
    Codes(codes::Args),
    Runs(runs::Args),
    Report(report::Args),
    Inspect(inspect::Args),
    Bench(bench::Args),
    Devices(devices::Args),
    Completions(guides::Completions),
    Man(guides::Man),
}

impl Arguments {
    /// What it means that a signal ends the command before it has anything to save.
    pub fn if_stopped(&self) -> &'static str {
        match self.command {
            Command::Prepare(_) => "the same command goes on where it stopped",
            Command::Train(_) => "no step had been done",
            _ => "",
        }
    }
}

/// Carries out one command line.
pub fn run(arguments: Arguments) -> Result<()> {
    log::set_level(arguments.quiet, arguments.verbose);
    vectors::asked()?;
    open_files::raise();
    let team = arguments.command.team()?;
    let result = threads::start(arguments.threads.map(usize::from).or(team.threads()));
    team.end(result.and_then(|()| carry_out(arguments.command, team)))
}

impl Command {
    /// The processes that a launcher has started for it.
    fn team(&self) -> Result<Team> {
        let name = match self {
            Command::Train(args) => return mpi::join(args.mpi),
            Command::Eval(_) => return mpi::join(false),
            Command::Prepare(_) => "prepare",
            Command::Data(_) => "data",
            Command::Import(_) => "import",
            Command::Predict(_) => "predict",
            Command::Export(_) => "export",
            Command::Filters(_) => "filters",
            Command::Maps(_) => "maps",
            Command::Saliency(_) => "saliency",
            Command::Plot(_) => "plot",
            Command::Features(_) => "features",
            Command::Neighbours(_) => "neighbours",
            Command::Codes(_) => "codes",
            Command::Runs(_) => "runs",
            Command::Report(_) => "report",
            Command::Inspect(_) => "inspect",
            Command::Bench(_) => "bench",
            Command::Devices(_) => "devices",
            Command::Completions(_) => "completions",
            Command::Man(_) => "man",
        };
        mpi::refuse(name)?;
        Ok(Team::alone())
    }
}

fn carry_out(command: Command, team: Team) -> Result<()> {
    match command {
        Command::Prepare(args) => prepare::run(args),
        Command::Data(args) => data::run(args),
        Command::Import(args) => import::run(args),
        Command::Train(args) => train::run(args, team),
        Command::Eval(args) => eval::run(args, team),
        Command::Predict(args) => predict::run(args),
        Command::Export(args) => export::run(args),
        Command::Filters(args) => filters::run(args),
        Command::Maps(args) => maps::run(args),
        Command::Saliency(args) => saliency::run(args),
        Command::Plot(args) => plot::run(args),
        Command::Features(args) => features::run(args),
        Command::Neighbours(args) => neighbours::run(args),
        Command::Codes(args) => codes::run(args),
        Command::Runs(args) => runs::run(args),
        Command::Report(args) => report::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Completions(args) => guides::completions(&args, Arguments::command()),
        Command::Man(args) => guides::man(&args, Arguments::command()),
    }
}

/// A result, on standard output. A reader that has gone away (`| head`) ends the program quietly.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|_| out.flush()) {
        Err(e) if is_gone(&e) => std::process::exit(0),
        result => result.context("standard output cannot be written"),
    }
}

/// Whether nobody reads any more. Windows has another error for it besides: `ERROR_PIPE_NOT_CONNECTED`.
fn is_gone(error: &std::io::Error) -> bool {
    let is_not_connected = cfg!(windows) && error.raw_os_error() == Some(233);
    is_not_connected || error.kind() == std::io::ErrorKind::BrokenPipe
}
