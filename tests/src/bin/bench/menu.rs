//! The time from the kernel's start to a usable menu, relative to the same kernel with a trivial
//! init.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use qemu::{Builder, Kernel, Release, deadline};
use tests::prepared::{SECOND, TwoEnvironments};
use tests::programs::run;
use tests::rescue;

use crate::Bench;
use crate::figures::{Figure, median};

const ROUNDS: usize = 3;
/// The memory in which the rescue image must run.
const MEMORY_MIB: u32 = 256;
const MARKER: &str = "trivial init is running";

pub fn measure(bench: &mut Bench) -> Result<()> {
    let directory = tempfile::tempdir_in(qemu::target_dir())?;
    let (image, initrd) = extract_kernel(directory.path())?;
    let trivial = trivial_init(directory.path())?;
    let two = TwoEnvironments::on(Release::Bookworm)?;
    let (mut menu, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = |initrd: &Path| -> Result<qemu::Machine> {
            let command_line =
                "console=ttyS0,115200 no_timer_check rdinit=/init rootfstype=ramfs".to_owned();
            let kernel =
                Kernel { image: image.clone(), initrd: Some(initrd.to_owned()), command_line };
            Ok(machine(&two)?.kernel(kernel).start()?)
        };
        let vm = start(&trivial)?;
        vm.console().expect("Linux version", deadline(60))?;
        let begin = Instant::now();
        vm.console().expect(MARKER, deadline(60))?;
        floor.push(begin.elapsed().as_secs_f64());
        drop(vm);

        let vm = start(&initrd)?;
        vm.console().expect("Linux version", deadline(60))?;
        let begin = Instant::now();
        vm.console().expect("Lifeboat rescue image", deadline(120))?;
        vm.console().expect(SECOND, deadline(120))?;
        vm.console().send("h")?;
        vm.console().expect("Keys", deadline(30))?;
        menu.push(begin.elapsed().as_secs_f64());
    }
    let ratio = median(menu).zip(median(floor)).map(|(menu, floor)| menu / floor);
    bench.report.figures.push(Figure::ratio(
        "kernel start to usable menu, to a trivial init (goal 1.5)",
        ratio,
        2.0,
    ));
    Ok(())
}

fn machine(two: &TwoEnvironments) -> Result<Builder> {
    Ok(two.machine()?.memory(MEMORY_MIB))
}

/// Extracts the kernel and the initramfs from the image.
fn extract_kernel(directory: &Path) -> Result<(PathBuf, PathBuf)> {
    let efi = rescue::image("lifeboat.efi")?;
    let (linux, initrd) = (directory.join("linux"), directory.join("initrd"));
    let section = |name: &str, path: &Path| format!("{name}={}", path.display());
    run(&[
        "objcopy",
        "--dump-section",
        &section(".linux", &linux),
        "--dump-section",
        &section(".initrd", &initrd),
        &efi.to_string_lossy(),
        // objcopy needs an output file, which is not used.
        &directory.join("copy.efi").to_string_lossy(),
    ])?;
    Ok((linux, initrd))
}

/// Creates an initramfs whose init prints [`MARKER`].
fn trivial_init(directory: &Path) -> Result<PathBuf> {
    let root = directory.join("trivial");
    std::fs::create_dir_all(root.join("dev"))?;
    let source = directory.join("init.c");
    std::fs::write(
        &source,
        format!(
            "#include <unistd.h>\n#include <fcntl.h>\n#include <sys/mount.h>\nint main(void) {{\n\
             mount(\"dev\", \"/dev\", \"devtmpfs\", 0, 0);\nint fd = open(\"/dev/console\", \
             O_WRONLY);\n\
             write(fd, \"{MARKER}\\n\", {});\nfor (;;) pause();\n}}\n",
            MARKER.len() + 1
        ),
    )?;
    run(&["cc", "-static", "-o", &root.join("init").to_string_lossy(), &source.to_string_lossy()])?;
    let archive = directory.join("trivial.cpio");
    let script = format!(
        "cd '{}' && find . | cpio -o -H newc --quiet > '{}'",
        root.display(),
        archive.display()
    );
    run(&["sh", "-c", &script])?;
    Ok(archive)
}
