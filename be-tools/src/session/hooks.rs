//! The administrator's hooks in `/etc/lifeboat/hooks.d/{before,after}-copy`, which run before and
//! after a copy of the running system, for example to quiesce a database (docs/design.md,
//! "Copying").

use std::fmt::{Display, Formatter};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::environment::BootEnvironment;
use crate::error::{Doing, Error, Refusal, Result};
use crate::plan::{Report, go_on};
use crate::signals::Paused;
use crate::step;
use crate::storage::namespace::Namespace;
use crate::tool::Tool;

const DIRECTORY: &str = "etc/lifeboat/hooks.d";

/// The hooks of a source, in the order in which they are run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hooks {
    before: Vec<PathBuf>,
    after: Vec<PathBuf>,
}

impl Hooks {
    /// Finds the hooks of the running system. Any other source has none: nothing changes it, and
    /// its programs are not run.
    ///
    /// # Errors
    /// When one of the directories exists and cannot be listed.
    pub(crate) fn of(source: &BootEnvironment) -> Result<Self> {
        if source.running { Self::below(Path::new("/")) } else { Ok(Hooks::default()) }
    }

    fn below(root: &Path) -> Result<Self> {
        let directory = root.join(DIRECTORY);
        Ok(Hooks {
            before: executables(&directory.join("before-copy"))?,
            after: executables(&directory.join("after-copy"))?,
        })
    }

    /// Those before the copy.
    pub(crate) fn before(&self) -> impl Iterator<Item = Step<'_>> {
        self.before.iter().map(|hook| Step::Before(hook))
    }

    /// The state of the operation around whose copy they are run. `verb` and `target` are what the
    /// hooks are told, and `outside` has the mounts that they see.
    pub(crate) fn state<'a>(
        &self,
        verb: &'static str,
        target: &'a str,
        outside: &'a Namespace,
    ) -> State<'a> {
        State { verb, target, outside, is_begun: false, after: self.after.len(), paused: None }
    }

    /// Those after it.
    pub(crate) fn after(&self) -> impl Iterator<Item = Step<'_>> {
        self.after.iter().map(|hook| Step::After(hook))
    }
}

/// One hook, as a step of the operation around whose copy it is run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    /// When it fails, nothing is copied.
    Before(&'a Path),
    /// It is run however the copy ends, also when a hook before it failed, and whatever became of
    /// the others.
    After(&'a Path),
}

/// What the hooks of one operation share.
#[derive(Debug)]
pub(crate) struct State<'a> {
    /// What they are told: the verb.
    verb: &'static str,
    /// And the target's name.
    target: &'a str,
    /// The mounts that they see.
    outside: &'a Namespace,
    /// The first of them, or the copy, was begun.
    is_begun: bool,
    /// How many of those after the copy have not been run yet.
    after: usize,
    /// From the first hook to the last one: not even a second Ctrl-C leaves a database quiet.
    paused: Option<Paused>,
}

impl State<'_> {
    /// The first hook, or the copy, begins. From now on those after the copy are due.
    pub(crate) fn begin(&mut self) {
        if !self.is_begun {
            self.is_begun = true;
            self.paused = (self.after > 0).then(Paused::begin);
        }
    }

    fn run(&self, hook: Tool) -> Result<()> {
        let hook =
            hook.script().env("LIFEBOAT_VERB", self.verb).env("LIFEBOAT_TARGET", self.target);
        self.outside.run(|| hook.run().map(drop).map_err(Error::from))
    }
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let (Step::Before(hook) | Step::After(hook)) = self;
        write!(f, "run {}", hook.display())
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, report: &mut dyn Report) -> Result<()> {
        match self {
            Step::Before(hook) => {
                state.begin();
                let done = state.run(Tool::new(*hook));
                // A Ctrl-C has ended the hook too.
                go_on().and(done)
            }
            Step::After(hook) => {
                if let Err(why) = state.run(Tool::new(*hook).own_group()) {
                    report.warn(&why.to_string());
                }
                state.after = state.after.saturating_sub(1);
                if state.after == 0 {
                    state.paused = None;
                }
                Ok(())
            }
        }
    }

    fn is_due_after_failure(&self, state: &State) -> bool {
        matches!(self, Step::After(_)) && state.is_begun
    }
}

/// The executable files of a directory, sorted by name. They will be run as root. The list is empty
/// if there is no such directory.
///
/// # Errors
/// When it cannot be listed, and [`Refusal::UntrustedProgram`] when somebody other than root could
/// have changed one of them.
pub(crate) fn executables(directory: &Path) -> Result<Vec<PathBuf>> {
    let names = match std::fs::read_dir(directory) {
        Ok(names) => names,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).at("listing", directory),
    };
    let mut paths = Vec::new();
    for name in names {
        paths.push(name.at("listing", directory)?.path());
    }
    paths.retain(|path| is_executable(path));
    paths.sort();
    if !paths.is_empty() {
        // A user who may write to the directory above can put another one in its place.
        let directories = directory.ancestors().take(2);
        directories.chain(paths.iter().map(PathBuf::as_path)).try_for_each(refuse_untrusted)?;
    }
    Ok(paths)
}

/// Refuses what a user other than root, or the one who runs this program, may change.
fn refuse_untrusted(path: &Path) -> Result<()> {
    let metadata = path.metadata().at("reading the metadata of", path)?;
    let why = if ![0, rustix::process::geteuid().as_raw()].contains(&metadata.uid()) {
        "its owner is not root"
    } else if metadata.mode() & 0o022 != 0 {
        "others than its owner may write to it"
    } else {
        return Ok(());
    };
    Err(Refusal::UntrustedProgram { path: path.display().to_string(), why }.into())
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Silent;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A root directory with hooks that write their names and environment to a log.
    struct Machine {
        root: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Self {
            Machine { root: tempfile::tempdir().unwrap() }
        }

        fn add(&self, hook: &str, mode: u32, then: &str) {
            let path = self.root.path().join(DIRECTORY).join(hook);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            for directory in path.ancestors().skip(1).take(2) {
                set_mode(directory, 0o755);
            }
            let log = self.root.path().join("log");
            let line = format!("echo {hook} $LIFEBOAT_VERB $LIFEBOAT_TARGET >>{}", log.display());
            std::fs::write(&path, format!("#!/bin/sh\n{line}\n{then}\n")).unwrap();
            set_mode(&path, mode);
        }

        fn hooks(&self) -> Hooks {
            Hooks::below(self.root.path()).unwrap()
        }

        fn around(&self, verb: &'static str, copy: impl Fn() -> Result<()>) -> Result<()> {
            let (outside, hooks) = (Namespace::current().unwrap(), self.hooks());
            let mut state = hooks.state(verb, "second", &outside);
            let steps: Vec<_> = hooks
                .before()
                .map(Around::Hook)
                .chain([Around::Copy(&copy)])
                .chain(hooks.after().map(Around::Hook))
                .collect();
            step::run_all(&steps, &mut state, &mut Silent)
        }

        fn log(&self) -> Vec<String> {
            let text = std::fs::read_to_string(self.root.path().join("log")).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        }
    }

    /// The hooks, and the copy that they are around.
    enum Around<'a> {
        Hook(Step<'a>),
        Copy(&'a dyn Fn() -> Result<()>),
    }

    impl Display for Around<'_> {
        fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
            match self {
                Around::Hook(hook) => hook.fmt(f),
                Around::Copy(_) => f.write_str("copy"),
            }
        }
    }

    impl step::Step<State<'_>> for Around<'_> {
        fn run(&self, state: &mut State, report: &mut dyn Report) -> Result<()> {
            match self {
                Around::Hook(hook) => hook.run(state, report),
                Around::Copy(copy) => {
                    state.begin();
                    copy()
                }
            }
        }

        fn is_due_after_failure(&self, state: &State) -> bool {
            matches!(self, Around::Hook(hook) if hook.is_due_after_failure(state))
        }
    }

    #[test]
    fn hooks_run_before_and_after_the_copy_sorted_by_name() {
        let machine = Machine::new();
        machine.add("before-copy/20-b", 0o755, "");
        machine.add("before-copy/10-a", 0o755, "");
        machine.add("before-copy/README", 0o644, "");
        machine.add("after-copy/10-c", 0o755, "");
        let hooks = machine.hooks();
        let names = |line: String| line.rsplit('/').next().unwrap().to_owned();
        let lines: Vec<_> =
            hooks.before().chain(hooks.after()).map(|hook| names(hook.to_string())).collect();
        assert_eq!(lines, ["10-a", "20-b", "10-c"]);
        machine
            .around("create", || {
                assert_eq!(
                    machine.log(),
                    ["before-copy/10-a create second", "before-copy/20-b create second"]
                );
                Ok(())
            })
            .unwrap();
        assert_eq!(machine.log()[2..], ["after-copy/10-c create second"]);
    }

    #[test]
    fn hooks_after_the_copy_run_even_if_the_copy_fails() {
        let machine = Machine::new();
        machine.add("after-copy/10-bad", 0o755, "exit 1");
        machine.add("after-copy/20-wake", 0o755, "");
        let why = machine
            .around("refresh", || Err(Error::Failed("the disk is full".into())))
            .unwrap_err();
        assert_eq!(why.to_string(), "the disk is full");
        assert_eq!(
            machine.log(),
            ["after-copy/10-bad refresh second", "after-copy/20-wake refresh second"]
        );
    }

    #[test]
    fn a_failed_hook_prevents_the_copy_but_not_the_hooks_after_it() {
        let machine = Machine::new();
        machine.add("before-copy/10-quiet", 0o755, "");
        machine.add("before-copy/20-bad", 0o755, "echo the database is not there >&2; exit 3");
        machine.add("before-copy/30-never", 0o755, "");
        machine.add("after-copy/10-wake", 0o755, "");
        let why = machine.around("create", || panic!("nothing is copied")).unwrap_err().to_string();
        assert!(why.contains("20-bad") && why.contains("the database is not there"), "{why}");
        let names: Vec<String> =
            machine.log().iter().map(|l| l.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(names, ["before-copy/10-quiet", "before-copy/20-bad", "after-copy/10-wake"]);
    }

    #[test]
    fn a_hook_that_others_may_change_is_refused() {
        let machine = Machine::new();
        machine.add("before-copy/10-a", 0o755, "");
        machine.add("before-copy/README", 0o666, "");
        let hooks = machine.root.path().join(DIRECTORY);
        let (directory, hook) = (hooks.join("before-copy"), hooks.join("before-copy/10-a"));
        Hooks::below(machine.root.path()).unwrap();
        for (path, mode) in [(&hook, 0o775), (&hook, 0o757), (&directory, 0o777), (&hooks, 0o775)] {
            set_mode(path, mode);
            let refused = Hooks::below(machine.root.path()).unwrap_err();
            let shown = path.display().to_string();
            assert_eq!(refused.exit_status(), 3, "{refused}");
            assert!(refused.to_string().contains(&format!("chmod go-w {shown}")), "{refused}");
            set_mode(path, 0o755);
        }
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&hook, Some(65534), None).unwrap();
            let refused = Hooks::below(machine.root.path()).unwrap_err();
            assert!(refused.to_string().contains("owner is not root"), "{refused}");
        }
    }

    /// Two Ctrl-C while the copy runs. They end this test program, so it runs itself again.
    #[test]
    fn a_second_interruption_does_not_keep_the_hooks_after_the_copy_from_running() {
        const CHILD: &str = "LIFEBOAT_TEST_INTERRUPTED";
        const NAME: &str = "session::hooks::tests::\
            a_second_interruption_does_not_keep_the_hooks_after_the_copy_from_running";
        if std::env::var_os(CHILD).is_none() {
            let child = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
                .env(CHILD, "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&child.stdout);
            assert!(said.contains("interrupted; run") && said.contains("after-copy"), "{child:?}");
            // Without anything to resume, the second signal ends the program as before.
            assert_eq!(child.status.code(), Some(130), "{child:?}");
            assert!(!said.contains("still here"), "{child:?}");
            return;
        }
        // To this thread: a signal to the process may arrive in another one, and later.
        let raise = || nix::sys::signal::raise(nix::sys::signal::Signal::SIGINT).unwrap();
        let machine = Machine::new();
        machine.add("after-copy/10-wake", 0o755, "");
        crate::signals::watch();
        let why = machine.around("create", || {
            raise();
            raise();
            go_on()
        });
        println!("{}", why.unwrap_err());
        println!("{:?}", machine.log());
        raise();
        println!("still here");
    }

    #[test]
    fn without_directories_there_are_no_hooks() {
        assert_eq!(Machine::new().hooks(), Hooks::default());
        let foreign = BootEnvironment::empty(Path::new("/dev/lifeboat-none1"));
        assert_eq!(Hooks::of(&foreign).unwrap(), Hooks::default());
    }
}
