//! PID 1: mounts file systems, starts, reaps and restarts its children, and shuts the machine down.
//!
//! The kernel panics if PID 1 exits. So nothing here returns or gives up, children do the work, and
//! after a panic the process executes the supervisor again.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::child::{OWN_PROGRAM, child, command, with_environment};
use crate::cmdline::{AfterCommands, Options};
use crate::consoles::{self, Console};
use crate::power::Power;
use crate::unattended::Ending;
use crate::{log as kernel_log, mounts, scan, sys};

/// How often the supervisor has restarted after a panic.
const RESTARTS: &str = "LIFEBOAT_RESTARTS";

/// A menu that exits this often in a row, each time within [`SHORT_LIFETIME`], is replaced by a
/// shell.
const MAX_FAILURES: u32 = 3;
const SHORT_LIFETIME: Duration = Duration::from_secs(10);

/// How often new consoles are looked for. `/proc/consoles` has no event for them.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Exists while PID 1 obeys the signals of [`Power`]. `be boot` looks for it.
const REQUESTS: &str = "/run/rescue-init/supervisor";

/// Runs the supervisor. Never returns.
pub fn run() -> ! {
    survive_panics();
    let failures = mounts::set_up();
    kernel_log::start("init");
    for failure in failures {
        log::error!("setting up the system: {failure}");
    }
    let mut options = Options::read();
    for word in &options.unknown {
        log::warn!("{word} on the kernel command line is unknown to the rescue image");
    }
    if restarts() >= MAX_FAILURES {
        log::error!("restarted {} times: starting shells instead of menus", restarts());
        options.shell = true;
    }
    if restarts() > 0 && !options.run.is_empty() {
        log::error!("not running the unattended commands, because they may have run already");
        options.run.clear();
    }
    let mut supervisor = Supervisor::new(options);
    loop {
        supervisor.step();
    }
}

/// A child that is restarted whenever it exits.
#[derive(Debug)]
struct Service {
    kind: ServiceKind,
    state: State,
    /// How often in a row it exited within [`SHORT_LIFETIME`].
    failures: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum ServiceKind {
    /// Loads modules and scans disks, including those that appear later.
    Hardware,
    /// The commands of the kernel command line, which run once.
    Unattended,
    /// Feeds the machine's watchdog.
    Watchdog,
    /// The menu, or a shell instead of it.
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
    options: Options,
    signals: Option<SignalFd>,
    services: Vec<Service>,
    /// When consoles for menus were last looked for; `None` if there are to be no menus yet.
    looked: Option<Instant>,
}

impl Supervisor {
    fn new(options: Options) -> Self {
        let signals = signals();
        if signals.is_some()
            && let Err(error) = accept_requests()
        {
            log::warn!("{REQUESTS}: {error}");
        }
        let mut supervisor = Supervisor { signals, services: Vec::new(), options, looked: None };
        supervisor.add(ServiceKind::Hardware);
        supervisor.add(ServiceKind::Watchdog);
        if !supervisor.options.debug {
            // Only the messages of a kernel panic may overwrite the menu.
            if let Err(error) = fs::write("/proc/sys/kernel/printk", "1") {
                log::warn!("/proc/sys/kernel/printk: {error}");
            }
        }
        if supervisor.options.run.is_empty() {
            supervisor.add_menus();
        } else {
            supervisor.add(ServiceKind::Unattended);
        }
        supervisor
    }

    /// Adds a service and starts it.
    fn add(&mut self, kind: ServiceKind) {
        self.services.push(Service { kind, state: State::Due(Instant::now()), failures: 0 });
        self.start_due();
    }

    /// Starts a menu on each console, and from now on on those that appear.
    fn add_menus(&mut self) {
        self.add_new_menus();
        if !self.services.iter().any(|s| matches!(s.kind, ServiceKind::Menu(_))) {
            log::error!("no console for a menu yet; give console= on the kernel command line");
        }
    }

    /// Starts a menu on each console that has none: a driver that is loaded later may bring one.
    fn add_new_menus(&mut self) {
        self.looked = Some(Instant::now());
        for console in consoles::find() {
            match self.services.iter_mut().find(|service| service.is_menu_on(&console)) {
                None => self.add(ServiceKind::Menu(console)),
                // It was gone, and is here again.
                Some(service) if matches!(service.state, State::Done) => {
                    service.state = State::Due(Instant::now());
                }
                Some(_) => {}
            }
        }
    }

    /// Starts the services that are due, waits for an event and handles it.
    fn step(&mut self) {
        if self.looked.is_some_and(|looked| looked.elapsed() >= LOOK_INTERVAL) {
            self.add_new_menus();
        }
        self.start_due();
        match self.wait() {
            Some(Signal::SIGCHLD) | None => {}
            Some(other) => match Power::from_signal(other) {
                Some(power) if power.is_possible() => self.end_machine(power),
                Some(power) => log::warn!("{power:?} was requested and is not possible"),
                None => {}
            },
        }
        self.reap();
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        for service in &mut self.services {
            if !matches!(service.state, State::Due(when) if when <= now) {
                continue;
            }
            service.state = match service.start(&self.options) {
                Ok(pid) => State::Running { pid, since: now },
                // A serial adapter was unplugged.
                Err(error) if service.is_gone() => {
                    log::warn!("{} ends: {error}", service.name());
                    State::Done
                }
                Err(error) => {
                    log::error!("{} cannot be started: {error}", service.name());
                    service.failures += 1;
                    State::Due(now + service.pause())
                }
            };
        }
    }

    /// Sleeps until a signal arrives or a service is due.
    fn wait(&mut self) -> Option<Signal> {
        let now = Instant::now();
        let due = |service: &Service| match service.state {
            State::Due(when) => Some(when.saturating_duration_since(now)),
            _ => None,
        };
        let look = self.looked.map(|looked| LOOK_INTERVAL.saturating_sub(looked.elapsed()));
        let timeout = self.services.iter().filter_map(due).chain(look).min();
        let timeout = timeout.unwrap_or(Duration::from_secs(60));
        let Some(signals) = &self.signals else {
            // Without signals, children are still reaped, but requests are not received.
            thread::sleep(timeout.min(Duration::from_millis(200)));
            return None;
        };
        let mut ready = [PollFd::new(signals, PollFlags::IN)];
        let timeout = Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        if poll(&mut ready, Some(&timeout)).is_err() {
            return None;
        }
        let info = signals.read_signal().ok().flatten()?;
        Signal::try_from(info.ssi_signo.cast_signed()).ok()
    }

    /// Reaps all children that have exited, including orphans of other processes.
    fn reap(&mut self) {
        loop {
            let (pid, code, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => {
                    (pid, Some(code), format!("exited with status {code}"))
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, None, format!("was killed by {signal}"))
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            let pid = pid.as_raw();
            if let Some(service) = self.services.iter_mut().find(|service| service.is_running(pid))
            {
                log::info!("{} {status}", service.name());
                service.record_exit();
                if service.kind == ServiceKind::Unattended {
                    service.state = State::Done;
                    self.after_unattended(Ending::from_status(code));
                }
            }
        }
    }

    fn after_unattended(&mut self, ending: Ending) {
        let power = match ending.then(&self.options) {
            AfterCommands::Menu => None,
            AfterCommands::Reboot => Some(Power::Reboot),
            AfterCommands::PowerOff => Some(Power::Off),
        };
        if let Some(power) = power {
            self.end_machine(power);
        }
        self.add_menus();
    }

    /// Returns only if that failed. Then every service has to be restarted, because all of them
    /// were killed and reaped.
    fn end_machine(&mut self, power: Power) {
        let error = power.carry_out();
        log::error!("the machine could not be restarted or powered off: {error}");
        let was_unattended = |s: &Service| {
            s.kind == ServiceKind::Unattended && matches!(s.state, State::Running { .. })
        };
        let needs_menus = self.services.iter().any(was_unattended);
        self.services.iter_mut().for_each(Service::record_mass_exit);
        if needs_menus {
            self.add_menus();
        }
    }
}

impl Service {
    fn is_running(&self, pid: i32) -> bool {
        matches!(self.state, State::Running { pid: running, .. } if running == pid)
    }

    fn is_menu_on(&self, console: &Console) -> bool {
        matches!(&self.kind, ServiceKind::Menu(known) if known.name == console.name)
    }

    /// Whether its console no longer exists.
    fn is_gone(&self) -> bool {
        matches!(&self.kind, ServiceKind::Menu(console) if !console.path().exists())
    }

    fn name(&self) -> String {
        match &self.kind {
            ServiceKind::Hardware => "hardware".into(),
            ServiceKind::Unattended => "the unattended command".into(),
            ServiceKind::Watchdog => "the watchdog".into(),
            ServiceKind::Menu(console) => format!("the menu on {}", console.name),
        }
    }

    fn start(&self, options: &Options) -> io::Result<i32> {
        let mut command = match &self.kind {
            ServiceKind::Hardware => child(&["hardware"]),
            ServiceKind::Unattended => child(&["unattended"]),
            ServiceKind::Watchdog => child(&["watchdog"]),
            ServiceKind::Menu(console) => self.on_console(console, options)?,
        };
        // The handle is not needed: `waitpid` reaps every child.
        Ok(command.spawn()?.id().cast_signed())
    }

    fn on_console(&self, console: &Console, options: &Options) -> io::Result<Command> {
        let terminal = console.open()?;
        let mut command = if options.shell || self.failures >= MAX_FAILURES {
            log::warn!("starting a shell on {}", console.name);
            with_environment(command("/bin/sh"), &["-l"])
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

    /// Records that the service has exited, and when to restart it.
    fn record_exit(&mut self) {
        let lasted = match self.state {
            State::Running { since, .. } => since.elapsed(),
            _ => Duration::ZERO,
        };
        // A shell that replaced the menu is followed by the menu.
        let was_shell = self.failures >= MAX_FAILURES;
        self.failures = if lasted < SHORT_LIFETIME && !was_shell { self.failures + 1 } else { 0 };
        self.state = State::Due(Instant::now() + self.pause());
    }

    /// Records that the service was killed together with all others, which does not count as a
    /// failure. Unattended commands are not run again.
    fn record_mass_exit(&mut self) {
        if matches!(self.state, State::Running { .. }) {
            let is_over = self.kind == ServiceKind::Unattended;
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

fn accept_requests() -> io::Result<()> {
    fs::create_dir_all(scan::DIRECTORY)?;
    fs::write(REQUESTS, "")
}

/// The signals that PID 1 handles. They are blocked here, to be read from the descriptor. What
/// starts a child unblocks them there ([`command`]).
fn signals() -> Option<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGHUP,
    ] {
        set.add(signal);
    }
    // Ctrl-Alt-Del becomes SIGINT instead of a reset, which would lose unwritten data.
    if let Err(error) = nix::sys::reboot::set_cad_enabled(false) {
        log::warn!("Ctrl-Alt-Del will reset the machine without a sync: {error}");
    }
    let made = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)
        .and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK));
    match made {
        Ok(signals) => Some(signals),
        Err(error) => {
            log::error!("signals cannot be received: {error}");
            None
        }
    }
}

fn restarts() -> u32 {
    env::var(RESTARTS).ok().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Makes a supervisor that panics execute itself again instead of exiting. Its children would keep
/// running beside the new ones, so they are killed first.
fn survive_panics() {
    std::panic::set_hook(Box::new(|info| {
        log::error!("{info}");
        thread::sleep(Duration::from_secs(1));
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), Signal::SIGKILL);
        let restarts = restarts().saturating_add(1).to_string();
        let mut command = command(OWN_PROGRAM);
        std::os::unix::process::CommandExt::arg0(&mut command, "/init");
        let error = std::os::unix::process::CommandExt::exec(command.env(RESTARTS, restarts));
        log::error!("the supervisor cannot be restarted: {error}");
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
        let console = Console { name: "ttyS0".into(), speed: None };
        Service { kind: ServiceKind::Menu(console), state, failures }
    }

    #[test]
    fn only_a_menu_that_exits_soon_counts_as_failed() {
        let mut soon = menu(1, Duration::ZERO);
        soon.record_exit();
        let mut late = menu(1, SHORT_LIFETIME * 2);
        late.record_exit();
        assert_eq!((soon.failures, late.failures), (2, 0));
        assert!(matches!(soon.state, State::Due(_)) && matches!(late.state, State::Due(_)));
    }

    #[test]
    fn a_shell_is_followed_by_the_menu() {
        let mut shell = menu(MAX_FAILURES, Duration::ZERO);
        shell.record_exit();
        assert_eq!(shell.failures, 0);
    }

    #[test]
    fn after_a_failed_shutdown_all_services_restart_except_the_commands() {
        let since = Instant::now();
        let mut unattended = Service {
            kind: ServiceKind::Unattended,
            state: State::Running { pid: 2, since },
            failures: 0,
        };
        let mut menu = menu(1, Duration::ZERO);
        for service in [&mut unattended, &mut menu] {
            service.record_mass_exit();
        }
        assert!(matches!(unattended.state, State::Done));
        assert!(matches!(menu.state, State::Due(_)) && menu.failures == 1);
    }
}
