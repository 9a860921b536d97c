//! The tasks of a walk that its threads share: last in, first out, so that a tree is walked depth
//! first and few tasks wait. Because a task can add others, the walk is done when no task waits and
//! no thread is working on one.

use std::sync::{Condvar, Mutex, PoisonError};

use super::queue::lock;

/// The tasks that are waiting.
#[derive(Debug)]
pub struct WorkStack<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: Vec<T>,
    /// Threads that are working on a task.
    working: usize,
    /// Threads that are waiting for a task.
    sleeping: usize,
    ended: bool,
}

impl<T> WorkStack<T> {
    /// Makes a stack that holds `first`.
    pub fn new(first: T) -> Self {
        let state = State { waiting: vec![first], working: 0, sleeping: 0, ended: false };
        WorkStack { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds tasks, of which the last is taken next. Only a thread that is working on a task may
    /// call it.
    pub fn push(&self, tasks: impl Iterator<Item = T>) {
        let mut state = lock(&self.state);
        let before = state.waiting.len();
        state.waiting.extend(tasks);
        let added = state.waiting.len() - before;
        match added.min(state.sleeping) {
            0 => {}
            1 => self.changed.notify_one(),
            _ => self.changed.notify_all(),
        }
    }

    /// Whether another thread is waiting for a task.
    pub fn has_idle_thread(&self) -> bool {
        lock(&self.state).sleeping > 0
    }

    /// Takes the next task, or returns `None` when all are done. The thread that took a task calls
    /// [`WorkStack::done`] after it.
    pub fn take(&self) -> Option<T> {
        let mut state = lock(&self.state);
        loop {
            if state.ended {
                return None;
            }
            if let Some(task) = state.waiting.pop() {
                state.working += 1;
                return Some(task);
            }
            if state.working == 0 {
                return None;
            }
            state.sleeping += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleeping -= 1;
        }
    }

    /// Says that one task is done, and the tasks that follow from it have been pushed.
    pub fn done(&self) {
        let mut state = lock(&self.state);
        state.working -= 1;
        if state.working == 0 && state.waiting.is_empty() && state.sleeping > 0 {
            self.changed.notify_all();
        }
    }

    /// Stops the walk: from now on `take` returns `None`.
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
    fn tasks_that_add_tasks_are_all_done() {
        let (stack, count) = (WorkStack::new(12u32), AtomicU32::new(0));
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
    fn end_wakes_a_waiting_thread() {
        let stack = WorkStack::new(());
        let _task = stack.take();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| stack.take());
            while !stack.has_idle_thread() {
                std::thread::yield_now();
            }
            stack.end();
            assert!(sleeper.join().unwrap().is_none());
        });
    }
}
