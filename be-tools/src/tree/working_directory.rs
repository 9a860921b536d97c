//! Where a thread stands: its own working directory, in which entries are reached by their bare
//! names. The calls on extended attributes take no directory, and a way through /proc costs three
//! times as much.

use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;

/// The working directory of one thread, which is then no longer that of the others.
#[derive(Debug, Default)]
pub struct Standpoint {
    is_own: bool,
}

impl Standpoint {
    /// Goes into a directory.
    ///
    /// # Errors
    /// As fchdir(2).
    pub fn go(&mut self, directory: &OwnedFd) -> Result<(), Errno> {
        if !self.is_own {
            unshare(CloneFlags::CLONE_FS).map_err(|why| Errno::from_raw_os_error(why as i32))?;
            self.is_own = true;
        }
        rustix::process::fchdir(directory)
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
                let directory = tempfile::tempdir().unwrap();
                let fd = rustix::fs::open(
                    directory.path(),
                    super::super::directories::DIRECTORY,
                    rustix::fs::Mode::empty(),
                );
                Standpoint::default().go(&fd.unwrap()).unwrap();
                assert_eq!(
                    std::env::current_dir().unwrap(),
                    directory.path().canonicalize().unwrap()
                );
            });
        });
        assert_eq!(std::env::current_dir().unwrap(), before);
    }
}
