//! Every file of `corpus/`, captured ones and those on which a parser once failed, goes through its
//! target, and takes no more memory and time than is allowed.

use std::path::{Path, PathBuf};

use fuzz::{Allocator, MAX_BYTES, MAX_TIME, Measured, TARGETS, Target, measure};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// A test may share its processor with others, and may not be optimised.
const SLOW: u32 = if cfg!(debug_assertions) { 60 } else { 8 };

fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// What a target took for an input, if that is more than is allowed.
fn excess(target: &Target, input: &str, taken: Measured) -> Option<String> {
    let is_within = taken.bytes <= MAX_BYTES && taken.time <= MAX_TIME * SLOW;
    let Measured { bytes, time } = taken;
    (!is_within).then(|| format!("{}: {input} takes {bytes} bytes, {time:?}", target.name))
}

#[test]
fn every_input_of_the_corpus_is_parsed_within_the_limits() {
    for target in TARGETS {
        let mut count = 0;
        for entry in std::fs::read_dir(corpus(target)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            eprintln!("{}", path.display());
            assert!(bytes.len() <= target.longest, "{} is never tried whole", path.display());
            let taken = measure(|| (target.run)(&bytes));
            assert_eq!(excess(target, &path.display().to_string(), taken), None);
            count += 1;
        }
        assert!(count > 0, "{} has no captured input", target.name);
    }
}

#[test]
fn every_directory_of_the_corpus_is_that_of_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in std::fs::read_dir(corpus).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|target| target.name == name), "corpus/{name}");
    }
}

/// A fuzzer tries short inputs, but a file of a BE is read up to a mebibyte.
#[test]
fn a_mebibyte_of_the_same_words_stays_within_the_limits() {
    const LENGTH: usize = 1 << 20;
    // A target, the beginning of its input, and words: each is repeated after the beginning.
    let cases: [(&str, &str, &[&str]); 16] = [
        ("grub_cfg", "", &["a ", "a\n", ";", "$a", "\"$a\" ", "! ", "a=\n", "a=$a$a\n"]),
        (
            "grub_cfg",
            "",
            &["menuentry a {\n", "submenu {", "menuentry {}\n", "if a;then ", "{", "}"],
        ),
        ("grub_cfg", "", &["linux a b c\n", "function f {", "\\\n", "if a; then b; fi\n", "set "]),
        ("grub_cfg", "[ ", &["a ", "! ", "-o ", "$a"]),
        ("fstab", "", &["a b c\n", "\\040", "a b c d,", "\n", "UUID=a\t/\te\n"]),
        ("crypttab", "", &["a b\n", "a b c d\n", "a ", "\n"]),
        ("crypttab", "a b c ", &[",", "d,"]),
        ("os_release", "", &["ID=a\n", "NAME=\"\\", "\n", "ID="]),
        ("descriptor", "", &["a=1\n", "[a]\n", "a.", "[", "a={", "[[a]]\n", "\"\\u0041", "a=[["]),
        ("descriptor", "format = 1\na = ", &["[", "{a=", "[{},", "[1,", "\"a\",", "1", "\\u0041"]),
        (
            "vendor_grub_cfg",
            "",
            &["search.fs_uuid a\n", "set prefix=($root)/a/grub\n", "search -u "],
        ),
        ("loader_stub", "", &["# image a 1 b\n", "set prefix=\"($root)\"", "@uuid@", "\n# end "]),
        ("worker_answer", "", &["[", "{\"Ok\":", "{", "\"\\u0041", "[{\"content\":"]),
        ("worker_answer", "{\"Ok\":[{\"not_mounted\":[", &["\"\",", "[", "{\"a\":"]),
        ("list_answer", "{\"warnings\":[", &["\"\",", "[", "{\"a\":"]),
        ("mount_table", "", &["1 1 1:1 / / a - a a\n", " ", "\\040", "\n"]),
    ];
    let mut found = Vec::new();
    for (name, beginning, words) in cases {
        let target = fuzz::named(name).unwrap();
        for word in words {
            let input = format!("{beginning}{}", word.repeat(LENGTH / word.len()));
            let taken = measure(|| (target.run)(input.as_bytes()));
            found.extend(excess(target, &format!("{beginning:?}, then {word:?}"), taken));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
