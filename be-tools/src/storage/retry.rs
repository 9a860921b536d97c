//! Waiting for a device that another program looks at for a moment.

use std::time::{Duration, Instant};

use rustix::io::Errno;

/// How long to wait for a busy device that is to be worked on: as long as a scan of another program
/// may look into it before it is given up.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// As [`BUSY_TIMEOUT`], for one that is only looked at: what a container has mounted stays mounted.
pub(crate) const SCAN_TIMEOUT: Duration = Duration::from_millis(200);

const PAUSE: Duration = Duration::from_millis(20);

/// Calls again while the answer is `EBUSY`: another program looks at the device and is about to
/// end, or the kernel has not given a file system up yet whose last mount has gone.
pub(crate) fn retry_busy<T, E: Copy + Into<std::io::Error>>(
    timeout: Duration,
    mut call: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    retry(timeout, |error: &E| is_busy(&(*error).into()), &mut call)
}

/// The kernel's answer is `EBUSY`.
pub(crate) fn is_busy(error: &std::io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::BUSY)
}

/// Calls again while it fails as `is_busy` says and there is time left.
pub(crate) fn retry<T, E>(
    timeout: Duration,
    is_busy: impl Fn(&E) -> bool,
    mut call: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let start = Instant::now();
    loop {
        match call() {
            Err(error) if is_busy(&error) && start.elapsed() < timeout => {
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_busy_is_tried_again_and_not_for_ever() {
        let answers = |errors: &'static [Errno]| {
            let mut left = errors.iter();
            let mut calls = 0;
            let result = retry_busy(Duration::from_secs(9), || {
                calls += 1;
                left.next().map_or(Ok(()), |error| Err(*error))
            });
            (result, calls)
        };
        assert_eq!(answers(&[Errno::BUSY, Errno::BUSY]), (Ok(()), 3));
        assert_eq!(answers(&[Errno::BUSY, Errno::NOENT]), (Err(Errno::NOENT), 2));
        let start = Instant::now();
        let never: Result<(), Errno> = retry_busy(SCAN_TIMEOUT, || Err(Errno::BUSY));
        assert_eq!(never, Err(Errno::BUSY));
        assert!(start.elapsed() >= SCAN_TIMEOUT && start.elapsed() < BUSY_TIMEOUT);
    }
}
