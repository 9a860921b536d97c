//! The targets: a name, and a function that takes any bytes and must return.
#![allow(
    clippy::expect_used,
    reason = "an answer that is not as expected is what a target reports"
)]

mod devices;
mod efi;
mod failing;
mod images;
mod loaders;
mod processes;
mod rescue;
mod system_files;
mod text;

/// A parser, or several of the same bytes.
#[derive(Debug)]
pub struct Target {
    /// Its name, which is also that of its directory in `corpus/`.
    pub name: &'static str,
    /// Parses the bytes and panics if an answer is wrong.
    pub run: fn(&[u8]),
    /// The longest input that is tried, in bytes.
    pub longest: usize,
}

/// Files of a root and of an ESP: longer than the captured ones.
const FILE: usize = 16 << 10;

/// Super blocks, descriptors and bitmaps.
const DEVICE: usize = 48 << 10;

/// What is one line or one message.
const LINE: usize = 4 << 10;

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "apt_output", run: system_files::apt_output, longest: LINE },
    Target { name: "pacman_output", run: system_files::pacman_output, longest: LINE },
    Target { name: "rpm_output", run: system_files::rpm_output, longest: LINE },
    Target { name: "archive", run: system_files::archive, longest: DEVICE },
    Target { name: "block_copy", run: devices::block_copy, longest: DEVICE },
    Target { name: "bls_entries", run: loaders::bls_entries, longest: LINE },
    Target { name: "boot_image", run: images::boot_image, longest: DEVICE },
    Target { name: "crypttab", run: system_files::crypttab, longest: LINE },
    Target { name: "fstab", run: system_files::fstab, longest: LINE },
    Target { name: "descriptor", run: processes::descriptor, longest: LINE },
    Target { name: "efi_device_path", run: efi::device_path, longest: LINE },
    Target { name: "efi_load_option", run: efi::load_option, longest: LINE },
    Target { name: "efi_variable", run: efi::variable, longest: LINE },
    Target { name: "exclude_pattern", run: system_files::exclude_pattern, longest: LINE },
    Target { name: "grub_cfg", run: loaders::grub_cfg, longest: FILE },
    Target { name: "grub_environment", run: loaders::grub_environment, longest: 1024 },
    Target { name: "kernel_command_line", run: loaders::kernel_command_line, longest: LINE },
    Target { name: "list_answer", run: processes::list_answer, longest: LINE },
    Target { name: "loader_stub", run: loaders::stub, longest: LINE },
    Target { name: "module_lists", run: rescue::module_lists, longest: LINE },
    Target { name: "manifest", run: processes::manifest, longest: LINE },
    Target { name: "mount_table", run: system_files::mount_table, longest: LINE },
    Target { name: "os_release", run: system_files::os_release, longest: LINE },
    Target { name: "package_list", run: system_files::package_list, longest: LINE },
    Target { name: "package_sources", run: system_files::package_sources, longest: LINE },
    Target { name: "partition_table", run: devices::partition_table, longest: DEVICE },
    Target { name: "super_block", run: devices::super_block, longest: DEVICE },
    Target { name: "sync_list", run: system_files::sync_list, longest: LINE },
    Target { name: "swaps", run: system_files::swaps, longest: LINE },
    Target { name: "uevent", run: rescue::uevent, longest: LINE },
    Target { name: "unified_kernel_image", run: images::unified_kernel_image, longest: FILE },
    Target { name: "vendor_grub_cfg", run: loaders::vendor_grub_cfg, longest: LINE },
    Target { name: "history", run: processes::history, longest: LINE },
    Target { name: "worker_answer", run: processes::worker_answer, longest: LINE },
];

/// Targets that always fail, to prove that a failure is noticed.
pub const FAILING: &[Target] = &[
    Target { name: "failing_stack", run: failing::stack, longest: LINE },
    Target { name: "failing_memory", run: failing::memory, longest: LINE },
    Target { name: "failing_time", run: failing::time, longest: LINE },
];

/// The target of a name, also one that always fails.
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().chain(FAILING).find(|target| target.name == name)
}
