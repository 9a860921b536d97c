//! A bounded queue between the stages of a copy. When it is full, producers sleep until it is half
//! empty, so that the stages do not wake each other for every entry.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A first-in, first-out queue that is closed once every producer has left.
#[derive(Debug)]
pub struct Queue<T> {
    state: Mutex<State<T>>,
    not_empty: Condvar,
    room: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    producers: usize,
    sleeping_producers: usize,
    sleeping_consumers: usize,
}

impl<T> Queue<T> {
    /// Makes a queue of at most `capacity` items, filled by `producers` threads, each of which
    /// calls [`Queue::leave`] when it is done.
    pub fn new(capacity: usize, producers: usize) -> Self {
        let state = State {
            items: VecDeque::with_capacity(capacity),
            producers,
            sleeping_producers: 0,
            sleeping_consumers: 0,
        };
        Queue {
            state: Mutex::new(state),
            not_empty: Condvar::new(),
            room: Condvar::new(),
            capacity,
        }
    }

    /// Appends an item. Waits while the queue is full.
    pub fn push(&self, item: T) {
        let mut state = lock(&self.state);
        while state.items.len() >= self.capacity {
            state.sleeping_producers += 1;
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleeping_producers -= 1;
        }
        state.items.push_back(item);
        if state.sleeping_consumers > 0 {
            self.not_empty.notify_one();
        }
    }

    /// Takes the oldest item. Returns `None` once the queue is empty and no producer is left.
    pub fn pop(&self) -> Option<T> {
        let mut state = lock(&self.state);
        loop {
            if let Some(item) = state.items.pop_front() {
                if state.sleeping_producers > 0 && state.items.len() <= self.capacity / 2 {
                    self.room.notify_all();
                }
                return Some(item);
            }
            if state.producers == 0 {
                return None;
            }
            state.sleeping_consumers += 1;
            state = self.not_empty.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleeping_consumers -= 1;
        }
    }

    /// Says that one producer is done.
    pub fn leave(&self) {
        let mut state = lock(&self.state);
        state.producers = state.producers.saturating_sub(1);
        if state.producers == 0 {
            self.not_empty.notify_all();
        }
    }
}

/// Locks a mutex even if it is poisoned. A panic in one thread ends the whole copy anyway, and the
/// data behind these locks is consistent after every single operation.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_arrives_once_and_consumers_see_the_end() {
        let queue = Queue::new(4, 2);
        let taken = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for half in 0..2 {
                let queue = &queue;
                scope.spawn(move || {
                    (0..1000).for_each(|i| queue.push(half * 1000 + i));
                    queue.leave();
                });
            }
            for _ in 0..3 {
                scope.spawn(|| {
                    while let Some(item) = queue.pop() {
                        lock(&taken).push(item);
                    }
                });
            }
        });
        let mut taken = taken.into_inner().unwrap();
        taken.sort_unstable();
        assert_eq!(taken, (0..2000).collect::<Vec<_>>());
    }
}
