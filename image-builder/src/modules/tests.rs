use super::*;
use crate::families::FAMILIES;
use std::process::Command;

/// A relocatable ELF file with only a `.modinfo` section.
fn module(info: &[&str]) -> Vec<u8> {
    let mut data: Vec<u8> = info.join("\0").into_bytes();
    data.push(0);
    let names = b"\0.modinfo\0.shstrtab\0";
    let sections_at = (64 + data.len() + names.len()).next_multiple_of(8);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\x3e\0\x01\0\0\0".to_vec();
    file.extend([0; 16]); // entry, program headers
    file.extend((sections_at as u64).to_le_bytes());
    file.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
    file.extend(&data);
    file.extend(names);
    file.resize(sections_at, 0);
    let mut section = |name: u32, kind: u32, at: usize, size: usize| {
        file.extend(name.to_le_bytes());
        file.extend(kind.to_le_bytes());
        for word in [0, 0, at as u64, size as u64, 0, 0, 0] {
            file.extend(word.to_le_bytes());
        }
    };
    section(0, 0, 0, 0);
    section(1, 1, 64, data.len());
    section(10, 3, 64 + data.len(), names.len());
    file
}

/// A module directory with the given files and their `.modinfo` (from Debian's 6.1.0-56-amd64,
/// shortened), and the given built-in modules.
fn directory(modules: &[(&str, &[&str])], builtin: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, info) in modules {
        let path = directory.path().join("kernel").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let plain = path.with_extension("");
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => {
                fs::write(&plain, module(info)).unwrap();
                let status = Command::new("xz").arg("--check=crc32").arg(&plain).status();
                assert!(status.unwrap().success());
            }
            Some("zst") => {
                let data = zstd::encode_all(module(info).as_slice(), 3).unwrap();
                fs::write(&path, data).unwrap();
            }
            _ => fs::write(&path, module(info)).unwrap(),
        }
    }
    let list: String = builtin.iter().map(|name| format!("kernel/{name}\n")).collect();
    fs::write(directory.path().join("modules.builtin"), list).unwrap();
    directory
}

const FILE_SYSTEMS: &[(&str, &[&str])] = &[
    (
        "fs/ext4/ext4.ko",
        &[
            "softdep=pre: crc32c",
            "alias=fs-ext4",
            "alias=ext3",
            "depends=jbd2,mbcache,crc16",
            "name=ext4",
        ],
    ),
    ("fs/jbd2/jbd2.ko.xz", &["depends=crc16"]),
    ("fs/mbcache.ko.zst", &["depends="]),
    ("lib/crc16.ko", &["depends="]),
    (
        "drivers/usb/storage/usb-storage.ko",
        &["alias=usb:v*p*d*dc*dsc*dp*ic08isc06ip50in*", "depends=scsi-mod"],
    ),
    ("drivers/scsi/scsi_mod.ko", &["depends="]),
    ("drivers/net/unwanted.ko", &["depends="]),
];

const EXT4: Family = Family { name: "ext4", required: &["ext4"], optional: &["crc32c_intel"] };

fn lists(directory: &tempfile::TempDir, families: &[Family], extra: &[&str]) -> String {
    let extra: Vec<String> = extra.iter().map(|name| (*name).into()).collect();
    let directory = ModuleDirectory::open(directory.path(), "6.1.0-56-amd64").unwrap();
    let selection = directory.select(families, &extra).unwrap();
    format!("{}{}{}", selection.dependencies(), selection.aliases(), selection.soft_dependencies())
}

#[test]
fn a_module_brings_its_dependencies_in_the_order_of_depmod() {
    let directory = directory(FILE_SYSTEMS, &["lib/crc32c.ko"]);
    assert_eq!(
        lists(&directory, &[EXT4], &["usb-storage"]),
        "\
kernel/lib/crc16.ko.zst:
kernel/fs/ext4/ext4.ko.zst: kernel/fs/mbcache.ko.zst kernel/fs/jbd2/jbd2.ko.zst \
kernel/lib/crc16.ko.zst
kernel/fs/jbd2/jbd2.ko.zst: kernel/lib/crc16.ko.zst
kernel/fs/mbcache.ko.zst:
kernel/drivers/scsi/scsi_mod.ko.zst:
kernel/drivers/usb/storage/usb-storage.ko.zst: kernel/drivers/scsi/scsi_mod.ko.zst
alias fs-ext4 ext4
alias ext3 ext4
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip50in* usb_storage
softdep ext4 pre: crc32c
"
    );
}

#[test]
fn every_module_is_compressed_with_zstd_whatever_the_kernel_package_used() {
    let directory = directory(FILE_SYSTEMS, &[]);
    let modules = ModuleDirectory::open(directory.path(), "6.1").unwrap();
    let mut archive = Archive::default();
    modules.select(&[EXT4], &[]).unwrap().install(3, &mut archive).unwrap();
    for name in [
        "modules.dep",
        "modules.builtin",
        "kernel/fs/ext4/ext4.ko.zst",
        "kernel/fs/jbd2/jbd2.ko.zst",
    ] {
        assert!(archive.contains(&format!("lib/modules/6.1/{name}")), "{name}");
    }
    assert!(!archive.contains("lib/modules/6.1/kernel/drivers/net/unwanted.ko.zst"));
}

#[test]
fn a_built_in_module_counts_as_present() {
    let directory = directory(&[("lib/x.ko", &["depends="])], &["fs/ext4/ext4.ko"]);
    assert_eq!(lists(&directory, &[EXT4], &[]), "");
}

#[test]
fn a_kernel_that_lacks_a_family_is_refused_and_the_family_named() {
    // Debian's cloud kernel has NVMe, but no AHCI and no USB storage.
    let directory = directory(&[("drivers/nvme/host/nvme.ko", &["depends="])], &[]);
    let directory = ModuleDirectory::open(directory.path(), "6.1.0-56-cloud-amd64").unwrap();
    let error = directory.select(FAMILIES, &["e1000e".into()]).unwrap_err().to_string();
    assert!(error.starts_with("kernel 6.1.0-56-cloud-amd64 lacks virtio ("), "{error}");
    assert!(error.contains(", AHCI (ahci), "), "{error}");
    assert!(error.contains("module e1000e; a rescue image needs a generic kernel"), "{error}");
    assert!(!error.contains("NVMe"), "{error}");
}

#[test]
fn a_missing_dependency_is_an_error() {
    let directory = directory(&[("fs/ext4/ext4.ko", &["depends=jbd2"])], &[]);
    let directory = ModuleDirectory::open(directory.path(), "6.1").unwrap();
    let error = directory.select(&[EXT4], &[]).unwrap_err().to_string();
    assert!(error.starts_with("module ext4 depends on jbd2, which"), "{error}");
}
