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
    let done = merge(&with(&[]), &with(other), &with(own)).unwrap();
    // Doing it again changes nothing.
    let again = merge(&with(&[]), &with(other), &done.texts).unwrap();
    assert_eq!(again.texts, done.texts);
    done
}

fn kept(done: &Merged) -> Vec<(&str, &str)> {
    done.kept.iter().map(|(file, why)| (*file, why.split('\'').nth(1).unwrap())).collect()
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
        assert!(merge(&with(&[]), &with(&[(file, text)]), &with(&[])).is_err(), "{file} {text:?}");
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
    let done = merged(
        &[(GROUP, &GROUPS.replace("adm:x:4:alice", "adm:x:4:alice,bob"))],
        &[(GROUP, &GROUPS.replace("adm:x:4:alice", "adm:x:4:carl"))],
    );
    assert_eq!(done.texts[GROUP], GROUPS.replace("adm:x:4:alice", "adm:x:4:bob,carl"));
    assert_eq!(done.kept, []);
}
