//! The launchers of this machine, and runs under them that always come to an end.

use crate::common::World;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Nothing here takes so long, whatever else the machine has to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// A way to start several processes.
pub struct Launcher {
    pub name: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
    /// Names its library.
    pub variables: Vec<(&'static str, String)>,
}

impl Launcher {
    pub fn is_open_mpi(&self) -> bool {
        self.name == "Open MPI"
    }

    /// Open MPI is to wait until its processes have saved, before it kills them. Version 4 waits as
    /// long before it tells them to end, so that 3 seconds, not 30, keep tests short.
    pub fn patient(mut self) -> Launcher {
        self.variables.push(("OMPI_MCA_odls_base_sigkill_timeout", "3".into()));
        self
    }

    /// The command that starts `ranks` processes of the program with `args` (words).
    fn command(&self, groups: &[(usize, &str)], program: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.arguments);
        for (number, (ranks, args)) in groups.iter().enumerate() {
            if number > 0 {
                command.arg(":");
            }
            command.args(["-n", &ranks.to_string()]).arg(program).args(args.split_whitespace());
        }
        // Tests may run as root in a container; ranks outnumber cores.
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// The launchers that are here, one of each kind of library.
pub fn all() -> Vec<Launcher> {
    let mut found = Vec::new();
    let mut add = |name, programs: &[PathBuf], arguments, variables| {
        if let Some(program) = programs.iter().find(|program| program.exists()) {
            found.push(Launcher { name, program: program.clone(), arguments, variables });
        }
    };
    let of_debian = |name: &str| [PathBuf::from("/usr/bin").join(name)];
    let open: &[&str] = &["--oversubscribe", "--bind-to", "none"];
    add("Open MPI", &of_debian("mpirun.openmpi"), open, Vec::new());
    add("MPICH", &of_debian("mpiexec.hydra"), &[], Vec::new());
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mpi");
    let standard = installed.join("lib/libmpi_abi.so.1");
    let own = [installed.join("bin/mpiexec")];
    add("MPICH 5", &own, &[], Vec::new());
    if standard.exists() {
        let named = vec![("ALEXNET_MPI", standard.display().to_string())];
        add("the standard's ABI", &own, &[], named);
    }
    if found.is_empty() {
        eprintln!("skipped: there is no MPI here (.ci/mpi installs three)");
    }
    found
}

/// The first of them.
pub fn any() -> Option<Launcher> {
    all().into_iter().next()
}

/// A launcher at work, and what it and its processes say.
pub struct Running {
    child: Child,
    said: PathBuf,
    /// What the command lines of its processes have in them.
    mark: String,
}

impl Running {
    /// `ranks` processes with `args` (words) in the folder of `world`; `--run FOLDER` in it must be
    /// another one for each test.
    pub fn start(world: &World, launcher: &Launcher, ranks: usize, args: &str) -> Running {
        Running::start_groups(world, launcher, &[(ranks, args)])
    }

    /// As [`Running::start`], some processes with other arguments than others.
    pub fn start_groups(world: &World, launcher: &Launcher, groups: &[(usize, &str)]) -> Running {
        let command = launcher.command(groups, Path::new(env!("CARGO_BIN_EXE_alexnet")));
        Running::of(world, command)
    }

    /// As [`Running::start`], with variables.
    pub fn start_with(
        world: &World,
        launcher: &Launcher,
        ranks: usize,
        args: &str,
        variables: &[(&str, &str)],
    ) -> Running {
        let program = Path::new(env!("CARGO_BIN_EXE_alexnet"));
        let mut command = launcher.command(&[(ranks, args)], program);
        command.envs(variables.iter().copied());
        Running::of(world, command)
    }

    /// As [`Running::start_groups`], of two processes the second with another file of the program.
    pub fn start_two(world: &World, launcher: &Launcher, args: &str, other: &Path) -> Running {
        let mut command = launcher.command(&[(1, args)], Path::new(env!("CARGO_BIN_EXE_alexnet")));
        command.args([":", "-n", "1"]).arg(other).args(args.split_whitespace());
        Running::of(world, command)
    }

    fn of(world: &World, mut command: Command) -> Running {
        let folder = world.folder.path();
        let said = folder.join(format!("said-{:?}", std::thread::current().id()));
        let file = File::create(&said).unwrap();
        let as_usual = || {
            // Tests in the background of a shell have these ignored, and hand that down.
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
                // SAFETY: a process that has just begun has nothing that the default could upset.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            Ok(())
        };
        command.current_dir(folder).stdin(Stdio::null()).process_group(0);
        command.stdout(file.try_clone().unwrap()).stderr(file);
        // SAFETY: signal() may be called between fork and exec.
        let child = unsafe { command.pre_exec(as_usual) }.spawn().unwrap();
        Running { child, said, mark: folder.display().to_string() }
    }

    /// What has been said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.said).unwrap_or_default()).into_owned()
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, ready: impl Fn(&Running) -> bool) {
        let begun = Instant::now();
        while !ready(self) {
            assert!(begun.elapsed() < PATIENCE, "never: {what}: {}", self.said());
            sleep(Duration::from_millis(2));
        }
    }

    /// The processes that are ranks and still there, by rank where it is known.
    pub fn ranks(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(process) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let folder = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            let program = fs::read_link(entry.path().join("exe")).unwrap_or_default();
            // A zombie has neither.
            if folder.display().to_string() == self.mark
                && program.file_name().is_some_and(|name| name == "alexnet")
            {
                found.push(process);
            }
        }
        found.sort_unstable();
        found
    }

    /// Sends `signal` to the launcher.
    pub fn signal(&self, signal: i32) {
        send(self.child.id(), signal);
    }

    /// Waits until no rank is left, and says how long that took.
    #[track_caller]
    pub fn ranks_end(&self) -> Duration {
        let begun = Instant::now();
        self.wait_until("the ranks end", |running| running.ranks().is_empty());
        begun.elapsed()
    }

    /// Its exit code and all that was said. Open MPI 4 waits longer for ranks that have ended than
    /// is worth waiting for: then it is ended.
    pub fn end(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                self.kill();
                panic!("it never ends: {}", self.said());
            }
            sleep(Duration::from_millis(5));
        };
        (status.code(), self.said())
    }

    /// Ends the launcher, whatever it waits for; all that was said.
    pub fn kill(&mut self) -> String {
        for process in self.ranks() {
            send(process, libc::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.said()
    }
}

pub fn send(process: u32, signal: i32) {
    // SAFETY: two numbers.
    unsafe { libc::kill(process as i32, signal) };
}
