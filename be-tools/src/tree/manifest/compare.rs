//! Compares two manifests.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::FileType;

use super::content::Hash;
use super::described::UNKNOWN_XATTRS;
use super::entry::{Content, Entry, Manifest};
use crate::escape::path_text;
use crate::tree::compare::{Attribute, Difference, How, Which};
use crate::tree::listing::kind_name;

/// Compares what two manifests know: everything but times, and content where both have it. Sockets
/// are left out, because archives have none.
pub fn compare(first: &Manifest, second: &Manifest) -> Vec<Difference> {
    let mut differences = Vec::new();
    let [mut one, mut two] = [first, second].map(|manifest| {
        manifest.entries.iter().filter(|entry| entry.kind != FileType::Socket).peekable()
    });
    let mut add = |entry: &Entry, how| {
        let path = PathBuf::from(OsStr::from_bytes(&entry.path));
        differences.push(Difference { path, how });
    };
    loop {
        let order = match (one.peek(), two.peek()) {
            (Some(first), Some(second)) => first.place().cmp(&second.place()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        match order {
            Ordering::Less => one
                .next()
                .into_iter()
                .for_each(|entry| add(entry, How::OnlyIn(Which::First, entry.kind))),
            Ordering::Greater => two
                .next()
                .into_iter()
                .for_each(|entry| add(entry, How::OnlyIn(Which::Second, entry.kind))),
            Ordering::Equal => {
                if let (Some(first), Some(second)) = (one.next(), two.next()) {
                    let changed = changed(first, second);
                    if !changed.is_empty() {
                        add(first, How::Changed(changed));
                    }
                }
            }
        }
    }
    differences.sort_by(|a, b| a.path.cmp(&b.path));
    differences
}

fn changed(first: &Entry, second: &Entry) -> Vec<Attribute> {
    let mut changed = Vec::new();
    let mut add = |name: &str, first: String, second: String| {
        if first != second {
            changed.push(Attribute { name: name.to_owned(), first, second });
        }
    };
    add("type", kind_name(first.kind).into(), kind_name(second.kind).into());
    let owner = |entry: &Entry| format!("{}:{}", entry.owner.0, entry.owner.1);
    add("owner", owner(first), owner(second));
    if first.kind != second.kind {
        return changed;
    }
    // The mode of a symlink has no effect.
    if first.kind != FileType::Symlink {
        add("mode", format!("{:04o}", first.mode), format!("{:04o}", second.mode));
    }
    if first.kind == FileType::RegularFile {
        add("size", first.size.to_string(), second.size.to_string());
    }
    let nothing = String::new;
    match (&first.content, &second.content) {
        (Content::Hash(one), Content::Hash(two)) if first.size == second.size => {
            // A sparse file is hashed in another way, which its other side may not be.
            let is_comparable = matches!(
                (one, two),
                (Hash::Whole(_), Hash::Whole(_)) | (Hash::Sparse(_), Hash::Sparse(_))
            );
            if is_comparable && one != two {
                changed.push(Attribute {
                    name: "content".into(),
                    first: nothing(),
                    second: nothing(),
                });
            }
        }
        (Content::Target(one), Content::Target(two)) => {
            let text = |target: &[u8]| path_text(OsStr::from_bytes(target).as_ref());
            add("target", text(one), text(two));
        }
        (Content::Device(major, minor), Content::Device(a, b)) => {
            add("device", format!("{major}:{minor}"), format!("{a}:{b}"));
        }
        _ => {}
    }
    let are_known = first.xattrs != UNKNOWN_XATTRS && second.xattrs != UNKNOWN_XATTRS;
    if are_known && first.xattrs != second.xattrs {
        changed.push(Attribute { name: "xattrs".into(), first: nothing(), second: nothing() });
    }
    changed
}
