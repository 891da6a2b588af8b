//! The program as a process that signals reach: what it says while it runs, and how it ends.

use crate::common::World;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Nothing here takes so long, whatever else the machine has to do.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Process {
    child: Child,
    lines: Receiver<String>,
    /// What it has said so far, on standard error.
    pub said: Vec<String>,
}

impl Process {
    /// The program with `args` (words) in the folder of `world`.
    pub fn start(world: &World, args: &str) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alexnet"));
        command.args(args.split_whitespace());
        Process::of(world, command)
    }

    /// A shell with `script` in which `alexnet` is the program.
    pub fn shell(world: &World, script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", &script.replace("alexnet", env!("CARGO_BIN_EXE_alexnet"))]);
        Process::of(world, command)
    }

    fn of(world: &World, mut command: Command) -> Process {
        command.current_dir(world.folder.path()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Tests in the background of a shell have SIGINT and SIGQUIT ignored, and hand that down.
        let as_usual = || {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
                // SAFETY: a process that has just begun has nothing that the default could upset.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            Ok(())
        };
        // SAFETY: signal() may be called between fork and exec.
        let mut child = unsafe { command.pre_exec(as_usual) }.spawn().unwrap();
        let text = BufReader::new(child.stderr.take().unwrap());
        let (to, lines) = channel();
        std::thread::spawn(move || text.lines().map_while(Result::ok).try_for_each(|l| to.send(l)));
        let mut process = Process { child, lines, said: Vec::new() };
        process.wait_until("hears signals", |p| p.catches(libc::SIGTERM));
        process
    }

    /// Whether it has a handler for the signal by now, or is gone.
    fn catches(&mut self, signal: i32) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:")).unwrap_or("0");
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        caught >> (signal - 1) & 1 == 1 || self.child.try_wait().unwrap().is_some()
    }

    #[track_caller]
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut(&mut Process) -> bool) {
        let begun = Instant::now();
        while !ready(self) {
            assert!(begun.elapsed() < PATIENCE, "it never {what}: {:#?}", self.said);
            sleep(Duration::from_millis(1));
        }
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: the child is this process's own and has not been waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// Waits until it says a line with `words`.
    #[track_caller]
    pub fn hear(&mut self, words: &str) {
        let begun = Instant::now();
        while !self.said.last().is_some_and(|line| line.contains(words)) {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said.push(line),
                Err(_) => panic!("no {words:?} in {:#?}", self.said),
            }
        }
    }

    /// Its exit code, and all it has said.
    pub fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        self.said.extend(self.lines.iter());
        (status.code(), self.said.join("\n"))
    }
}
