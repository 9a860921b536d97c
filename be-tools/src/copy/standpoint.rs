//! Where a thread stands: its own working folder, in which entries are reached by their bare names.
//! The calls on extended attributes take no folder, and a way through /proc costs three times as
//! much.

use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;

/// The working folder of one thread, which is then no longer that of the others.
#[derive(Debug, Default)]
pub struct Standpoint {
    is_own: bool,
}

impl Standpoint {
    /// Goes into a folder.
    ///
    /// # Errors
    /// As fchdir(2).
    pub fn go(&mut self, folder: &OwnedFd) -> Result<(), Errno> {
        if !self.is_own {
            unshare(CloneFlags::CLONE_FS).map_err(|why| Errno::from_raw_os_error(why as i32))?;
            self.is_own = true;
        }
        rustix::process::fchdir(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_threads_stay_where_they_are() {
        let before = std::env::current_dir().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let folder = tempfile::tempdir().unwrap();
                let fd = rustix::fs::open(
                    folder.path(),
                    super::super::folders::FOLDER,
                    rustix::fs::Mode::empty(),
                );
                Standpoint::default().go(&fd.unwrap()).unwrap();
                assert_eq!(std::env::current_dir().unwrap(), folder.path().canonicalize().unwrap());
            });
        });
        assert_eq!(std::env::current_dir().unwrap(), before);
    }
}
