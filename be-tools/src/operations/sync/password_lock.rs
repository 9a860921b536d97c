//! The lock of the files of accounts (lckpwdf(3)), which systemd-sysusers(8) and useradd(8) take.

use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{Doing, Result};
use crate::root_dir::RootDir;
use crate::storage::retry::retry;

/// Relative to the root.
const PATH: &str = "etc/.pwd.lock";

/// How long it is waited for, as lckpwdf(3) does.
const PATIENCE: Duration = Duration::from_secs(15);

/// The lock, until it is dropped.
pub(super) struct PasswordLock {
    _file: std::fs::File,
}

impl PasswordLock {
    /// Takes it.
    ///
    /// # Errors
    /// It cannot be written, or another program has it.
    pub(super) fn take(root: &RootDir) -> Result<Self> {
        let path = root.path().join(PATH);
        let mut options = std::fs::File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(nix::libc::O_NOFOLLOW).open(&path).at("opening", &path)?;
        let lock = nix::libc::flock {
            l_type: nix::libc::F_WRLCK.try_into().unwrap_or_default(),
            l_whence: 0,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        let is_taken = |error: &Errno| matches!(error, Errno::EAGAIN | Errno::EACCES);
        retry(PATIENCE, is_taken, || fcntl(&file, FcntlArg::F_SETLK(&lock)))
            .map_err(std::io::Error::from)
            .at("locking", &path)?;
        Ok(PasswordLock { _file: file })
    }
}
