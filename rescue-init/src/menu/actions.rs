//! The actions of the menu. Each is a command, run exactly as it is shown.

use be_tools::environment::BootEnvironment;

use super::place::Place;
use crate::firmware::Firmware;

/// A command, and how the menu runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Program and arguments.
    pub words: Vec<String>,
    /// Whether it needs exclusive use of the disks: no scan runs at the same time.
    pub exclusive: bool,
    /// Whether a restart is offered after it has succeeded.
    pub offers_reboot: bool,
    /// What is printed before it starts.
    pub greeting: &'static [&'static str],
}

/// What is different in a shell inside a BE.
const INSIDE: &[&str] = &[
    "This shell runs inside the boot environment; `exit` goes back to the menu.",
    "The ESP is hidden: /boot/efi is empty here, and nothing on it is lost. Key a of",
    "the menu writes the loader again.",
];

/// What the shell of the rescue image is for.
const RESCUE: &[&str] = &[
    "This is a shell of the rescue image. `be list` shows the boot environments,",
    "`be --help` all verbs, `busybox` most of the other programs; `exit` goes back.",
];

/// What a shell beside the menu is on an installed system.
const HOST: &[&str] = &["This is a shell of the running system; `exit` goes back to the menu."];

impl Action {
    fn be(words: &[&str]) -> Self {
        let words = std::iter::once("be").chain(words.iter().copied()).map(String::from).collect();
        Action { words, exclusive: false, offers_reboot: false, greeting: &[] }
    }

    fn exclusive(self) -> Self {
        Action { exclusive: true, ..self }
    }

    /// Boots the BE immediately, without the firmware.
    pub fn boot(be: &BootEnvironment) -> Self {
        Self::be(&["boot", &be.reference]).exclusive()
    }

    /// Makes the firmware boot the BE once.
    pub fn try_once(be: &BootEnvironment) -> Self {
        Action { offers_reboot: true, ..Self::be(&["activate", &be.reference]).exclusive() }
    }

    /// Makes the firmware boot the BE from now on.
    pub fn activate(be: &BootEnvironment) -> Self {
        Action {
            offers_reboot: true,
            ..Self::be(&["activate", &be.reference, "--permanent"]).exclusive()
        }
    }

    /// Reports why the BE would not boot.
    pub fn check(be: &BootEnvironment) -> Self {
        Self::be(&["check", &be.reference]).exclusive()
    }

    /// Replaces the BE `replaced` with a copy of `source`. A BIOS has no boot entries, so `be` is
    /// told to make none.
    pub fn clone_over(source: &str, replaced: &str, name: &str, firmware: Firmware) -> Self {
        let mut words = vec!["create", name, "--from", source, "--replace", replaced];
        words.extend((!firmware.has_boot_entries()).then_some("--no-boot-entry"));
        Self::be(&words).exclusive()
    }

    /// Mounts or unmounts the BE.
    pub fn mount(be: &BootEnvironment) -> Self {
        let verb = if be.mounted_at.is_empty() { "mount" } else { "umount" };
        Self::be(&[verb, &be.reference]).exclusive()
    }

    /// Runs a shell inside the BE.
    pub fn shell_inside(be: &BootEnvironment) -> Self {
        let shell = shell_of(be);
        Action { greeting: INSIDE, ..Self::be(&["run", &be.reference, "--", shell]) }
    }

    /// Runs a shell inside the BE that may use the whole disk.
    pub fn privileged_shell_inside(be: &BootEnvironment) -> Self {
        let shell = shell_of(be);
        let words = ["run", &be.reference, "--privileged", "--", shell];
        Action { greeting: INSIDE, ..Self::be(&words) }
    }

    /// Deletes the BE.
    pub fn delete(be: &BootEnvironment) -> Self {
        Self::be(&["delete", &be.reference]).exclusive()
    }

    /// Runs a shell beside the menu.
    pub fn shell(place: &Place) -> Self {
        let greeting = match place {
            Place::RescueImage => RESCUE,
            Place::Host(_) => HOST,
        };
        Action { words: vec!["sh".into(), "-l".into()], greeting, ..Self::be(&[]) }
    }

    /// Shows the network addresses.
    pub fn network() -> Self {
        Action { words: vec!["ip".into(), "address".into()], ..Self::be(&[]) }
    }

    /// The command as the user would type it in a shell.
    pub fn command_line(&self) -> String {
        let plain = |word: &&String| {
            !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=./:,@+%".contains(&b))
        };
        let quote = |word: &String| match Some(word).filter(plain) {
            Some(word) => word.clone(),
            None => format!("'{}'", word.replace('\'', r"'\''")),
        };
        self.words.iter().map(quote).collect::<Vec<_>>().join(" ")
    }
}

/// The shell that the BE's system installs.
fn shell_of(be: &BootEnvironment) -> &'static str {
    // Unlike the other distributions, Alpine does not install bash by default.
    if be.os.id == "alpine" { "/bin/sh" } else { "/bin/bash" }
}

/// The default name of a copy of `source` that replaces `replaced`: the name of the replaced BE, if
/// it has one.
pub fn name_for_copy(
    source: &BootEnvironment,
    replaced: &BootEnvironment,
    taken: &[BootEnvironment],
) -> String {
    if let Some(descriptor) = &replaced.descriptor {
        return descriptor.name.to_string();
    }
    let is_free = |name: &String| !taken.iter().any(|be| be.name().eq_ignore_ascii_case(name));
    let stem = source
        .descriptor
        .as_ref()
        .map_or("copy".into(), |descriptor| format!("{}-copy", descriptor.name));
    let numbered = (2..).map(|n| format!("{stem}-{n}"));
    std::iter::once(stem.clone()).chain(numbered).find(is_free).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::menu::tests::listing;

    #[test]
    fn every_action_is_a_command_of_be() {
        let all = listing().environments;
        let (bookworm, nightly, alpine) = (&all[0], &all[1], &all[3]);
        let clone = |firmware| Action::clone_over("nightly", "bookworm", "bookworm", firmware);
        for (action, expected) in [
            (Action::boot(nightly), "be boot nightly"),
            (Action::try_once(nightly), "be activate nightly"),
            (Action::activate(nightly), "be activate nightly --permanent"),
            (Action::check(alpine), "be check @/dev/sdb1"),
            (clone(Firmware::Uefi), "be create bookworm --from nightly --replace bookworm"),
            (
                clone(Firmware::Bios),
                "be create bookworm --from nightly --replace bookworm --no-boot-entry",
            ),
            (Action::mount(bookworm), "be mount bookworm"),
            (Action::mount(nightly), "be umount nightly"),
            (Action::shell_inside(nightly), "be run nightly -- /bin/bash"),
            (Action::shell_inside(alpine), "be run @/dev/sdb1 -- /bin/sh"),
            (Action::privileged_shell_inside(nightly), "be run nightly --privileged -- /bin/bash"),
            (Action::delete(nightly), "be delete nightly"),
        ] {
            assert_eq!(action.command_line(), expected);
        }
    }

    #[test]
    fn a_copy_takes_the_name_of_the_boot_environment_it_replaces() {
        let all = listing().environments;
        assert_eq!(name_for_copy(&all[1], &all[0], &all), "bookworm");
        assert_eq!(name_for_copy(&all[1], &all[3], &all), "nightly-copy");
        assert_eq!(name_for_copy(&all[3], &all[3], &all), "copy");
    }

    #[test]
    fn words_with_special_characters_are_quoted() {
        let mut action = Action::shell(&Place::RescueImage);
        action.words.push("it's".into());
        assert_eq!(action.command_line(), r"sh -l 'it'\''s'");
    }
}
