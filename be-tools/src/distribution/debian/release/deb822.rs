//! The form with one entry a paragraph (sources.list(5), deb822(5)).

use super::rewriting::{Entry, Fate, Rewriting, Rewritten};

/// Rewrites a file. Only the fields that change are touched.
pub(super) fn rewrite(text: &str, rewriting: &Rewriting) -> Rewritten {
    let mut rewritten = Rewritten::default();
    // A carriage return at the end of a line stays.
    let lines: Vec<&str> = text.split_terminator('\n').collect();
    let paragraphs = lines.split_inclusive(|line| line.trim().is_empty());
    for paragraph in paragraphs {
        rewrite_paragraph(paragraph, rewriting, &mut rewritten);
    }
    rewritten
}

fn rewrite_paragraph(lines: &[&str], rewriting: &Rewriting, rewritten: &mut Rewritten) {
    let values = |name: &str| -> Vec<&str> {
        field(lines, name).iter().flat_map(|part| part.split_whitespace()).collect()
    };
    let (uris, suites, components) = (values("URIs"), values("Suites"), values("Components"));
    let is_off = ["no", "false", "0", "off", "without", "disable"];
    let is_enabled = !values("Enabled").iter().any(|v| is_off.contains(&&*v.to_ascii_lowercase()));
    let fate = (is_enabled && !uris.is_empty() && !suites.is_empty()).then(|| {
        rewriting.fate(&Entry {
            uris: &uris,
            suites: &suites,
            components: &components,
            signed_by: &values("Signed-By").join(" "),
        })
    });
    let mut new: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
    match fate {
        None => {}
        Some(Fate::Becomes { suites, components, notes }) => {
            rewritten.has_debian = true;
            rewritten.notes.extend(notes);
            set(&mut new, "Suites", &suites.join(" "));
            set(&mut new, "Components", &components.join(" "));
        }
        Some(Fate::SwitchedOff) => {
            let entry = format!("{} {}", uris.join(" "), suites.join(" "));
            rewritten.notes.push(format!("{entry} is switched off"));
            set(&mut new, "Enabled", "no");
        }
    }
    for line in new {
        rewritten.text.push_str(&line);
        rewritten.text.push('\n');
    }
}

/// Where a field is: its line and those that continue it.
fn place(lines: &[impl AsRef<str>], name: &str) -> Option<std::ops::Range<usize>> {
    let is_field = |line: &str| {
        line.split_once(':').is_some_and(|(field, _)| field.eq_ignore_ascii_case(name))
    };
    let start = lines.iter().position(|line| is_field(line.as_ref()))?;
    let more = lines[start + 1..].iter().take_while(|line| {
        let line = line.as_ref();
        line.starts_with([' ', '\t']) && !line.trim().is_empty() || line.starts_with('#')
    });
    Some(start..start + 1 + more.count())
}

/// The value of a field, in its lines.
fn field<'a>(lines: &[&'a str], name: &str) -> Vec<&'a str> {
    let Some(place) = place(lines, name) else { return Vec::new() };
    let parts = lines[place].iter().enumerate().filter(|(_, line)| !line.starts_with('#'));
    parts
        .map(|(index, line)| match index {
            0 => line.split_once(':').map_or("", |(_, value)| value),
            _ => line,
        })
        .collect()
}

/// Sets a field, after the last line of the paragraph that is not empty if it is new.
fn set(lines: &mut Vec<String>, name: &str, value: &str) {
    let old = place(lines, name);
    let is_same = old.as_ref().is_some_and(|place| {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let borrowed: Vec<&str> = lines[place.clone()].iter().map(String::as_str).collect();
        words(&field(&borrowed, name).join(" ")) == words(value)
    });
    if is_same {
        return;
    }
    let line = format!("{name}: {value}");
    match old {
        Some(place) => drop(lines.splice(place, [line])),
        None => {
            let end = lines.iter().rposition(|l| !l.trim().is_empty()).map_or(0, |last| last + 1);
            lines.insert(end, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian's installer writes it, with a third party's paragraph.
    const SOURCES: &str = "\
# Main
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
 bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: mirror+file:///etc/apt/mirrors/debian-security.list
Suites: bookworm-security
Components: main

Types: deb
URIs: https://other.example/debian
Suites: nodistro
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Enabled: no
Types: deb
URIs: https://other.example/off
Suites: bookworm
Components: main
";

    #[test]
    fn paragraphs_of_debian_get_the_new_name_and_others_are_switched_off() {
        let rewriting = Rewriting::between("bookworm", "trixie").unwrap();
        let rewritten = rewrite(SOURCES, &rewriting);
        let expected = SOURCES
            .replace("bookworm bookworm-updates\n bookworm-backports", "trixie trixie-updates")
            .replace("bookworm-security", "trixie-security")
            .replace(" abc\n", " abc\nEnabled: no\n");
        assert_eq!(rewritten.text, expected);
        let notes = [
            "bookworm-backports is left out",
            "https://other.example/debian nodistro is switched off",
        ];
        assert_eq!(rewritten.notes, notes);
        let again = rewrite(&rewritten.text, &rewriting);
        assert_eq!((again.text, again.notes.len()), (rewritten.text, 0));
    }

    #[test]
    fn garbage_stays() {
        let rewriting = Rewriting::between("bookworm", "trixie").unwrap();
        for text in ["", "\n", "\n\n", "URIs:\n", " x\n", "URIs: x\nSuites:\n", "Suites: x\n"] {
            assert_eq!(rewrite(text, &rewriting).text, text);
        }
    }
}
