//! What the threads of one walk have still to do: last in, first out, so that a tree is walked
//! depth first and what waits stays small. It is done when nothing waits and nobody works, because
//! work makes more work.

use std::sync::{Condvar, Mutex, PoisonError};

use super::queue::lock;

/// Work that waits.
#[derive(Debug)]
pub struct Stack<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: Vec<T>,
    working: usize,
    sleeping: usize,
    ended: bool,
}

impl<T> Stack<T> {
    /// One that begins with `first`.
    pub fn new(first: T) -> Self {
        let state = State { waiting: vec![first], working: 0, sleeping: 0, ended: false };
        Stack { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds work, the last of which is taken next. Called by who is at work.
    pub fn push(&self, work: impl Iterator<Item = T>) {
        let mut state = lock(&self.state);
        let before = state.waiting.len();
        state.waiting.extend(work);
        let news = state.waiting.len() - before;
        match news.min(state.sleeping) {
            0 => {}
            1 => self.changed.notify_one(),
            _ => self.changed.notify_all(),
        }
    }

    /// Somebody waits for work.
    pub fn is_wanted(&self) -> bool {
        lock(&self.state).sleeping > 0
    }

    /// Takes the next; `None` when all is done. Who got some calls [`Stack::done`] after it.
    pub fn take(&self) -> Option<T> {
        let mut state = lock(&self.state);
        loop {
            if state.ended {
                return None;
            }
            if let Some(work) = state.waiting.pop() {
                state.working += 1;
                return Some(work);
            }
            if state.working == 0 {
                return None;
            }
            state.sleeping += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleeping -= 1;
        }
    }

    /// One piece of work is done, and what it made has been pushed.
    pub fn done(&self) {
        let mut state = lock(&self.state);
        state.working -= 1;
        if state.working == 0 && state.waiting.is_empty() && state.sleeping > 0 {
            self.changed.notify_all();
        }
    }

    /// Nobody gets any more.
    pub fn end(&self) {
        lock(&self.state).ended = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn work_that_makes_work_is_all_done() {
        let (stack, count) = (Stack::new(12u32), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(depth) = stack.take() {
                        count.fetch_add(1, Ordering::Relaxed);
                        stack.push((0..2).filter(|_| depth > 0).map(|_| depth - 1));
                        stack.done();
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), (1 << 13) - 1);
    }

    #[test]
    fn an_end_wakes_who_sleeps() {
        let stack = Stack::new(());
        let _at_work = stack.take();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| stack.take());
            while !stack.is_wanted() {
                std::thread::yield_now();
            }
            stack.end();
            assert!(sleeper.join().unwrap().is_none());
        });
    }
}
