//! The boot environments that a command of `be` names, so that it can be run when they are there.

use be_tools::environment::BootEnvironment;

use crate::cmdline::command_words;
use crate::scan::Listing;

/// The verbs whose first argument is a BE.
const VERBS: [&str; 11] = [
    "activate",
    "boot",
    "check",
    "delete",
    "describe",
    "filesystems",
    "mount",
    "refresh",
    "rename",
    "run",
    "umount",
];

/// The options whose value is a BE.
const OPTIONS: [&str; 2] = ["--from", "--replace"];

/// The verbs whose arguments are names that are new.
const NAMING: [&str; 2] = ["create", "rename"];

/// References to the BEs that must be there before the first of these commands runs. What an
/// earlier command makes is not among them.
pub fn needed(commands: &[String]) -> Vec<String> {
    let mut made = Vec::new();
    let mut needed = Vec::new();
    for command in commands {
        let words = command_words(command);
        let named = Named::of(&words);
        let found = named.references.iter().map(|reference| (*reference).to_owned());
        needed.extend(found.filter(|reference| !made.contains(reference)));
        made.extend(named.names.iter().map(|name| (*name).to_owned()));
    }
    needed
}

/// What a command line names.
#[derive(Debug, Default)]
struct Named<'a> {
    /// References to BEs.
    references: Vec<&'a str>,
    /// Words that may be the name of a new BE.
    names: Vec<&'a str>,
}

impl<'a> Named<'a> {
    fn of(words: &'a [String]) -> Self {
        let mut named = Named::default();
        let Some((program, rest)) = words.split_first() else { return named };
        if program != "be" && !program.ends_with("/be") {
            return named;
        }
        let mut plain = Vec::new();
        // What follows `--` is the command of `be run`.
        let mut rest = rest.iter().map(String::as_str).take_while(|word| *word != "--");
        while let Some(word) = rest.next() {
            match word.split_once('=') {
                Some((option, value)) if OPTIONS.contains(&option) => named.references.push(value),
                _ if OPTIONS.contains(&word) => named.references.extend(rest.next()),
                _ if word.starts_with('-') => {}
                _ => plain.push(word),
            }
        }
        let Some((verb, arguments)) = plain.split_first() else { return named };
        if VERBS.contains(verb) {
            named.references.extend(arguments.first());
        }
        if NAMING.contains(verb) {
            named.names = arguments.to_vec();
        }
        named
    }
}

/// Whether a reference names a BE of the list. One that names several does, too: `be` refuses it
/// with the list of them.
pub fn is_listed(listing: &Listing, reference: &str) -> bool {
    let (name, device) = reference.split_once('@').unwrap_or((reference, ""));
    let device = device.split_once(':').map_or(device, |(device, _)| device);
    let is_named = |be: &BootEnvironment| {
        name.is_empty()
            || be.name().eq_ignore_ascii_case(name)
            || be.descriptor.as_ref().is_some_and(|descriptor| descriptor.id.to_string() == name)
    };
    let is_there = |be: &BootEnvironment| {
        device.is_empty() || be.root.device.ends_with(device.trim_start_matches("/dev/"))
    };
    listing.environments.iter().any(|be| be.reference == reference || is_named(be) && is_there(be))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_environments_of_commands_are_found_but_not_what_they_make() {
        for (commands, expected) in [
            (&["be list --json"][..], &[][..]),
            (&["be check second"], &["second"]),
            (&["be -v activate second --permanent --yes"], &["second"]),
            (&["/bin/be boot --yes second"], &["second"]),
            (&["be run second -- sh -c 'be check third'"], &["second"]),
            (&["be create first --from second --replace=first --yes"], &["second", "first"]),
            (&["be refresh third --from first"], &["first", "third"]),
            (&["be create third -m /:/dev/vda3:ext4", "be activate third"], &[]),
            (&["be rename second third", "be boot third"], &["second"]),
            (&["sh -c 'be check second'"], &[]),
            (&[""], &[]),
        ] {
            let commands: Vec<String> = commands.iter().map(|c| (*c).to_owned()).collect();
            assert_eq!(needed(&commands), expected, "{commands:?}");
        }
    }

    #[test]
    fn a_reference_is_recognised_in_every_form() {
        let listing = crate::menu::tests::listing();
        for (reference, expected) in [
            ("nightly", true),
            ("NIGHTLY", true),
            ("9a41c3d2-1111-4222-8333-444455556666", true),
            ("nightly@/dev/sda2", true),
            ("nightly@sda2", true),
            ("nightly@sdb1", false),
            ("@/dev/sdb1", true),
            ("@/dev/sdb1:@", true),
            ("third", false),
        ] {
            assert_eq!(is_listed(&listing, reference), expected, "{reference}");
        }
    }
}
