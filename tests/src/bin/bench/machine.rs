//! Describes the machine that the figures were measured on: processor, memory, kernel, and versions
//! of the tools, but nothing that identifies it.

use std::process::Command;

use tests::programs::path;

use crate::report::Machine;

/// Commands that print the version of a tool in their first line.
const VERSIONS: &[&str] = &[
    "mke2fs -V",
    "mkfs.xfs -V",
    "mkfs.btrfs --version",
    "cp --version",
    "tar --version",
    "bsdtar --version",
    "cpio --version",
    "rsync --version",
    "xcp --version",
    "fsarchiver --version",
    "partclone.ext4 --version",
];

pub fn describe() -> Machine {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_once(':').map(|(_, value)| value.trim().to_owned()))
            .unwrap_or_default()
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kib: f64 = memory.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    Machine {
        processor: field(&read("/proc/cpuinfo"), "model name"),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        memory_gib: kib / f64::from(1 << 20),
        // Without the suffix of the distribution.
        kernel: release.trim().split('-').next().unwrap_or_default().to_owned(),
        tools: VERSIONS.iter().filter_map(|command| version(command)).collect(),
    }
}

/// The first line with a digit, or `None` if the tool is missing.
fn version(command: &str) -> Option<String> {
    let output = Command::new("sh")
        .args(["-c", &format!("{command} 2>&1")])
        .env("PATH", path())
        .env("LC_ALL", "C.UTF-8")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains(|c: char| c.is_ascii_digit()))?;
    let is_installed = output.status.code() != Some(127);
    is_installed.then(|| line.split_whitespace().collect::<Vec<_>>().join(" "))
}
