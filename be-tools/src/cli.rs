//! The command line of `be`. The file of a verb has its arguments, one call of the library, and
//! what is printed.

mod acting_options;
mod activate;
mod adopt;
mod boot;
mod boot_entries;
mod cancel;
mod check;
mod compare;
mod confirm;
mod context;
mod create;
mod current;
mod delete;
mod describe;
mod filesystems;
mod headings;
mod heartbeat;
mod history;
mod internal;
mod list;
mod log;
mod manual;
mod menu;
mod mount;
mod output;
#[cfg(test)]
mod printed_lines;
mod prune;
mod refresh;
mod rename;
mod report;
mod run;
mod schedule;
mod selection;
mod solaris;
mod table;
mod upgrade;
#[cfg(test)]
mod verb_pages;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::error::{Error, Result};
use crate::escape::complain;
use crate::host::Host;
use context::Context;
use headings::OUTPUT;

/// Boot environments: copies of this system that you can change while it runs, and boot.
#[derive(Debug, Parser)]
#[command(
    name = "be",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Exit status: 0 done; 1 failed, the command can be run again; 2 wrong usage; 3 \
        refused, nothing was written; 4 done, but not all of it: read the report; 5 check found a \
        problem, or compare or verify a difference; 130 interrupted."
)]
struct Cli {
    /// Print only errors and the output that was asked for.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    #[arg(help_heading = OUTPUT, display_order = 101)]
    quiet: bool,
    /// Print which programs are run, and why.
    #[arg(short, long, global = true, help_heading = OUTPUT, display_order = 102)]
    verbose: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::List),
    Current(current::Current),
    Adopt(adopt::Adopt),
    Create(create::Create),
    Refresh(refresh::Refresh),
    Schedule(schedule::Schedule),
    Cancel(cancel::Cancel),
    Upgrade(upgrade::Upgrade),
    Mount(mount::Mount),
    Umount(mount::Umount),
    Run(run::Run),
    Activate(activate::Activate),
    Confirm(confirm::Confirm),
    Delete(delete::Delete),
    Prune(prune::Prune),
    Filesystems(filesystems::FileSystems),
    Describe(describe::Describe),
    History(history::History),
    Rename(rename::Rename),
    Check(check::Check),
    Compare(compare::Compare),
    Verify(verify::Verify),
    Boot(boot::Boot),
    BootEntries(boot_entries::BootEntries),
    Menu(menu::Menu),
    Completions(manual::Completions),
    Man(manual::Man),
}

impl Verb {
    /// Runs the verb. Returns the exit status.
    fn run(self, context: &Context) -> Result<u8> {
        match self {
            Verb::List(v) => v.run(context),
            Verb::Current(v) => v.run(context),
            Verb::Adopt(v) => v.run(context),
            Verb::Create(v) => v.run(context),
            Verb::Refresh(v) => v.run(context),
            Verb::Schedule(v) => v.run(context),
            Verb::Cancel(v) => v.run(context),
            Verb::Upgrade(v) => v.run(context),
            Verb::Mount(v) => v.run(context),
            Verb::Umount(v) => v.run(context),
            Verb::Run(v) => v.run(context),
            Verb::Activate(v) => v.run(context),
            Verb::Confirm(v) => v.run(context),
            Verb::Delete(v) => v.run(context),
            Verb::Prune(v) => v.run(context),
            Verb::Filesystems(v) => v.run(context),
            Verb::Describe(v) => v.run(context),
            Verb::History(v) => v.run(context),
            Verb::Rename(v) => v.run(context),
            Verb::Check(v) => v.run(context),
            Verb::Compare(v) => v.run(context),
            Verb::Verify(v) => v.run(context),
            Verb::Boot(v) => v.run(context),
            Verb::BootEntries(v) => v.run(context),
            Verb::Menu(v) => v.run(context),
            Verb::Completions(v) => v.run(Cli::command()),
            Verb::Man(v) => v.run(Cli::command()),
        }
    }
}

/// Runs `be` with these arguments, the program's name first, and returns its exit status.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    crate::signals::unblock();
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(name) = solaris::personality(&args) {
        return solaris::run(name, &args, |words| {
            run_verb(std::iter::once("be".into()).chain(words).collect())
        });
    }
    internal::dispatch(&args).unwrap_or_else(|| run_verb(args))
}

fn run_verb(args: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Help goes to standard output with status 0, wrong usage to standard error with 2.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    crate::signals::watch();
    log::start(cli.verbose);
    let context = Context { host: Host::local(), quiet: cli.quiet, verbose: cli.verbose };
    match cli.verb.run(&context) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            if let Error::Refused(refusal) = &error {
                ::log::info!("refused: {}", refusal.code());
            }
            log::note(&format!("error: {error}"));
            complain(&error.to_string());
            ExitCode::from(error.exit_status())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_a_command_of_live_upgrade_becomes_is_a_command_line_of_be() {
        let verbs = solaris::tests::COMMANDS.iter().map(|(_, words)| words);
        for words in verbs.filter(|words| words.starts_with(char::is_lowercase)) {
            let line = std::iter::once("be").chain(words.split(' '));
            assert!(Cli::try_parse_from(line).is_ok(), "{words}");
        }
    }
}
