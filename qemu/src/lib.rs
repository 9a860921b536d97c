//! Virtual machines for tests, with real firmware, real Debian systems, and consoles whose output
//! can be waited for.
//!
//! A [`Builder`] describes a machine and starts it as a [`Machine`], which ends when it is dropped:
//!
//! ```no_run
//! # fn main() -> qemu::Result<()> {
//! let debian = qemu::Debian::new(qemu::Release::Bookworm).build()?;
//! let vm = debian.machine()?.start()?;
//! vm.ready()?;
//! assert_eq!(vm.run("cat /etc/debian_version")?.stdout.trim(), "12.12");
//! # Ok(()) }
//! ```
//!
//! Three environment variables: `LIFEBOAT_ACCEL=tcg|kvm` forces the accelerator. `LIFEBOAT_SLOW=4`
//! sets the factor of every deadline, which is 2 where several machines share the processors and 1
//! elsewhere. `LIFEBOAT_FIXTURES=DIR` moves the cache of fixtures out of `target/fixtures`.

mod accel;
mod agent;
mod base64;
mod builder;
mod console;
mod disk;
mod error;
mod firmware;
mod fixture;
mod guest;
mod host;
mod launcher;
mod lock;
mod machine;
mod process;
mod qcow2;
mod qmp;
mod status;
mod sys;
mod transcript;
mod watch;
mod write_log;

pub use accel::Accelerator;
pub use agent::Output;
pub use builder::{Builder, Kernel};
pub use console::Console;
pub use disk::{Bus, Disk, Format};
pub use error::{Error, Result};
pub use firmware::Firmware;
pub use fixture::{Debian, Fixture, ROOT_PASSWORD, Release};
pub use host::{deadline, target_dir};
pub use lock::machines_at_once;
pub use machine::Machine;
pub use write_log::WriteLog;
