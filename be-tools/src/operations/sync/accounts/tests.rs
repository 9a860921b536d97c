use super::*;

const PEOPLE: &str = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n\
    gone:x:1001:1001::/:/bin/sh\ndaemon:x:1:1::/:/bin/sh\n";
const GROUPS: &str = "root:x:0:\ndaemon:x:1:\nalice:x:1000:\ngone:x:1001:\nadm:x:4:alice\n";
const SECRETS: &str = "root:*:1::::::\nalice:a:1::::::\ngone:g:1::::::\ndaemon:*:1::::::\n";

/// What both had, with some of the files replaced.
fn with(changed: &[(&'static str, &str)]) -> Texts {
    let base = [(PASSWD, PEOPLE), (GROUP, GROUPS), (SHADOW, SECRETS)];
    let all = base.into_iter().chain(changed.iter().copied());
    all.map(|(file, text)| (file, text.to_owned())).collect()
}

fn merged(other: &[(&'static str, &str)], own: &[(&'static str, &str)]) -> Merged {
    let people = People::of("");
    let done = merge(&with(&[]), &with(other), &with(own), &people).unwrap();
    // Doing it again changes nothing, before and after it is known what both have now.
    for base in [&with(&[]), &done.base] {
        let again = merge(base, &with(other), &done.texts, &people).unwrap();
        assert_eq!(again.texts, done.texts);
    }
    // Who was not taken over stays there on the way back.
    let back = merge(&done.base, &done.texts, &with(other), &people).unwrap();
    for (_, name) in kept(&done).iter().filter(|(file, _)| *file == PASSWD) {
        let is_there = |texts: &Texts| names(texts).iter().any(|found| found == name);
        assert_eq!(is_there(&with(other)), is_there(&back.texts), "{name}");
    }
    done
}

fn names(texts: &Texts) -> Vec<String> {
    let lines = texts[PASSWD].lines().filter(|line| line.split(':').count() == 7);
    lines.map(|line| line.split(':').next().unwrap().to_owned()).collect()
}

fn kept(done: &Merged) -> Vec<(&str, &str)> {
    done.kept.iter().map(|kept| (kept.file, kept.name.as_str())).collect()
}

#[test]
fn an_account_of_either_side_is_there_afterwards_with_all_its_lines() {
    let done = merged(
        &[
            (
                PASSWD,
                &format!(
                    "{}bob:x:1002:1002::/:/bin/sh\n",
                    PEOPLE.replace("alice:/bin/sh", "alice:/bin/bash")
                ),
            ),
            (GROUP, &format!("{GROUPS}bob:x:1002:\n")),
            (SHADOW, &format!("{SECRETS}bob:b:1::::::\n")),
            (SUBUID, "bob:100000:65536\nbob:300000:10\n"),
        ],
        &[
            (PASSWD, &format!("{PEOPLE}_apt2:x:101:65534::/:/nologin\n+::::::\n")),
            (SUBUID, "carl:200000:65536\n"),
        ],
    );
    assert_eq!(done.kept, []);
    assert_eq!(
        done.texts[PASSWD],
        format!(
            "{}_apt2:x:101:65534::/:/nologin\nbob:x:1002:1002::/:/bin/sh\n+::::::\n",
            PEOPLE.replace("alice:/bin/sh", "alice:/bin/bash")
        )
    );
    assert_eq!(done.texts[GROUP], format!("{GROUPS}bob:x:1002:\n"));
    assert_eq!(done.texts[SHADOW], format!("{SECRETS}bob:b:1::::::\n"));
    assert_eq!(done.texts[SUBUID], "carl:200000:65536\nbob:100000:65536\nbob:300000:10\n");
}

#[test]
fn nobody_becomes_a_member_of_a_group_that_has_the_number_here() {
    let done = merged(
        &[
            (PASSWD, &format!("{PEOPLE}backup:x:997:997::/:/bin/sh\n")),
            (GROUP, &format!("{GROUPS}backup:x:997:\n")),
            (SHADOW, &format!("{SECRETS}backup:*:1::::::\n")),
        ],
        &[(GROUP, &format!("{GROUPS}docker:x:0997:\n"))],
    );
    assert_eq!(kept(&done), [(GROUP, "backup"), (PASSWD, "backup")]);
    assert_eq!(done.texts[PASSWD], PEOPLE);
    assert_eq!(done.texts[SHADOW], SECRETS);
    assert_eq!(done.texts[GROUP], format!("{GROUPS}docker:x:0997:\n"));
    // The same of an account's number, and of ranges for its containers.
    let done = merged(
        &[
            (PASSWD, &format!("{PEOPLE}bob:x:998:1000::/:/bin/sh\neve:x:1003:1000::/:/bin/sh\n")),
            (SUBUID, "eve:100:10\n"),
        ],
        &[(PASSWD, &format!("{PEOPLE}new:x:998:1::/:/bin/sh\n")), (SUBUID, "new:105:10\n")],
    );
    assert_eq!(kept(&done), [(PASSWD, "bob"), (SUBUID, "eve")]);
    assert_eq!(done.texts[SUBUID], "new:105:10\n");
}

#[test]
fn a_number_that_was_changed_there_stays_here() {
    let other = PEOPLE.replace("alice:x:1000:", "alice:x:1001:");
    let done = merged(&[(PASSWD, &other), (SHADOW, &SECRETS.replace("alice:a", "alice:b"))], &[]);
    assert_eq!(kept(&done), [(PASSWD, "alice")]);
    assert_eq!((&*done.texts[PASSWD], &*done.texts[SHADOW]), (PEOPLE, SECRETS));
}

#[test]
fn a_person_who_was_removed_on_one_side_is_removed_and_an_account_of_the_system_is_not() {
    let without = |text: &str, name: &str| {
        let lines = text.lines().filter(|line| !line.starts_with(&format!("{name}:")));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let all = [(PASSWD, PEOPLE), (GROUP, GROUPS), (SHADOW, SECRETS)];
    for (name, stays) in [("gone", false), ("daemon", true)] {
        let texts = all.map(|(file, text)| (file, without(text, name)));
        let there: Vec<_> = texts.iter().map(|(file, text)| (*file, text.as_str())).collect();
        let done = merged(&there, &[]);
        for (file, text) in all {
            let expected = if stays { text.to_owned() } else { without(text, name) };
            assert_eq!(done.texts[file], expected, "{name}");
        }
        assert_eq!(done.kept, []);
        // It does not come back from the side that still has it.
        let done = merged(&[], &there);
        assert_eq!(done.texts[PASSWD], without(PEOPLE, name));
    }
}

#[test]
fn damaged_files_there_change_nothing_here() {
    for (file, text) in [
        (PASSWD, ""),
        (SHADOW, ""),
        (GROUP, ""),
        (PASSWD, "root:x:5:0::/root:/bin/sh\n"),
        (PASSWD, "\0\0\0\0"),
    ] {
        assert!(
            merge(&with(&[]), &with(&[(file, text)]), &with(&[]), &People::of("")).is_err(),
            "{file} {text:?}"
        );
    }
    // One that was cut off is told by the others.
    let cut = "root:x:0:0::/root:/bin/sh\nalice:x:10";
    let done = merged(&[(PASSWD, cut)], &[]);
    assert_eq!(done.texts[PASSWD], PEOPLE);
    assert_eq!(kept(&done), [(PASSWD, "alice"), (PASSWD, "gone")]);
    let done = merged(&[(SHADOW, "root:*:1::::::\nali")], &[]);
    assert_eq!(done.texts[SHADOW], SECRETS);
}

#[test]
fn what_both_sides_changed_stays_and_is_named() {
    let done = merged(
        &[(PASSWD, &PEOPLE.replace("alice:/bin/sh", "alice:/bin/zsh"))],
        &[(PASSWD, &PEOPLE.replace("alice:/bin/sh", "alice:/bin/bash"))],
    );
    assert_eq!(kept(&done), [(PASSWD, "alice")]);
    assert_eq!(done.texts[PASSWD], PEOPLE.replace("alice:/bin/sh", "alice:/bin/bash"));
    // Members come and go on both sides.
    let both = format!("{PEOPLE}bob:x:1005:1000::/:/bin/sh\ncarl:x:1006:1000::/:/bin/sh\n");
    let done = merged(
        &[(PASSWD, &both), (GROUP, &GROUPS.replace("adm:x:4:alice", "adm:x:4:alice,bob"))],
        &[(PASSWD, &both), (GROUP, &GROUPS.replace("adm:x:4:alice", "adm:x:4:carl"))],
    );
    assert_eq!(done.texts[GROUP], GROUPS.replace("adm:x:4:alice", "adm:x:4:bob,carl"));
    assert_eq!(done.kept, []);
}

#[test]
fn who_is_somebody_else_here_becomes_a_member_of_nothing() {
    let sudo = |members: &str| format!("{GROUPS}sudo:x:27:{members}\n");
    let done = merged(
        &[
            (PASSWD, &format!("{PEOPLE}bob:x:1002:1000::/:/bin/sh\neve:x:1003:1000::/:/bin/sh\n")),
            (GROUP, &sudo("bob,eve,ghost")),
            (GSHADOW, "root:*::\nsudo:!:bob:eve,bob\n"),
        ],
        &[(PASSWD, &format!("{PEOPLE}bob:x:1009:1000::/:/bin/sh\n")), (GSHADOW, "root:*::\n")],
    );
    assert_eq!(done.texts[GROUP], sudo("eve"));
    assert_eq!(done.texts[GSHADOW], "root:*::\nsudo:!::eve\n");
    assert!(kept(&done).contains(&(PASSWD, "bob")) && kept(&done).contains(&(GROUP, "sudo")));
    // A number is no member.
    let done = merged(&[(GROUP, &sudo("27"))], &[]);
    assert_eq!(done.texts[GROUP], sudo(""));
    // One who was in it here stays.
    let done = merged(&[], &[(GROUP, &sudo("alice"))]);
    assert_eq!(done.texts[GROUP], sudo("alice"));
}

#[test]
fn who_was_not_taken_over_is_not_removed_on_the_way_back() {
    let there = format!("{PEOPLE}bob:x:1002:1000::/:/bin/sh\n");
    let here = format!("{PEOPLE}carl:x:1002:1000::/:/bin/sh\n");
    let done = merged(&[(PASSWD, &there)], &[(PASSWD, &here)]);
    assert_eq!(kept(&done), [(PASSWD, "bob")]);
    assert_eq!(done.base[PASSWD], PEOPLE);
    let back = merge(&done.base, &done.texts, &with(&[(PASSWD, &there)]), &People::of("")).unwrap();
    assert_eq!(back.texts[PASSWD], there);
    assert_eq!(kept(&back), [(PASSWD, "carl")]);
}

#[test]
fn people_are_those_whose_numbers_the_system_gives_to_people() {
    let people = People::of("# UID_MIN 1\nUID_MIN\t500\nUID_MAX 60000\n");
    assert_eq!((people.users, people.groups), (500..=60000, 1000..=59999));
    let qemu = "libvirt-qemu:x:64055:1::/:/bin/sh\n";
    let both = format!("{PEOPLE}{qemu}");
    let base = with(&[(PASSWD, &both)]);
    let done = merge(&base, &with(&[]), &base, &People::of("")).unwrap();
    assert_eq!(done.texts[PASSWD], both, "its package is still installed here");
}

#[test]
fn a_number_that_somebody_leaves_is_free_for_who_has_it_there() {
    let there = PEOPLE.replace("gone:x:1001:1001:", "new:x:1001:1000:");
    let done = merged(&[(PASSWD, &there), (SHADOW, &SECRETS.replace("gone:g:", "new:n:"))], &[]);
    assert_eq!(done.kept, []);
    assert!(done.texts[PASSWD].contains("new:x:1001:") && !done.texts[PASSWD].contains("gone:"));
    assert!(done.texts[SHADOW].contains("new:n:"));
}
