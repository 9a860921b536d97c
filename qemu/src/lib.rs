//! Virtual machines for tests: real firmware, real Debian systems, a console that can be waited
//! for.
//!
//! A machine is described by a [`Builder`], started as a [`Machine`], and ends with its handle:
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
//! The environment decides three things: `LIFEBOAT_ACCEL=tcg|kvm` forces the accelerator,
//! `LIFEBOAT_SLOW=4` doubles every deadline where several machines share the processors,
//! `LIFEBOAT_FIXTURES=DIR` moves the cache of fixtures out of `target/fixtures`.

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
