//! PID 1: it mounts, starts what does the work, reaps, restarts, and ends the machine when asked.
//!
//! The kernel panics when PID 1 ends. So nothing here returns or gives up, the work is done by
//! children, and a panic starts the supervisor anew in the same process.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cmdline::{Request, Then};
use crate::consoles::{self, Console};
use crate::power::Power;
use crate::{log as kernel_log, mounts, sys};

/// Set for every child: PID 1 is ours and takes requests.
pub const SUPERVISED: &str = "LIFEBOAT_SUPERVISED";

/// The program of PID 1 and its children, wherever it lies.
pub const OURSELVES: &str = "/proc/self/exe";

/// How often the supervisor has started anew after a panic.
const RESTARTS: &str = "LIFEBOAT_RESTARTS";

/// A menu that ends this often in a row within [`SOON`] gives way to a shell.
const ENOUGH: u32 = 3;
const SOON: Duration = Duration::from_secs(10);

/// Runs for ever.
pub fn run() -> ! {
    survive_panics();
    let failures = mounts::set_up();
    kernel_log::start("init");
    for failure in failures {
        log::error!("cannot be set up: {failure}");
    }
    let mut request = Request::read();
    for word in &request.unknown {
        log::warn!("{word} on the kernel command line means nothing to the rescue image");
    }
    if restarts() >= ENOUGH {
        log::error!("started anew {} times: shells instead of menus", restarts());
        request.shell = true;
    }
    if restarts() > 0 && !request.run.is_empty() {
        log::error!("the commands of the kernel command line may have run already: not again");
        request.run.clear();
    }
    let mut supervisor = Supervisor::new(request);
    loop {
        supervisor.turn();
    }
}

/// Something that always runs.
#[derive(Debug)]
struct Service {
    work: Work,
    state: State,
    /// How often in a row it ended soon.
    failures: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Work {
    /// Loads modules and looks for BEs, also for what appears later.
    Hardware,
    /// The commands of the kernel command line; once.
    Unattended,
    /// The menu, or a shell in its place.
    Menu(Console),
}

#[derive(Debug)]
enum State {
    Due(Instant),
    Running { pid: i32, since: Instant },
    Done,
}

#[derive(Debug)]
struct Supervisor {
    request: Request,
    signals: Option<SignalFd>,
    services: Vec<Service>,
}

impl Supervisor {
    fn new(request: Request) -> Self {
        let mut supervisor = Supervisor { signals: signals(), services: Vec::new(), request };
        supervisor.add(Work::Hardware);
        if !supervisor.request.debug {
            // Only what the kernel says when it dies may write over the menu.
            if let Err(why) = fs::write("/proc/sys/kernel/printk", "1") {
                log::warn!("/proc/sys/kernel/printk: {why}");
            }
        }
        if supervisor.request.run.is_empty() {
            supervisor.add_menus();
        } else {
            supervisor.add(Work::Unattended);
        }
        supervisor
    }

    /// Adds a service and starts it.
    fn add(&mut self, work: Work) {
        self.services.push(Service { work, state: State::Due(Instant::now()), failures: 0 });
        self.start_due();
    }

    fn add_menus(&mut self) {
        let consoles = consoles::find();
        if consoles.is_empty() {
            log::error!("no console to show a menu on: give console= on the kernel command line");
        }
        for console in consoles {
            self.add(Work::Menu(console));
        }
    }

    /// Starts what is due, waits for something to happen, and takes note of it.
    fn turn(&mut self) {
        self.start_due();
        match self.wait() {
            Some(Signal::SIGCHLD) | None => {}
            Some(other) => {
                if let Some(power) = Power::asked_by(other) {
                    self.end_machine(power);
                }
            }
        }
        self.reap();
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        for service in &mut self.services {
            if !matches!(service.state, State::Due(when) if when <= now) {
                continue;
            }
            service.state = match service.start(&self.request) {
                Ok(pid) => State::Running { pid, since: now },
                Err(why) => {
                    log::error!("{} cannot be started: {why}", service.name());
                    service.failures += 1;
                    State::Due(now + service.pause())
                }
            };
        }
    }

    /// Sleeps until a signal comes or something is due.
    fn wait(&mut self) -> Option<Signal> {
        let now = Instant::now();
        let due = |service: &Service| match service.state {
            State::Due(when) => Some(when.saturating_duration_since(now)),
            _ => None,
        };
        let patience =
            self.services.iter().filter_map(due).min().unwrap_or(Duration::from_secs(60));
        let Some(signals) = &self.signals else {
            // Without signals children are still reaped, and nothing more can be done.
            thread::sleep(patience.min(Duration::from_millis(200)));
            return None;
        };
        let mut ready = [PollFd::new(signals, PollFlags::IN)];
        let patience = Timespec {
            tv_sec: patience.as_secs().cast_signed(),
            tv_nsec: patience.subsec_nanos().into(),
        };
        if poll(&mut ready, Some(&patience)).is_err() {
            return None;
        }
        let info = signals.read_signal().ok().flatten()?;
        Signal::try_from(info.ssi_signo.cast_signed()).ok()
    }

    /// Takes every child that has ended, also those that others left behind.
    fn reap(&mut self) {
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("exited with status {code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("was ended by {signal}")),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            let of_service = |s: &&mut Service| matches!(s.state, State::Running { pid: p, .. } if p == pid.as_raw());
            if let Some(service) = self.services.iter_mut().find(of_service) {
                log::info!("{} {status}", service.name());
                service.ended();
                if service.work == Work::Unattended {
                    service.state = State::Done;
                    self.after_unattended();
                }
            }
        }
    }

    fn after_unattended(&mut self) {
        let power = match self.request.then {
            Then::Menu => None,
            Then::Reboot => Some(Power::Reboot),
            Then::PowerOff => Some(Power::Off),
        };
        if let Some(power) = power {
            self.end_machine(power);
        }
        self.add_menus();
    }

    /// Returns only when that failed, and then every service is to start anew: all were ended and
    /// reaped with it.
    fn end_machine(&mut self, power: Power) {
        let why = power.carry_out();
        log::error!("the machine cannot be restarted or switched off: {why}");
        let was_unattended =
            |s: &Service| s.work == Work::Unattended && matches!(s.state, State::Running { .. });
        let needs_menus = self.services.iter().any(was_unattended);
        self.services.iter_mut().for_each(Service::ended_with_all);
        if needs_menus {
            self.add_menus();
        }
    }
}

impl Service {
    fn name(&self) -> String {
        match &self.work {
            Work::Hardware => "hardware".into(),
            Work::Unattended => "the unattended command".into(),
            Work::Menu(console) => format!("the menu on {}", console.name),
        }
    }

    fn start(&self, request: &Request) -> io::Result<i32> {
        let mut command = match &self.work {
            Work::Hardware => child(&["hardware"]),
            Work::Unattended => child(&["unattended"]),
            Work::Menu(console) => self.on_console(console, request)?,
        };
        // The handle is dropped: every child is reaped by `waitpid`, whoever started it.
        Ok(command.spawn()?.id().cast_signed())
    }

    fn on_console(&self, console: &Console, request: &Request) -> io::Result<Command> {
        let terminal = console.open()?;
        let mut command = if request.shell || self.failures >= ENOUGH {
            log::warn!("a shell on {}", console.name);
            with_environment(Command::new("/bin/sh"), &["-l"])
        } else {
            child(&["menu", "--console", &console.name])
        };
        let given = env::var("TERM").ok();
        command
            .env("TERM", console.terminal(given.as_deref()))
            .stdin(terminal.try_clone()?)
            .stdout(terminal.try_clone()?)
            .stderr(Stdio::from(terminal));
        sys::lead_session_on_stdin(&mut command);
        Ok(command)
    }

    /// Notes its end, and when it is to start again.
    fn ended(&mut self) {
        let lasted = match self.state {
            State::Running { since, .. } => since.elapsed(),
            _ => Duration::ZERO,
        };
        // A shell that stood in for the menu gives way to it.
        let was_shell = self.failures >= ENOUGH;
        self.failures = if lasted < SOON && !was_shell { self.failures + 1 } else { 0 };
        self.state = State::Due(Instant::now() + self.pause());
    }

    /// Notes its end together with all others, which says nothing about it. Unattended commands are
    /// not run again.
    fn ended_with_all(&mut self) {
        if matches!(self.state, State::Running { .. }) {
            let is_over = self.work == Work::Unattended;
            self.state = if is_over { State::Done } else { State::Due(Instant::now()) };
        }
    }

    fn pause(&self) -> Duration {
        match self.failures {
            0 | 1 => Duration::from_millis(100),
            2 | 3 => Duration::from_secs(1),
            _ => Duration::from_secs(5),
        }
    }
}

/// One of our own programs.
pub fn child(arguments: &[&str]) -> Command {
    with_environment(Command::new(OURSELVES), arguments)
}

fn with_environment(mut command: Command, arguments: &[&str]) -> Command {
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("SHELL", "/bin/sh")
        .env("PS1", "rescue:\\w# ")
        .env("LC_ALL", "C.UTF-8")
        .env(SUPERVISED, "1")
        .current_dir("/root");
    command
}

/// The signals PID 1 hears. Blocked, as they are read; children start with none blocked.
fn signals() -> Option<SignalFd> {
    let mut set = SigSet::empty();
    for signal in
        [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGUSR2]
    {
        set.add(signal);
    }
    // Ctrl-Alt-Del becomes SIGINT instead of a reset that loses what was not written.
    if let Err(why) = nix::sys::reboot::set_cad_enabled(false) {
        log::warn!("Ctrl-Alt-Del resets the machine at once: {why}");
    }
    let made = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)
        .and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK));
    match made {
        Ok(signals) => Some(signals),
        Err(why) => {
            log::error!("signals cannot be heard: {why}");
            None
        }
    }
}

fn restarts() -> u32 {
    env::var(RESTARTS).ok().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Instead of ending, a supervisor that panics becomes a new one. The children it had keep running
/// until the new one starts its own, so they are ended first.
fn survive_panics() {
    std::panic::set_hook(Box::new(|info| {
        log::error!("{info}");
        thread::sleep(Duration::from_secs(1));
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), Signal::SIGKILL);
        let again = restarts().saturating_add(1).to_string();
        let mut command = Command::new(OURSELVES);
        std::os::unix::process::CommandExt::arg0(&mut command, "/init");
        let why = std::os::unix::process::CommandExt::exec(command.env(RESTARTS, again));
        log::error!("the supervisor cannot start anew: {why}");
        loop {
            thread::sleep(Duration::from_secs(60));
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn menu(failures: u32, lasted: Duration) -> Service {
        let state = State::Running { pid: 1, since: Instant::now() - lasted };
        Service { work: Work::Menu(Console { name: "ttyS0".into() }), state, failures }
    }

    #[test]
    fn a_menu_that_ends_soon_is_counted_and_one_that_lasted_is_not() {
        let mut soon = menu(1, Duration::ZERO);
        soon.ended();
        let mut late = menu(1, SOON * 2);
        late.ended();
        assert_eq!((soon.failures, late.failures), (2, 0));
        assert!(matches!(soon.state, State::Due(_)) && matches!(late.state, State::Due(_)));
    }

    #[test]
    fn after_the_shell_comes_the_menu_again() {
        let mut shell = menu(ENOUGH, Duration::ZERO);
        shell.ended();
        assert_eq!(shell.failures, 0);
    }

    #[test]
    fn after_a_restart_that_failed_all_start_anew_but_the_commands() {
        let since = Instant::now();
        let mut unattended = Service {
            work: Work::Unattended,
            state: State::Running { pid: 2, since },
            failures: 0,
        };
        let mut menu = menu(1, Duration::ZERO);
        for service in [&mut unattended, &mut menu] {
            service.ended_with_all();
        }
        assert!(matches!(unattended.state, State::Done));
        assert!(matches!(menu.state, State::Due(_)) && menu.failures == 1);
    }
}
