//! What the menu has done: each action is a command, run as it is printed.

use be_tools::environment::{BootEnvironment, Name};

/// A command line, and what the menu makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Program and arguments.
    pub words: Vec<String>,
    /// It changes disks or needs them for itself: nobody looks at them meanwhile.
    pub exclusive: bool,
    /// When it has ended well, a restart is what one wants next.
    pub then_reboot: bool,
}

impl Action {
    fn be(words: &[&str]) -> Self {
        let words = std::iter::once("be").chain(words.iter().copied()).map(String::from).collect();
        Action { words, exclusive: false, then_reboot: false }
    }

    fn exclusive(self) -> Self {
        Action { exclusive: true, ..self }
    }

    /// Start it now, without the firmware.
    pub fn boot(be: &BootEnvironment) -> Self {
        Self::be(&["boot", &be.reference]).exclusive()
    }

    /// Have the firmware start it once.
    pub fn try_once(be: &BootEnvironment) -> Self {
        Action { then_reboot: true, ..Self::be(&["activate", &be.reference]).exclusive() }
    }

    /// Have the firmware start it from now on.
    pub fn activate(be: &BootEnvironment) -> Self {
        Action {
            then_reboot: true,
            ..Self::be(&["activate", &be.reference, "--permanent"]).exclusive()
        }
    }

    /// Say why it would not boot.
    pub fn check(be: &BootEnvironment) -> Self {
        Self::be(&["check", &be.reference]).exclusive()
    }

    /// Put a copy of `source` in the place of `replaced`.
    pub fn clone_over(source: &BootEnvironment, replaced: &BootEnvironment, name: &Name) -> Self {
        let words = [
            "create",
            name.as_str(),
            "--from",
            &source.reference,
            "--replace",
            &replaced.reference,
        ];
        Self::be(&words).exclusive()
    }

    /// Mount it, or take it off again.
    pub fn mount(be: &BootEnvironment) -> Self {
        let verb = if be.mounted_at.is_empty() { "mount" } else { "umount" };
        Self::be(&[verb, &be.reference]).exclusive()
    }

    /// A shell in it.
    pub fn shell_inside(be: &BootEnvironment) -> Self {
        // Alpine has no bash; every other distribution's installation does.
        let shell = if be.os.id == "alpine" { "/bin/sh" } else { "/bin/bash" };
        Self::be(&["run", &be.reference, "--", shell])
    }

    /// Remove it.
    pub fn delete(be: &BootEnvironment) -> Self {
        Self::be(&["delete", &be.reference]).exclusive()
    }

    /// A shell of the rescue image.
    pub fn shell() -> Self {
        Action { words: vec!["sh".into(), "-l".into()], exclusive: false, then_reboot: false }
    }

    /// Addresses of the network.
    pub fn network() -> Self {
        Action { words: vec!["ip".into(), "address".into()], exclusive: false, then_reboot: false }
    }

    /// The command as one would type it.
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

/// What a copy in the place of `replaced` is called, if nobody says otherwise: as the one it
/// replaces.
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
    fn actions_are_the_commands_they_print() {
        let all = listing().environments;
        let (bookworm, nightly, alpine) = (&all[0], &all[1], &all[3]);
        let name = "bookworm".parse().unwrap();
        for (action, expected) in [
            (Action::boot(nightly), "be boot nightly"),
            (Action::try_once(nightly), "be activate nightly"),
            (Action::activate(nightly), "be activate nightly --permanent"),
            (Action::check(alpine), "be check @/dev/sdb1"),
            (
                Action::clone_over(nightly, bookworm, &name),
                "be create bookworm --from nightly --replace bookworm",
            ),
            (Action::mount(bookworm), "be mount bookworm"),
            (Action::mount(nightly), "be umount nightly"),
            (Action::shell_inside(nightly), "be run nightly -- /bin/bash"),
            (Action::shell_inside(alpine), "be run @/dev/sdb1 -- /bin/sh"),
            (Action::delete(nightly), "be delete nightly"),
        ] {
            assert_eq!(action.command_line(), expected);
        }
    }

    #[test]
    fn a_copy_takes_the_name_of_what_it_replaces() {
        let all = listing().environments;
        assert_eq!(name_for_copy(&all[1], &all[0], &all), "bookworm");
        assert_eq!(name_for_copy(&all[1], &all[3], &all), "nightly-copy");
        assert_eq!(name_for_copy(&all[3], &all[3], &all), "copy");
    }

    #[test]
    fn odd_words_are_quoted() {
        let mut action = Action::shell();
        action.words.push("it's".into());
        assert_eq!(action.command_line(), r"sh -l 'it'\''s'");
    }
}
