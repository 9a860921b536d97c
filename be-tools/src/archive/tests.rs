use std::process::Command;

use super::*;
use crate::tree::compare::How;
use crate::tree::listing::Tree;
use crate::tree::manifest::{Unknown, compare, record};

fn sh(directory: &Path, script: &str) {
    let output = Command::new("sh").args(["-euc", script]).current_dir(directory).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}");
}

/// A tree with an entry of every kind that needs no device.
const TREE: &str = "
    mkdir -p t/dir/empty t/etc t/var/lib/dpkg; echo one >t/dir/one; echo two >t/etc/two
    ln t/dir/one t/dir/linked; ln -s 'over there' t/symlink; mkfifo t/fifo; chmod 4711 t/etc/two
    : >t/nothing; echo list >t/var/lib/dpkg/status; setfattr -n user.note -v x t/etc/two
    name=$(printf %0150d 7); mkdir -p t/$name; echo deep >t/$name/$name; truncate -s 40M t/sparse
    echo end >>t/sparse; printf x >\"t/a b#$(printf '\\303\\244\\n\\377')\"
";

fn contents(path: &Path, rules: &Exclude) -> Contents {
    let files = &[("var/lib/dpkg/status", 100)];
    read(path, Wanted { rules, content: true, files }, &|_| {}).unwrap()
}

fn tree(at: &Path, rules: &Exclude) -> Manifest {
    let tree = Tree::open(at, false).unwrap();
    record(&tree, rules, &Manifest::default(), Unknown::Read, &mut |_| Ok(())).unwrap().manifest
}

#[test]
fn an_archive_of_a_tree_is_equal_to_it_whoever_wrote_it() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    sh(at, TREE);
    let rules = Exclude::nothing();
    for (number, options) in [
        "--format=pax --xattrs",
        "--format=pax --xattrs --zstd",
        "--format=gnu --gzip --no-xattrs",
        "--format=gnu --sparse --xz",
        "--format=pax --xattrs --sparse",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{number}.tar");
        sh(at, &format!("tar {options} --numeric-owner -cf {name} -C t ."));
        let found = contents(&at.join(&name), &rules);
        let mut differences = compare(&found.manifest, &tree(&at.join("t"), &rules));
        if !options.contains("--xattrs") || options.contains("--no-xattrs") {
            // The archive does not have them.
            let path = Path::new("/etc/two");
            assert!(differences.iter().any(|found| found.path == path), "{options}");
            differences.retain(|found| found.path != path);
        }
        assert!(differences.is_empty(), "{options}: {differences:?} {:?}", found.warnings);
        assert_eq!(found.files[Path::new("var/lib/dpkg/status")], b"list\n");
    }
}

#[test]
fn what_differs_is_named_as_between_trees() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    sh(at, TREE);
    sh(at, "tar --format=pax --xattrs --numeric-owner -cf a.tar -C t .");
    sh(
        &at.join("t"),
        "echo ONE >dir/one; chmod 600 etc/two; rm symlink; ln -s elsewhere symlink; rm nothing; echo \
        longer >var/lib/dpkg/status; mkdir new; rm fifo; echo >fifo",
    );
    let rules = Exclude::nothing();
    let archive = contents(&at.join("a.tar"), &rules).manifest;
    let differences = compare(&archive, &tree(&at.join("t"), &rules));
    let found: Vec<(String, Vec<String>)> = differences
        .into_iter()
        .map(|difference| {
            let names = match difference.how {
                How::OnlyIn(which, _) => vec![format!("{which:?}")],
                How::Changed(attributes) => attributes.into_iter().map(|a| a.name).collect(),
            };
            (difference.path.display().to_string(), names)
        })
        .collect();
    let expected = [
        ("/dir/linked", "content"),
        ("/dir/one", "content"),
        ("/etc/two", "mode"),
        ("/fifo", "type"),
        ("/new", "Second"),
        ("/nothing", "First"),
        ("/symlink", "target"),
        ("/var/lib/dpkg/status", "size"),
    ];
    let expected = expected.map(|(path, name)| (path.to_owned(), vec![name.to_owned()]));
    assert_eq!(found, expected);
    // What is left out is left out of both.
    let rules = Exclude::nothing().exclude("/dir/*".as_ref()).exclude("/etc".as_ref());
    let archive = contents(&at.join("a.tar"), &rules).manifest;
    let differences = compare(&archive, &tree(&at.join("t"), &rules));
    assert_eq!(differences.len(), 5);
}

#[test]
fn what_is_no_archive_is_an_error_and_a_path_out_of_it_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::write(at.join("text"), "x".repeat(2000)).unwrap();
    let rules = Exclude::nothing();
    let wanted = Wanted { rules: &rules, content: true, files: &[] };
    let error = read(&at.join("text"), wanted, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("text") && error.contains("archive"), "{error}");
    sh(
        at,
        "echo x >secret; mkdir d; cd d; tar -P -cf ../out.tar ../secret; tar -P -cf ../abs.tar $PWD/../secret",
    );
    assert!(read(&at.join("out.tar"), wanted, &|_| {}).unwrap().manifest.is_empty());
    assert!(read(&at.join("abs.tar"), wanted, &|_| {}).unwrap().manifest.is_empty());
    // Names and attributes are kept in memory, and one may say that it has many.
    sh(
        at,
        "python3 -c \"
import tarfile
member = tarfile.TarInfo('x'); member.pax_headers = {'SCHILY.xattr.user.x': 'x' * 30000000}
archive = tarfile.open('bomb', 'w', format=tarfile.PAX_FORMAT); archive.addfile(member)
archive.close()\"",
    );
    let error = read(&at.join("bomb"), wanted, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("archive"), "{error}");
    // One that was cut off is none.
    sh(at, "head -c 700 out.tar >cut");
    assert!(read(&at.join("cut"), wanted, &|_| {}).is_err());
}
