//! The form with one entry a line: `deb [OPTIONS] URI SUITE COMPONENT...` (sources.list(5)).

use super::rewriting::{Entry, Fate, Rewriting, Rewritten};

/// Rewrites a file. Comments and what is switched off stay as they are.
pub(super) fn rewrite(text: &str, rewriting: &Rewriting) -> Rewritten {
    let mut rewritten = Rewritten::default();
    // A carriage return at the end of a line stays.
    for line in text.split_terminator('\n') {
        let new = rewrite_line(line, rewriting, &mut rewritten);
        rewritten.text.push_str(&new);
        rewritten.text.push('\n');
    }
    rewritten
}

fn rewrite_line(line: &str, rewriting: &Rewriting, rewritten: &mut Rewritten) -> String {
    let (entry, comment) = match line.split_once('#') {
        Some((entry, comment)) => (entry, format!(" #{comment}")),
        None => (line, String::new()),
    };
    let Some(Line { head, uri, suite, components }) = Line::parse(entry) else {
        return line.to_owned();
    };
    let signed_by = head.split(['[', ']', ' ']).find_map(|o| o.strip_prefix("signed-by="));
    let entry = Entry {
        uris: &[uri],
        suites: &[suite],
        components: &components,
        signed_by: signed_by.unwrap_or_default(),
    };
    match rewriting.fate(&entry) {
        Fate::Becomes { suites, components, notes } => {
            rewritten.has_debian = true;
            rewritten.notes.extend(notes);
            let (suite, components) = (suites.join(" "), components.join(" "));
            format!("{head} {uri} {suite} {components}{comment}")
        }
        Fate::SwitchedOff => {
            rewritten.notes.push(format!("{uri} {suite} is switched off"));
            format!("# Switched off for {}: {line}", rewriting.to)
        }
    }
}

struct Line<'a> {
    /// `deb` or `deb-src`, with its options.
    head: &'a str,
    uri: &'a str,
    suite: &'a str,
    components: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn parse(entry: &'a str) -> Option<Self> {
        let entry = entry.trim();
        let kind = entry.split_whitespace().next()?;
        if !["deb", "deb-src"].contains(&kind) {
            return None;
        }
        let rest = entry[kind.len()..].trim_start();
        let after = match rest.strip_prefix('[') {
            Some(options) => &options[options.find(']')? + 1..],
            None => rest,
        };
        let head = entry[..entry.len() - after.len()].trim_end();
        let mut words = after.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        Some(Line { head, uri, suite, components: words.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_debian_get_the_new_name_and_firmware_where_it_is_needed() {
        let text = "deb http://mirror/debian bullseye main non-free\n\
            deb-src [ arch=amd64 ] http://mirror/debian/ bullseye-updates main\n\
            deb http://mirror/debian-security bullseye-security main\n\
            #deb http://mirror/debian bullseye contrib\n\
            deb http://mirror/flat ./\n\
            deb [signed-by=/k/vendor-archive-keyring.gpg] http://vendor/debian bullseye main\n\
            \nnonsense\n";
        let rewriting = Rewriting::between("bullseye", "bookworm").unwrap();
        let rewritten = rewrite(text, &rewriting);
        assert_eq!(
            rewritten.text,
            "deb http://mirror/debian bookworm main non-free non-free-firmware\n\
            deb-src [ arch=amd64 ] http://mirror/debian/ bookworm-updates main\n\
            deb http://mirror/debian-security bookworm-security main\n\
            #deb http://mirror/debian bullseye contrib\n\
            # Switched off for bookworm: deb http://mirror/flat ./\n\
            # Switched off for bookworm: deb [signed-by=/k/vendor-archive-keyring.gpg] \
            http://vendor/debian bullseye main\n\nnonsense\n"
        );
        assert!(rewritten.has_debian && rewritten.notes.len() == 3, "{:?}", rewritten.notes);
        // Rewritten again, as after an interruption, it stays.
        assert_eq!(rewrite(&rewritten.text, &rewriting).text, rewritten.text);
    }

    #[test]
    fn the_security_archive_of_old_releases_is_found() {
        let rewriting = Rewriting::between("buster", "bullseye").unwrap();
        let text = "deb http://security.example/debian-security buster/updates main";
        let expected = "deb http://security.example/debian-security bullseye-security main\n";
        assert_eq!(rewrite(text, &rewriting).text, expected);
    }

    #[test]
    fn garbage_stays() {
        let rewriting = Rewriting::between("bookworm", "trixie").unwrap();
        for line in ["deb", "deb ", "deb [", "deb [x", "deb []", "deb x", "#", "debian x y"] {
            assert_eq!(rewrite(line, &rewriting).text, format!("{line}\n"));
        }
    }
}
