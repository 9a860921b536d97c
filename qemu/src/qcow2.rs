//! An empty qcow2 image over a raw backing file (QEMU, docs/interop/qcow2.rst), so that a machine
//! does not write to the cached disk.

const CLUSTER: usize = 1 << 16;
/// An L1 entry points at a cluster of L2 entries. Each has 8 bytes, and points at a data cluster.
const COVERED_BY_L1_ENTRY: u64 = (CLUSTER as u64 / 8) * CLUSTER as u64;
const BACKING_FORMAT: u32 = 0xE279_2ACA;

/// The bytes of an image of `size` bytes that reads as the raw file `backing` until it is written
/// to. `None` if the size or the name exceeds the limits of four clusters of metadata (4 TiB, 1023
/// bytes).
pub(crate) fn overlay(backing: &str, size: u64) -> Option<Vec<u8>> {
    let entries = u32::try_from(size.div_ceil(COVERED_BY_L1_ENTRY)).ok()?;
    if backing.len() > 1023 || entries as usize > CLUSTER / 8 {
        return None;
    }
    let format = b"raw";
    let mut image = vec![0; 4 * CLUSTER];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        image[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    // Header length 104, then one extension of 8 + 8 bytes and the end extension of 8.
    let backing_offset: u64 = 104 + 16 + 8;
    put(b"QFI\xfb");
    put(&3u32.to_be_bytes());
    put(&backing_offset.to_be_bytes());
    put(&(backing.len() as u32).to_be_bytes());
    put(&CLUSTER.trailing_zeros().to_be_bytes());
    put(&size.to_be_bytes());
    put(&0u32.to_be_bytes()); // no encryption
    put(&entries.to_be_bytes());
    put(&(3 * CLUSTER as u64).to_be_bytes()); // L1 table
    put(&(CLUSTER as u64).to_be_bytes()); // reference count table
    put(&1u32.to_be_bytes());
    put(&[0; 12]); // no snapshots
    put(&[0; 24]); // no features
    put(&4u32.to_be_bytes()); // counts of 16 bits
    put(&104u32.to_be_bytes());
    put(&BACKING_FORMAT.to_be_bytes());
    put(&(format.len() as u32).to_be_bytes());
    put(format);
    put(&[0; 5]); // padding of the extension
    put(&[0; 8]); // end of extensions
    put(backing.as_bytes());
    image[CLUSTER..CLUSTER + 8].copy_from_slice(&(2 * CLUSTER as u64).to_be_bytes());
    for cluster in 0..4 {
        image[2 * CLUSTER + 2 * cluster + 1] = 1;
    }
    Some(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_header_is_what_the_specification_says() {
        let image = overlay("/a/disk", 12 << 30).unwrap();
        assert_eq!(&image[..8], b"QFI\xfb\0\0\0\x03");
        assert_eq!(image[24..32], (12u64 << 30).to_be_bytes());
        assert_eq!(image[36..40], 24u32.to_be_bytes());
        assert_eq!(
            &image[104..135],
            b"\xe2\x79\x2a\xca\0\0\0\x03raw\0\0\0\0\0\0\0\0\0\0\0\0\0/a/disk"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(overlay("x", 5 << 40).is_none());
        assert!(overlay(&"x".repeat(1024), 1 << 30).is_none());
    }

    /// QEMU itself opens the image for writing, which checks its tables.
    #[test]
    fn qemu_opens_it() {
        let directory = tempfile::tempdir().unwrap();
        let backing = directory.path().join("disk.raw");
        std::fs::File::create(&backing).unwrap().set_len(3 << 30).unwrap();
        let image = directory.path().join("disk.qcow2");
        std::fs::write(&image, overlay(&backing.to_string_lossy(), 3 << 30).unwrap()).unwrap();
        let mut child = Command::new("qemu-system-x86_64")
            .args([
                "-machine",
                "none",
                "-nodefaults",
                "-display",
                "none",
                "-qmp",
                "stdio",
                "-blockdev",
            ])
            .arg(format!(
                "driver=qcow2,node-name=n,file.driver=file,file.filename={}",
                image.display()
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        use std::io::Write;
        let commands = ["qmp_capabilities", "query-named-block-nodes", "quit"]
            .map(|command| format!("{{\"execute\":\"{command}\"}}\n"))
            .concat();
        child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(
            text.contains("\"backing-filename-format\": \"raw\"")
                && text.contains("\"virtual-size\": 3221225472"),
            "{text}"
        );
    }
}
