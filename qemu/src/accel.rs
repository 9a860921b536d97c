//! What runs the guest's instructions. That `/dev/kvm` opens proves nothing: nested hosts hang at
//! the first guest instruction.

use crate::host::Tool;
use crate::{Error, Result};
use std::io::Read;
use std::process::Stdio;
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

/// The accelerator of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor's own virtualisation.
    Kvm,
    /// QEMU's translator: works everywhere, ten times slower.
    Tcg,
}

impl Accelerator {
    /// `LIFEBOAT_ACCEL` if set; KVM if a real guest ran under it once in this process; TCG
    /// otherwise.
    ///
    /// # Errors
    /// `LIFEBOAT_ACCEL` is neither `tcg` nor `kvm`.
    pub fn choose() -> Result<Accelerator> {
        static PROBED: OnceLock<Accelerator> = OnceLock::new();
        match std::env::var("LIFEBOAT_ACCEL").ok().as_deref() {
            Some("tcg") => Ok(Accelerator::Tcg),
            Some("kvm") => Ok(Accelerator::Kvm),
            Some("") | None => Ok(*PROBED.get_or_init(probe)),
            Some(other) => {
                Err(Error::Description(format!("LIFEBOAT_ACCEL is {other:?}: use tcg or kvm")))
            }
        }
    }

    pub(crate) fn arguments(self) -> [&'static str; 4] {
        match self {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // QEMU forgets what it has translated only when the buffer is full. After a restart the
            // pages of the last kernel are data, and each write to one looks through its old
            // translations: with a large buffer the firmware takes minutes, as if it hung. Without
            // nested virtualisation, whose modules the guest would load. Without fast string
            // operations: QEMU moves them byte by byte, and the guest takes another way to copy if
            // it has none.
            Accelerator::Tcg => [
                "-accel",
                "tcg,thread=multi,tb-size=48",
                "-cpu",
                "max,svm=off,la57=off,erms=off,fsrm=off",
            ],
        }
    }
}

fn probe() -> Accelerator {
    if !std::path::Path::new("/dev/kvm").exists() {
        return Accelerator::Tcg;
    }
    let chosen = if seabios_speaks(Accelerator::Kvm, Duration::from_secs(4)) {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    };
    log::info!("accelerator: {chosen:?}");
    chosen
}

/// Starts a machine that has nothing but SeaBIOS and waits for its greeting on the debug port.
fn seabios_speaks(accelerator: Accelerator, limit: Duration) -> bool {
    let child = Tool::new("qemu-system-x86_64")
        .args(accelerator.arguments())
        .args(["-machine", "q35", "-m", "64", "-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-chardev", "stdio,id=debug", "-device", "isa-debugcon,iobase=0x402,chardev=debug"])
        .spawn(Stdio::piped(), Stdio::null());
    let Ok(mut child) = child else { return false };
    let (sender, receiver) = mpsc::channel();
    if let Some(mut stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut seen = Vec::new();
            let mut chunk = [0; 256];
            while let Ok(count @ 1..) = stdout.read(&mut chunk) {
                seen.extend_from_slice(&chunk[..count]);
                if seen.windows(7).any(|w| w == b"SeaBIOS") {
                    let _ = sender.send(());
                    return;
                }
            }
        });
    }
    let spoke = receiver.recv_timeout(limit).is_ok();
    let _ = child.kill();
    // A guest that hangs inside the kernel may not die at once; it must not take us along.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(20));
    }
    spoke
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_guest_runs_under_tcg() {
        assert!(seabios_speaks(Accelerator::Tcg, crate::deadline(20)));
    }

    #[test]
    fn a_guest_that_cannot_run_is_found_out_in_time() {
        let start = Instant::now();
        assert!(!seabios_speaks(Accelerator::Tcg, Duration::ZERO));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
