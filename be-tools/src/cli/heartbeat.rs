//! A line from time to time while a long step runs, for the log and a serial console.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The time between two beats.
pub(super) const INTERVAL: Duration = Duration::from_secs(30);

/// A thread that beats until this is dropped.
pub(super) struct Heartbeat {
    /// The thread ends when this is dropped.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// Calls `beat` every `interval` with the time that has passed.
    pub(super) fn start(
        interval: Duration,
        mut beat: impl FnMut(Duration) + Send + 'static,
    ) -> Self {
        let (stop, stopped) = mpsc::channel();
        let since = Instant::now();
        let live = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                beat(since.elapsed());
            }
        };
        // If the thread cannot be started, the operation continues without its lines.
        let thread = std::thread::Builder::new().name("heartbeat".into()).spawn(live).ok();
        Heartbeat { stop: Some(stop), thread }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread can only have panicked while it printed. The operation continues.
            let _ = thread.join();
        }
    }
}

/// A time for people: `45 s`, `1 min 30 s`, `2 h 5 min`.
pub(super) fn spent(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn it_beats_until_it_is_dropped() {
        let beats = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&beats);
        let (told, wait) = mpsc::channel();
        let heartbeat = Heartbeat::start(Duration::from_millis(5), move |spent| {
            heard.lock().unwrap().push(spent);
            let _ = told.send(());
        });
        wait.recv().unwrap();
        wait.recv().unwrap();
        drop(heartbeat);
        let count = beats.lock().unwrap().len();
        std::thread::sleep(Duration::from_millis(50));
        let beats = beats.lock().unwrap();
        assert!(beats.len() == count && beats.is_sorted(), "{beats:?}");
    }

    #[test]
    fn to_drop_it_does_not_wait_for_the_next_beat() {
        let start = Instant::now();
        drop(Heartbeat::start(INTERVAL, |_| panic!("too early")));
        assert!(start.elapsed() < INTERVAL / 2);
    }

    #[test]
    fn a_time_has_at_most_two_units() {
        for (seconds, expected) in [
            (30, "30 s"),
            (60, "1 min"),
            (90, "1 min 30 s"),
            (240, "4 min"),
            (3600, "1 h 0 min"),
            (7530, "2 h 5 min"),
        ] {
            assert_eq!(spent(Duration::from_secs(seconds)), expected);
        }
    }
}
