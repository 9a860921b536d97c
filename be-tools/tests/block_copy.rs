//! Block copies on loop devices. The results are checked with rsync, blkid, e2fsck, xfs_repair and
//! the kernel.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod loop_device;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{PoisonError, RwLock};

use be_tools::block_copy::{self, BlockCopyRequest, Edit, Identity};
use be_tools::environment::{DESCRIPTOR_PATH, Descriptor, State};
use be_tools::plan::Silent;
use be_tools::root_dir::RootDir;
use be_tools::storage::hold::Hold;
use loop_device::{Device, root, sh};

/// Fills a file system as in use: with all types of files, holes, and space that was freed again.
const USE: &str = "mkdir -p etc/lifeboat usr/lib a/b/c; echo x >a/f; ln a/f a/g; \
    ln -s nowhere a/l; mknod a/n c 1 3; setfattr -n user.a -v 1 a/f; setfacl -m u:4:rwx a/b; \
    chown 3:4 a/g; chmod 4711 a/g; \
    truncate -s 5M holes; printf x | dd of=holes bs=1 seek=2000000 conv=notrunc status=none; \
    head -c 9000001 /dev/urandom >large; split -a 3 -b 45678 large a/b/file-; \
    head -c 20000000 /dev/urandom >gone; sync -f .; \
    rm gone a/b/file-a[bdf]*; head -c 3000000 /dev/urandom >last";

/// Locked for writing while `be` runs. It opens every device, and meanwhile other tests could
/// neither mount nor unmount theirs.
static BE_RUNS: RwLock<()> = RwLock::new(());

fn request<'a>(source: &'a Device, target: &'a Hold) -> BlockCopyRequest<'a> {
    let identity = Identity { uuid: uuid::Uuid::new_v4(), label: "a-copy".into() };
    BlockCopyRequest { source: &source.node, target, identity, edits: Vec::new() }
}

fn check(device: &Device, is_xfs: bool) {
    let program = if is_xfs { "xfs_repair -n" } else { "e2fsck -fn" };
    sh(Path::new("/"), &format!("{program} {} 2>&1", device.node.display()));
}

fn blkid(device: &Device, tag: &str) -> String {
    sh(Path::new("/"), &format!("blkid -p -o value -s {tag} {}", device.node.display()))
        .trim()
        .to_owned()
}

fn rsync_finds_no_difference(source: &Path, target: &Path) {
    let [source, target] = [source, target].map(|path| path.display().to_string());
    let out = sh(
        Path::new("/"),
        &format!("rsync -aHAXn --checksum --numeric-ids --delete -i {source}/ {target}/"),
    );
    assert_eq!(out, "");
}

fn assert_copy_is_equal(mkfs: &[&str], size: &str, target_size: &str, more: &str) {
    let _be_does_not_run = BE_RUNS.read().unwrap_or_else(PoisonError::into_inner);
    let is_xfs = mkfs[0] == "mkfs.xfs";
    let source = Device::made(mkfs, size);
    source.mounted("noatime", |place| sh(place, &format!("{USE}; {more}")));
    let before = source.sum();
    let target = Device::garbage(target_size);
    let hold = target.hold();
    let request = request(&source, &hold);
    block_copy::copy(&request, &mut Silent).unwrap();
    assert_eq!(source.sum(), before, "{mkfs:?}");
    assert_eq!(blkid(&target, "UUID"), request.identity.uuid.to_string());
    assert_eq!(blkid(&target, "LABEL"), "a-copy");
    assert_ne!(blkid(&source, "UUID"), blkid(&target, "UUID"));
    check(&target, is_xfs);
    // Both are mounted at the same time, which xfs refuses if they have the same UUID.
    source.mounted("ro", |source| {
        target.mounted("ro", |target| rsync_finds_no_difference(source, target))
    });
    // The copy can be written to, also to blocks that were not copied.
    target.mounted("noatime", |place| {
        sh(
            place,
            "mkdir new; split -a 3 -b 9000 large new/; rm large; \
            head -c 15000000 /dev/zero >zeros; sync -f .",
        );
    });
    check(&target, is_xfs);
}

/// Makes a test of each line: options of mkfs, size, size of the target, and more files.
macro_rules! equal {
    ($($name:ident: $mkfs:expr, $size:expr, $target_size:expr, $more:expr;)*) => {$(
        #[test]
        fn $name() {
            if root() {
                assert_copy_is_equal(&$mkfs, $size, $target_size, $more);
            }
        }
    )*};
}

equal! {
    an_ext4_copy_is_equal: ["mkfs.ext4", "-q"], "96M", "128M", ":";
    an_ext4_copy_without_a_checksum_seed_is_equal:
        ["mkfs.ext4", "-q", "-O", "^metadata_csum_seed"], "80M", "80M", ":";
    an_ext4_copy_with_the_features_of_trixie_is_equal:
        ["mkfs.ext4", "-q", "-O", "metadata_csum_seed,orphan_file,large_dir"], "80M", "96M", ":";
    an_ext4_copy_with_meta_bg_is_equal:
        ["mkfs.ext4", "-q", "-O", "64bit,meta_bg,^resize_inode"], "80M", "96M", ":";
    an_ext4_copy_with_bigalloc_is_equal:
        ["mkfs.ext4", "-q", "-O", "bigalloc", "-C", "16384"], "80M", "96M", ":";
    an_ext4_copy_with_small_blocks_is_equal: ["mkfs.ext4", "-q", "-b", "1024"], "80M", "96M", ":";
    an_ext4_copy_without_checksums_is_equal:
        ["mkfs.ext4", "-q", "-O", "^metadata_csum,^uninit_bg"], "80M", "96M", ":";
    an_ext3_copy_is_equal: ["mkfs.ext3", "-q"], "80M", "96M", ":";
    an_ext2_copy_is_equal: ["mkfs.ext2", "-q"], "80M", "80M", ":";
    an_xfs_copy_with_shared_extents_is_equal:
        ["mkfs.xfs", "-q"], "320M", "352M",
        "cp --reflink=always large shared; cp --reflink=always a/f a/h";
    an_xfs_copy_with_four_groups_is_equal:
        ["mkfs.xfs", "-q", "-d", "agcount=4", "-m", "rmapbt=1"], "512M", "520M", ":";
    an_xfs_copy_with_small_blocks_is_equal:
        ["mkfs.xfs", "-q", "-b", "size=1024"], "320M", "320M", ":";
}

#[test]
fn the_copy_of_an_xfs_whose_log_has_wrapped_recovers_from_a_crash() {
    if !root() {
        return;
    }
    let _be_does_not_run = BE_RUNS.read().unwrap_or_else(PoisonError::into_inner);
    let source = Device::made(&["mkfs.xfs", "-q", "-f"], "320M");
    // Each checkpoint writes a few hundred KiB to the log, which has 64 MiB.
    let wrap = "mkdir d; for r in $(seq 200); do seq -f d/name-of-file-$r-%g 1000 | xargs touch; \
        sync -f .; rm -r d; mkdir d; done";
    source.mounted("noatime", |place| sh(place, &format!("{USE}; {wrap}")));
    // Another process may have read the log through the page cache while it was written.
    let node = source.node.display();
    let script = format!("blockdev --flushbufs {node}; xfs_logprint -t {node}");
    let log = sh(Path::new("/"), &script);
    assert!(log.contains("<CLEAN>"), "{log}");
    let target = Device::garbage("320M");
    block_copy::copy(&request(&source, &target.hold()), &mut Silent).unwrap();
    check(&target, true);
    // The bytes of a mounted file system are those that a power failure would leave.
    let crashed = Device::blank("320M");
    target.mounted("noatime", |place| {
        sh(place, "mkdir new; seq 2000 >all; split -l 1 -a 3 all new/; sync -f .");
        sh(
            place,
            &format!(
                "dd if={} of={} bs=1M conv=notrunc status=none",
                target.image().display(),
                crashed.image().display()
            ),
        );
    });
    crashed.mounted("nouuid", |place| {
        assert_eq!(sh(place, "cat new/* | cmp - all; ls new | wc -l"), "2000\n")
    });
    check(&crashed, true);
}

fn be(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_be")).args(arguments).output().unwrap()
}

fn listed(device: &Device) -> Option<serde_json::Value> {
    let out = be(&["list", "--json"]);
    let all: serde_json::Value = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)));
    let is_ours = |e: &&serde_json::Value| e["root"]["device"] == device.node.to_str().unwrap();
    all["environments"].as_array().unwrap().iter().find(is_ours).cloned()
}

/// A BE that is not running, with files that a copy must not have.
fn debian(mkfs: &[&str], size: &str, name: &str) -> Device {
    let device = Device::made(mkfs, size);
    let mut descriptor = Descriptor::new(name.parse().unwrap(), None);
    descriptor.state = State::Complete;
    descriptor.operation = None;
    let uuid = blkid(&device, "UUID");
    let fs_type = blkid(&device, "TYPE");
    device.mounted("noatime", |place| {
        sh(place, USE);
        sh(
            place,
            "echo 'ID=debian\nVERSION_ID=12' >usr/lib/os-release; \
            ln -s ../usr/lib/os-release etc/os-release; \
            mkdir -p proc/1 sys dev run/x tmp boot/grub var/log/lifeboat var/lib/lifeboat home; \
            chmod 1777 tmp; \
            for f in proc/1/a run/x/y tmp/t dev/sda boot/grub/grubenv var/log/lifeboat/l \
                var/lib/lifeboat/s; \
            do echo $f >$f; done; echo fixture >etc/hostname",
        );
        std::fs::write(place.join("etc/fstab"), format!("UUID={uuid} / {fs_type} defaults 0 1\n"))
            .unwrap();
        std::fs::write(place.join(DESCRIPTOR_PATH), descriptor.render().unwrap()).unwrap();
    });
    device
}

#[test]
fn a_copy_that_stops_after_the_super_block_is_a_separate_incomplete_be() {
    if !root() {
        return;
    }
    let _be_runs = BE_RUNS.write().unwrap_or_else(PoisonError::into_inner);
    for mkfs in [
        &["mkfs.ext4", "-q", "-F"][..],
        &["mkfs.ext4", "-q", "-F", "-b", "1024"],
        &["mkfs.xfs", "-q", "-f"],
    ] {
        let source = debian(mkfs, "320M", "stops-source");
        let target = Device::garbage("320M");
        let text = "format=1\nid=\"2f0c1a94-0000-4000-8000-000000000000\"\nname=\"stops-copy\"\n\
                    created=\"2026-11-23T06:12:00Z\"\nstate=\"incomplete\"\noperation=\"create\"\n";
        let edits: Vec<Edit> = source.mounted("ro", |place| {
            block_copy::edits_to_replace(&RootDir::open(place).unwrap(), DESCRIPTOR_PATH, text)
                .unwrap()
                .unwrap()
        });
        let hold = target.hold();
        let request = BlockCopyRequest { edits, ..request(&source, &hold) };
        block_copy::copy(&request, &mut Silent).unwrap();
        let found = listed(&target).unwrap();
        assert_eq!(found["descriptor"]["name"], "stops-copy");
        assert_eq!(found["descriptor"]["id"], "2f0c1a94-0000-4000-8000-000000000000");
        assert_eq!(found["descriptor"]["state"], "incomplete");
        assert_eq!(found["root"]["uuid"], request.identity.uuid.to_string());
        let original = listed(&source).unwrap();
        assert_eq!(
            (&original["descriptor"]["name"], &original["descriptor"]["state"]),
            (&"stops-source".into(), &"complete".into())
        );
        check(&target, mkfs[0] == "mkfs.xfs");
    }
}

#[test]
fn a_descriptor_without_blocks_of_its_own_is_not_overwritten() {
    if !root() {
        return;
    }
    let _be_does_not_run = BE_RUNS.read().unwrap_or_else(PoisonError::into_inner);
    let refusal = |device: &Device, text: &str| {
        device.mounted("ro", |place| {
            let root = RootDir::open(place).unwrap();
            block_copy::edits_to_replace(&root, DESCRIPTOR_PATH, text)
                .unwrap()
                .unwrap_err()
                .to_string()
        })
    };
    let xfs = debian(&["mkfs.xfs", "-q", "-f"], "320M", "shared");
    assert!(refusal(&xfs, &"x".repeat(5000)).contains("a shorter name would fit"));
    xfs.mounted("noatime", |place| {
        sh(place, &format!("cp --reflink=always {DESCRIPTOR_PATH} kept"))
    });
    assert!(refusal(&xfs, "x").contains("blocks of its own"));
    let inline = Device::made(&["mkfs.ext4", "-q", "-F", "-O", "inline_data", "-I", "1024"], "64M");
    inline.mounted("noatime", |place| {
        sh(place, &format!("mkdir -p etc/lifeboat; echo state >{DESCRIPTOR_PATH}"))
    });
    assert!(refusal(&inline, "x").contains("blocks of its own"));
    inline.mounted("noatime", |place| sh(place, &format!("rm {DESCRIPTOR_PATH}")));
    assert!(refusal(&inline, "x").contains("it has no /etc/lifeboat"));
}

fn words(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].concat().iter().map(|b| char::from(*b)).collect()
}

#[test]
fn create_copies_an_idle_source_by_blocks() {
    if !root() {
        return;
    }
    let _be_runs = BE_RUNS.write().unwrap_or_else(PoisonError::into_inner);
    for (mkfs, fs_type) in
        [(&["mkfs.ext4", "-q", "-F"][..], "ext4"), (&["mkfs.xfs", "-q", "-f"], "xfs")]
    {
        let [from, name] = ["source", "copy"].map(|role| format!("block-{role}-{fs_type}"));
        let source = debian(mkfs, "320M", &from);
        let before = source.sum();
        let target = Device::garbage("512M");
        let placement = format!("/:{}:{fs_type}", target.node.display());
        let create = [
            "create",
            &name,
            "--from",
            &from,
            "-m",
            &placement,
            "--no-boot-entry",
            "--yes",
            "--force",
        ];
        let plan = be(&[&create[..], &["--dry-run"]].concat());
        assert!(
            words(&plan).contains(&format!("copy the blocks of / of '{from}'")),
            "{}",
            words(&plan)
        );
        let out = be(&create);
        assert!(out.status.success(), "{}", words(&out));
        assert_eq!(source.sum(), before);
        let found = listed(&target).unwrap();
        assert_eq!(
            (&found["descriptor"]["name"], &found["descriptor"]["state"]),
            (&name.clone().into(), &"complete".into())
        );
        let source_id = listed(&source).unwrap()["descriptor"]["id"].clone();
        assert_eq!(found["descriptor"]["source"], source_id);
        check(&target, fs_type == "xfs");
        target.mounted("ro", |target| {
            let size = sh(target, "stat -f -c '%b*%S' .");
            let (blocks, block) = size.trim().split_once('*').unwrap();
            assert!(
                blocks.parse::<u64>().unwrap() * block.parse::<u64>().unwrap() > 400 << 20,
                "{size}"
            );
            assert_eq!(
                sh(
                    target,
                    "ls -A proc sys dev run tmp boot/grub var/log var/lib var/lib/lifeboat | \
                    grep -v : | grep . || true"
                ),
                "lifeboat\nmanifest.zst\nsync-base\nsync-base.zst\n"
            );
            let uuid = found["root"]["uuid"].as_str().unwrap();
            assert!(sh(target, "cat etc/fstab").contains(uuid));
            source.mounted("ro", |source| {
                let [source, target] =
                    [source, target].map(|path| path.join("a").display().to_string());
                assert_eq!(
                    sh(
                        Path::new("/"),
                        &format!("rsync -aHAXn --checksum --delete -i {source}/ {target}/")
                    ),
                    ""
                );
            });
        });
    }
}

#[test]
fn what_a_block_copy_cannot_do_is_refused_with_the_reason() {
    if !root() {
        return;
    }
    let _be_runs = BE_RUNS.write().unwrap_or_else(PoisonError::into_inner);
    let source = debian(&["mkfs.ext4", "-q"], "96M", "refusing-blocks");
    let (small, target) = (Device::blank("64M"), Device::blank("320M"));
    let create = |method: &str, device: &Device, fs_type: &str, more: &[&str]| {
        let placement = format!("/:{}:{fs_type}", device.node.display());
        let create = [
            "create",
            "refused-blocks",
            "--from",
            "refusing-blocks",
            "--no-boot-entry",
            "--dry-run",
        ];
        be(&[&create, &["--method", method, "-m", &placement][..], more].concat())
    };
    let refused = |out: Output, why: &str| {
        assert_eq!(out.status.code(), Some(3), "{why}: {}", words(&out));
        assert!(words(&out).contains(why), "{}", words(&out));
    };
    refused(create("snapshot", &target, "ext4", &[]), "makes no snapshots");
    refused(create("block", &small, "ext4", &[]), "is smaller than");
    refused(create("block", &target, "xfs", &[]), "holds ext4");
    refused(create("block", &target, "ext4", &["-x", "/home"]), "apply to files only");
    source.mounted("noatime", |_| {
        refused(create("block", &target, "ext4", &[]), "is mounted for writing on");
        let files = create("auto", &target, "ext4", &[]);
        assert!(words(&files).contains("copy the files of /"), "{}", words(&files));
    });
    source.mounted("ro", |_| {
        let blocks = create("block", &target, "ext4", &[]);
        assert!(words(&blocks).contains("copy the blocks of /"), "{}", words(&blocks));
    });
    assert!(words(&create("copy", &target, "ext4", &[])).contains("copy the files of /"));
    source.mounted("noatime", |place| sh(place, &format!("rm {DESCRIPTOR_PATH}")));
    let from = format!("@{}", source.node.display());
    let placement = format!("/:{}:ext4", target.node.display());
    let unmanaged =
        ["create", "refused", "--from", &from, "--no-boot-entry", "--dry-run", "--method", "block"];
    refused(be(&[&unmanaged, &["-m", &placement][..]].concat()), "has no descriptor");
}
