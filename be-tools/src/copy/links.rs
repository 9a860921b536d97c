//! Hard links: which inode of the source has which first name in the target. An inode is forgotten once all its names
//! have been seen, so that memory follows the links under way, not the files.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::{Condvar, Mutex, PoisonError};

use super::folders::{Id, Inode};
use super::queue::lock;

/// What to do with a name of an inode that has several.
#[derive(Debug, PartialEq, Eq)]
pub enum Name {
    /// The first one met: copy it, then tell [`Links::copied`].
    First,
    /// Link it to this name in the target.
    Further(Id, CString),
    /// Its first name could not be copied.
    Lost,
}

#[derive(Debug)]
struct First {
    folder: Id,
    /// Into `names`, which is never shortened; `u32::MAX` while it is being copied.
    name: u32,
    remaining: u32,
    lost: bool,
}

#[derive(Debug, Default)]
struct State {
    /// By device, then by inode number.
    devices: Vec<(u64, HashMap<u64, First>)>,
    names: Vec<u8>,
}

/// All inodes with several names, of one walk.
#[derive(Debug, Default)]
pub struct Links {
    state: Mutex<State>,
    copied: Condvar,
}

const UNDER_WAY: u32 = u32::MAX;

impl State {
    fn device(&mut self, device: u64) -> &mut HashMap<u64, First> {
        let at = self.devices.iter().position(|(d, _)| *d == device).unwrap_or_else(|| {
            self.devices.push((device, HashMap::new()));
            self.devices.len() - 1
        });
        &mut self.devices[at].1
    }
}

impl Links {
    /// Judges one more name of `inode`, which has `count` in all. Waits while another thread copies the first.
    pub fn meet(&self, (device, inode): Inode, count: u64) -> Name {
        let mut state = lock(&self.state);
        loop {
            let inodes = state.device(device);
            let Some(first) = inodes.get_mut(&inode) else {
                let remaining = u32::try_from(count).unwrap_or(u32::MAX).saturating_sub(1);
                inodes.insert(inode, First { folder: 0, name: UNDER_WAY, remaining, lost: false });
                return Name::First;
            };
            if first.name == UNDER_WAY && !first.lost {
                state = self.copied.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (folder, name, lost) = (first.folder, first.name, first.lost);
            first.remaining = first.remaining.saturating_sub(1);
            if first.remaining == 0 {
                inodes.remove(&inode);
            }
            if lost {
                return Name::Lost;
            }
            let rest = &state.names[name as usize..];
            let name = CStr::from_bytes_until_nul(rest).map(CStr::to_owned).unwrap_or_default();
            return Name::Further(folder, name);
        }
    }

    /// The first name is there; `None`: it could not be copied.
    pub fn copied(&self, (device, inode): Inode, place: Option<(Id, &CStr)>) {
        let mut state = lock(&self.state);
        let at = u32::try_from(state.names.len()).unwrap_or(UNDER_WAY);
        if let Some((_, name)) = place
            && state.device(device).get(&inode).is_some_and(|first| first.remaining > 0)
        {
            state.names.extend_from_slice(name.to_bytes_with_nul());
        }
        let inodes = state.device(device);
        if let Some(first) = inodes.get_mut(&inode) {
            match place {
                Some((folder, _)) => (first.folder, first.name) = (folder, at),
                None => first.lost = true,
            }
            if first.remaining == 0 {
                inodes.remove(&inode);
            }
        }
        drop(state);
        self.copied.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_forgotten_after_its_last_name() {
        let links = Links::default();
        assert_eq!(links.meet((1, 7), 3), Name::First);
        links.copied((1, 7), Some((4, c"a")));
        assert_eq!(links.meet((2, 7), 2), Name::First, "another device");
        links.copied((2, 7), None);
        assert_eq!(links.meet((1, 7), 3), Name::Further(4, c"a".to_owned()));
        assert_eq!(links.meet((1, 7), 3), Name::Further(4, c"a".to_owned()));
        assert_eq!(links.meet((2, 7), 2), Name::Lost);
        assert!(links.state.lock().unwrap().devices.iter().all(|(_, inodes)| inodes.is_empty()));
    }

    #[test]
    fn a_further_name_waits_for_the_first() {
        let links = Links::default();
        assert_eq!(links.meet((1, 7), 2), Name::First);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| links.meet((1, 7), 2));
            std::thread::sleep(std::time::Duration::from_millis(20));
            links.copied((1, 7), Some((0, c"first")));
            assert_eq!(second.join().unwrap(), Name::Further(0, c"first".to_owned()));
        });
    }
}
