//! A working directory per thread, so that entries can be reached by their bare names. The calls on
//! extended attributes take no directory descriptor, and a path through /proc takes three times as
//! long.

use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;

/// The working directory of one thread, independent of that of other threads.
#[derive(Debug, Default)]
pub struct WorkingDirectory {
    is_unshared: bool,
}

impl WorkingDirectory {
    /// Changes the working directory of this thread.
    ///
    /// # Errors
    /// As fchdir(2).
    pub fn change_to(&mut self, directory: &OwnedFd) -> Result<(), Errno> {
        if !self.is_unshared {
            unshare(CloneFlags::CLONE_FS).map_err(|why| Errno::from_raw_os_error(why as i32))?;
            self.is_unshared = true;
        }
        rustix::process::fchdir(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_threads_keep_their_working_directory() {
        let before = std::env::current_dir().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let directory = tempfile::tempdir().unwrap();
                let fd = rustix::fs::open(
                    directory.path(),
                    super::super::directories::DIRECTORY,
                    rustix::fs::Mode::empty(),
                );
                WorkingDirectory::default().change_to(&fd.unwrap()).unwrap();
                assert_eq!(
                    std::env::current_dir().unwrap(),
                    directory.path().canonicalize().unwrap()
                );
            });
        });
        assert_eq!(std::env::current_dir().unwrap(), before);
    }
}
