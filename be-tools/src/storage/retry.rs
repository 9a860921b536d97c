//! Waiting for a device that another program uses for a moment.

use std::time::{Duration, Instant};

use rustix::io::Errno;

/// How long to wait for a busy device that an operation needs. It is as long as a scan by another
/// program may use the device.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a scan waits for a busy device. It is short, because a device that a container has
/// mounted stays busy.
pub(crate) const SCAN_TIMEOUT: Duration = Duration::from_millis(200);

const PAUSE: Duration = Duration::from_millis(20);

/// Repeats `call` while it fails with `EBUSY`: another program reads the device for a moment, or
/// the kernel has not yet released a file system whose last mount was removed.
pub(crate) fn retry_busy<T, E: Copy + Into<std::io::Error>>(
    timeout: Duration,
    mut call: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    retry(timeout, |error: &E| is_busy(&(*error).into()), &mut call)
}

/// Whether the error is `EBUSY`.
pub(crate) fn is_busy(error: &std::io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::BUSY)
}

/// Repeats `call` while `is_busy` is true of its error, until `timeout` has passed or the operation
/// is interrupted.
pub(crate) fn retry<T, E>(
    timeout: Duration,
    is_busy: impl Fn(&E) -> bool,
    mut call: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let start = Instant::now();
    loop {
        let may_retry = || start.elapsed() < timeout && !crate::signals::interrupted();
        match call() {
            Err(error) if is_busy(&error) && may_retry() => {
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
    fn only_a_busy_device_is_tried_again_and_not_for_ever() {
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
