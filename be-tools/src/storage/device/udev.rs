//! The symlinks that udev makes from what a device holds (`60-persistent-storage.rules` of systemd).

use std::path::Path;

/// The tag of mount(8) and the value that a symlink such as `/dev/disk/by-uuid/X` stands for.
pub(super) fn tag_of(path: &Path) -> Option<(&'static str, String)> {
    let below = path.to_str()?.strip_prefix("/dev/disk/by-")?;
    let (kind, name) = below.split_once('/')?;
    let tag = match kind {
        "uuid" => "UUID",
        "label" => "LABEL",
        "partuuid" => "PARTUUID",
        "partlabel" => "PARTLABEL",
        _ => return None,
    };
    Some((tag, unescape(name)?))
}

/// Undoes the escapes of `udev_node_escape_path` and `encode_devnode_name`: `\x20` for a blank.
fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split("\\x");
    let mut plain = parts.next()?.as_bytes().to_vec();
    for part in parts {
        plain.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        plain.extend(part.get(2..)?.bytes());
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symlink_of_udev_stands_for_a_tag() {
        for (path, expected) in [
            ("/dev/disk/by-uuid/7A1B-22C3", Some(("UUID", "7A1B-22C3"))),
            ("/dev/disk/by-partuuid/ab-01", Some(("PARTUUID", "ab-01"))),
            (r"/dev/disk/by-label/my\x20root", Some(("LABEL", "my root"))),
            (r"/dev/disk/by-partlabel/a\x2fb\xc3\xa4", Some(("PARTLABEL", "a/b\u{e4}"))),
            (r"/dev/disk/by-label/bad\x2", None),
            (r"/dev/disk/by-label/bad\xff", None),
            ("/dev/disk/by-id/virtio-SER1AL", None),
            ("/dev/disk/by-path/pci-0", None),
            ("/dev/vda1", None),
        ] {
            let expected = expected.map(|(tag, value)| (tag, value.to_owned()));
            assert_eq!(tag_of(Path::new(path)), expected, "{path}");
        }
    }
}
