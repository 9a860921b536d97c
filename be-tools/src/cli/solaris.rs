//! The names of Solaris Live Upgrade. Called under one of them, by a symlink to `be`, the program
//! takes that command's options as its manual page has them, and does what the verb of `be` does.
//! What makes no sense on Linux is refused with the reason.

mod arguments;
mod placement;
mod status;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::ExitCode;

use super::log;
use crate::error::{Doing, Error, Result};
use crate::escape::complain;
pub(super) use arguments::commands;
use arguments::{Common, Deed, Request};

/// The name under which the program was called, if it is one of Solaris's.
pub(super) fn personality(args: &[OsString]) -> Option<&'static str> {
    let name = Path::new(args.first()?).file_name()?.to_str()?;
    arguments::NAMES.into_iter().find(|known| *known == name)
}

/// Runs a command of Live Upgrade. `be` runs the words of a verb.
pub(super) fn run(
    name: &'static str,
    args: &[OsString],
    be: impl Fn(Vec<OsString>) -> ExitCode,
) -> ExitCode {
    let request = match Request::parse(name, args) {
        Ok(request) => request,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match prepare(request) {
        Ok(Deed::Verb(words)) => be(words),
        Ok(deed) => finish(deed, &be),
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    complain(&error.to_string());
    ExitCode::from(error.exit_status())
}

/// Applies the options that all commands have, and translates the others.
fn prepare(request: Request) -> Result<Deed> {
    let Common { error_log, out_file, xml } = request.common();
    if xml {
        return Err(Error::Usage("-X: be prints no XML; its verbs print JSON with --json".into()));
    }
    if let Some(file) = out_file {
        let opened =
            OpenOptions::new().create(true).append(true).open(&file).at("opening", &file)?;
        rustix::stdio::dup2_stdout(&opened).at("writing to", &file)?;
    }
    if let Some(file) = error_log {
        log::copy_to(&file)?;
    }
    request.deed()
}

/// What no verb does.
fn finish(deed: Deed, be: &impl Fn(Vec<OsString>) -> ExitCode) -> ExitCode {
    let words = |deed: Deed| -> Result<Option<Vec<OsString>>> {
        match deed {
            Deed::Verb(words) => Ok(Some(words)),
            Deed::Status(reference) => status::print(reference.as_deref()).map(|()| None),
            Deed::Describe { be, file } => {
                let text = status::read_description(&file)?;
                let words = ["describe", &be, &text].map(OsString::from);
                Ok(Some(words.into()))
            }
            Deed::CancelOnly => {
                let words = ["cancel", &status::only_scheduled()?, "--yes"].map(OsString::from);
                Ok(Some(words.into()))
            }
        }
    };
    match words(deed) {
        Ok(Some(words)) => be(words),
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn words(line: &str) -> Result<String> {
        let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let name = personality(&args).unwrap();
        let request =
            Request::parse(name, &args).map_err(|why| Error::Usage(why.render().to_string()))?;
        match request.deed()? {
            Deed::Verb(words) => {
                let words: Vec<String> =
                    words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
                Ok(words.join(" "))
            }
            deed => Ok(format!("{deed:?}")),
        }
    }

    #[test]
    fn commands_of_live_upgrade_are_verbs_of_be() {
        for (solaris, expected) in COMMANDS {
            assert_eq!(words(solaris).unwrap(), *expected, "{solaris}");
        }
    }

    /// Commands of Live Upgrade, and what becomes of them.
    pub(in crate::cli) const COMMANDS: &[(&str, &str)] = &[
        (
            "/usr/sbin/lucreate -c first -m /:/dev/vda3:ext4 -n second -A tests",
            "create second --yes -m /:/dev/vda3:ext4 --current first --description tests",
        ),
        (
            "lucreate -n second -s first -m /:vdb1:xfs -m /usr:merged:xfs -m /home:shared:ext4 \
                -m -:/dev/vdb2:swap -x /var/tmp -y /var/tmp/keep -f /tmp/list",
            "create second --yes -m /:vdb1:xfs -m /usr:merged -m /home:shared \
                -m -:/dev/vdb2:swap --from first --exclude /var/tmp \
                --exclude-from /tmp/list --include /var/tmp/keep",
        ),
        ("lucreate -n second -s - -m /:vdb1:xfs", "create second --yes -m /:vdb1:xfs --empty"),
        ("lumake -n second", "refresh second --yes"),
        ("lumake -n second -s third -o /dev/null", "refresh second --yes --from third"),
        ("lumake -n second -t 02:30 -m root", "schedule second 02:30 --mail root"),
        ("lumount second /a", "mount second /a"),
        ("lumount -n second -m /a", "mount second /a"),
        ("luumount second", "umount second"),
        ("luumount -m /a", "umount /a"),
        ("luumount -n second -f", "umount second"),
        ("luactivate second", "activate second --yes"),
        ("luactivate -n second", "activate second --yes"),
        ("luactivate", "activate"),
        ("luactivate -s second", "activate second --sync --yes"),
        ("luupgrade -u -n second -s trixie", "upgrade second --yes --release trixie"),
        ("luupgrade -u -N -n second", "upgrade second --dry-run --dist"),
        ("luupgrade -p -n second nginx tool", "upgrade second --yes --install nginx tool"),
        ("luupgrade -P -n second nginx", "upgrade second --yes --remove nginx"),
        ("lu", "menu"),
        ("lucurr", "current"),
        ("lufslist second", "filesystems second"),
        ("lufslist -n second", "filesystems second"),
        ("lucompare second", "compare second --content"),
        ("lucompare first second -o /dev/null", "compare first second --content"),
        ("ludelete second", "delete second --yes"),
        ("ludelete -f second", "delete second --yes --force"),
        ("ludesc -n second tried", "describe second tried"),
        ("lurename -e second -n third", "rename second third"),
        ("lucancel second", "cancel second --yes"),
        ("lustatus", "Status(None)"),
        ("lustatus second", "Status(Some(\"second\"))"),
        ("lucancel", "CancelOnly"),
        ("ludesc -n second -f /x", "Describe { be: \"second\", file: \"/x\" }"),
    ];

    #[test]
    fn what_has_no_sense_on_linux_is_refused_with_the_reason() {
        for (solaris, why) in [
            ("lucreate -n second -m /:/dev/vda3:ufs", "Linux does not write ufs"),
            ("lucreate -n second -m /:/dev/vda3:preserve,ext4", "preserve"),
            ("lucreate -n second -m /:c0t0d0s0:ext4,logging", "options"),
            ("lucreate -n second -C /dev/vda -m /:vdb1:ext4", "-C"),
            ("lucreate -n second -z list -m /:vdb1:ext4", "-z"),
            ("lucreate -m /:vdb1:ext4", "-n"),
            ("luupgrade -t -n second 12345", "patch"),
            ("luupgrade -f -n second", "flash"),
            ("luupgrade -n second", "-u"),
            ("luupgrade -p -n second", "name the packages"),
            ("lucompare -i list first second", "-i"),
            ("ludesc -A text", "be list"),
        ] {
            let error = words(solaris).unwrap_err().to_string();
            assert!(error.contains(why), "{solaris}: {error}");
        }
    }

    #[test]
    fn a_word_too_many_is_refused() {
        for solaris in [
            "luactivate -n second third",
            "lumount -n second -m /mnt third",
            "lumount second -m /mnt /media",
            "lustatus -n second third",
            "luumount -n second -m /mnt",
            "lufslist -n second third",
        ] {
            let error = words(solaris).unwrap_err().to_string();
            assert!(error.contains("one word too many"), "{solaris}: {error}");
        }
    }

    #[test]
    fn each_definition_has_its_name() {
        for command in commands() {
            let name = command.get_name().to_owned();
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let request = Request::parse(&name, &[name.clone().into(), "--help".into()]);
            let help = request.unwrap_err().to_string();
            assert!(help.starts_with(&about) && help.contains(&format!("Usage: {name}")), "{help}");
            assert_eq!(personality(&[name.clone().into()]), Some(&*name));
        }
        assert_eq!(commands().count(), arguments::NAMES.len());
    }

    #[test]
    fn only_names_of_solaris_are_personalities() {
        let is = |name: &str| personality(&[OsString::from(name)]);
        assert_eq!(is("/usr/sbin/lustatus"), Some("lustatus"));
        for name in ["be", "/usr/sbin/be", "lucy", ""] {
            assert_eq!(is(name), None, "{name}");
        }
        assert_eq!(personality(&[]), None);
    }
}
