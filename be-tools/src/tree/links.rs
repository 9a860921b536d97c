//! Hard links: which inode of the source has which first name in the target. An inode is forgotten
//! once all its names have been seen, so that memory follows the links under way, not the files.
//! Nobody waits for a first name: who comes in the meantime leaves its place, and whoever settles
//! the first name links them.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::directories::{Id, Inode};
use super::queue::lock;

/// A name of the target: its directory, and the name in it.
pub type Name = (Id, CString);

/// The first name of an inode in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    /// Where it is.
    pub name: Name,
    /// The inode number that it has there; 0 in a copy that begins with nothing.
    pub inode: u64,
}

/// What to do with a name of an inode that has several.
#[derive(Debug, PartialEq, Eq)]
pub enum Meeting {
    /// The first one met: make it, then tell [`Links::settle`].
    First,
    /// Make it a name of this one.
    Further(First),
    /// The first one is being made: who makes it gets this name from [`Links::settle`].
    Parked,
    /// Its first name could not be copied.
    Lost,
}

/// Shards: a table that grows is small, and threads seldom meet.
const SHARDS: usize = 64;

/// `name` of a first name that is being made.
const UNDER_WAY: u32 = u32::MAX;
/// `name` of a first name that could not be made.
const LOST: u32 = u32::MAX - 1;

/// Four-byte parts: a million of them must fit into little memory.
#[derive(Debug)]
struct Record {
    directory: Id,
    /// Into `names`, which is never shortened.
    name: u32,
    remaining: u32,
    inode: [u32; 2],
}

#[derive(Debug, Default)]
struct Shard {
    /// By inode number of the source.
    first: HashMap<[u32; 2], Record>,
    names: Vec<u8>,
    parked: HashMap<[u32; 2], Vec<Name>>,
    /// Inodes of the target that are a source's inode already.
    claimed: HashSet<[u32; 2]>,
}

/// Inodes with one device number.
type Table = Arc<[Mutex<Shard>]>;

/// All inodes with several names, of one walk. That stays on one file system, but each subvolume of
/// a btrfs has a device number of its own and counts its inodes anew.
#[derive(Debug, Default)]
pub struct Links {
    tables: RwLock<HashMap<u64, Table>>,
}

fn halves(number: u64) -> [u32; 2] {
    [(number >> 32) as u32, number as u32]
}

fn whole([high, low]: [u32; 2]) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn shard(table: &Table, inode: u64) -> &Mutex<Shard> {
    &table[inode as usize % SHARDS]
}

impl Links {
    fn table(&self, device: u64) -> Table {
        let known =
            self.tables.read().unwrap_or_else(PoisonError::into_inner).get(&device).cloned();
        known.unwrap_or_else(|| {
            let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
            let new = || (0..SHARDS).map(|_| Mutex::default()).collect();
            Arc::clone(tables.entry(device).or_insert_with(new))
        })
    }

    /// Judges one more name of `inode`, which has `count` in all.
    pub fn meet(
        &self,
        (device, inode): Inode,
        count: u64,
        (directory, name): (Id, &CStr),
    ) -> Meeting {
        let table = self.table(device);
        let shard = &mut *lock(shard(&table, inode));
        let key = halves(inode);
        let Some(record) = shard.first.get_mut(&key) else {
            let remaining = u32::try_from(count).unwrap_or(u32::MAX).saturating_sub(1);
            shard
                .first
                .insert(key, Record { directory: 0, name: UNDER_WAY, remaining, inode: [0, 0] });
            return Meeting::First;
        };
        record.remaining = record.remaining.saturating_sub(1);
        if record.name == UNDER_WAY {
            shard.parked.entry(key).or_default().push((directory, name.to_owned()));
            return Meeting::Parked;
        }
        let meeting = match record.name {
            LOST => Meeting::Lost,
            at => {
                let rest = shard.names.get(at as usize..).unwrap_or_default();
                let name = CStr::from_bytes_until_nul(rest).map(CStr::to_owned).unwrap_or_default();
                Meeting::Further(First {
                    name: (record.directory, name),
                    inode: whole(record.inode),
                })
            }
        };
        if record.remaining == 0 {
            shard.first.remove(&key);
        }
        meeting
    }

    /// The first name is there, under this inode of the target; `None`: it could not be copied.
    /// Returns the names that have been met meanwhile, for the caller to link.
    pub fn settle(&self, (device, inode): Inode, made: Option<((Id, &CStr), u64)>) -> Vec<Name> {
        let table = self.table(device);
        let shard = &mut *lock(shard(&table, inode));
        let key = halves(inode);
        if let Some(record) = shard.first.get_mut(&key) {
            if record.remaining == 0 {
                shard.first.remove(&key);
            } else if let Some(((directory, name), there)) = made {
                record.directory = directory;
                record.name = u32::try_from(shard.names.len()).unwrap_or(LOST).min(LOST);
                record.inode = halves(there);
                shard.names.extend_from_slice(name.to_bytes_with_nul());
            } else {
                record.name = LOST;
            }
        }
        shard.parked.remove(&key).unwrap_or_default()
    }

    /// Takes an inode of the target with several names for one inode of the source: false, if
    /// another has it.
    pub fn claim(&self, (device, inode): Inode) -> bool {
        lock(shard(&self.table(device), inode)).claimed.insert(halves(inode))
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        let tables = self.tables.read().unwrap();
        tables.values().flat_map(|table| table.iter()).all(|shard| lock(shard).first.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_names_lead_to_the_first_and_the_last_one_ends_it() {
        let links = Links::default();
        let further =
            |name: &CStr, inode| Meeting::Further(First { name: (4, name.to_owned()), inode });
        assert_eq!(links.meet((1, 7), 3, (4, c"a")), Meeting::First);
        assert_eq!(links.meet((1, 71), 2, (4, c"x")), Meeting::First);
        assert!(links.settle((1, 7), Some(((4, c"a"), 70))).is_empty());
        assert!(links.settle((1, 71), None).is_empty());
        assert_eq!(links.meet((1, 7), 3, (5, c"b")), further(c"a", 70));
        assert_eq!(links.meet((1, 7), 3, (5, c"c")), further(c"a", 70));
        assert_eq!(links.meet((1, 71), 2, (5, c"y")), Meeting::Lost);
        assert!(links.is_empty());
    }

    #[test]
    fn a_name_met_too_early_is_handed_to_who_settles_the_first() {
        let links = Links::default();
        assert_eq!(links.meet((1, 7), 3, (0, c"first")), Meeting::First);
        assert_eq!(links.meet((1, 7), 3, (2, c"early")), Meeting::Parked);
        assert_eq!(links.settle((1, 7), Some(((0, c"first"), 9))), [(2, c"early".to_owned())]);
        assert!(
            matches!(links.meet((1, 7), 3, (3, c"late")), Meeting::Further(first) if first.inode == 9)
        );
        assert!(links.is_empty());
    }

    #[test]
    fn an_inode_of_the_target_serves_one_of_the_source() {
        let links = Links::default();
        let claims = [(1, 1 << 40), (1, 1 << 40), (1, 1 << 41), (2, 1 << 40)]
            .map(|inode| links.claim(inode));
        assert_eq!(claims, [true, false, true, true]);
    }

    #[test]
    fn each_device_number_counts_its_own_inodes() {
        let links = Links::default();
        assert_eq!(links.meet((1, 7), 2, (0, c"a")), Meeting::First);
        assert_eq!(links.meet((2, 7), 2, (1, c"b")), Meeting::First);
        assert!(links.settle((1, 7), Some(((0, c"a"), 5))).is_empty());
        assert!(links.settle((2, 7), Some(((1, c"b"), 6))).is_empty());
        assert!(
            matches!(links.meet((2, 7), 2, (1, c"c")), Meeting::Further(first) if first.inode == 6)
        );
    }

    #[test]
    fn a_record_is_small() {
        assert_eq!(size_of::<([u32; 2], Record)>(), 28);
    }
}
