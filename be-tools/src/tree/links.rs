//! Hard links: which inode of the source has which first name in the target. An inode is forgotten
//! once all its names have been seen, so memory grows with the links in progress, not with the
//! number of files. No thread waits for a first name: names found while it is being created are
//! deferred, and the thread that created it links them.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::directories::{DirectoryId, InodeId};
use super::entry::{EntryName, EntryRef};
use super::queue::lock;

/// The first name of an inode in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstName {
    /// The name.
    pub entry: EntryName,
    /// The number of the inode in the target, or 0 in a copy into an empty target.
    pub inode: u64,
}

/// What to do with a name of an inode that has several.
#[derive(Debug, PartialEq, Eq)]
pub enum LinkAction {
    /// This is the first name found: create the inode, then call [`Links::settle`].
    Create,
    /// Link it to this name.
    LinkTo(FirstName),
    /// Do nothing: the thread that is creating the first name gets this one from [`Links::settle`].
    Defer,
    /// Do nothing: the first name could not be copied.
    Lost,
}

/// Number of shards, each with a lock of its own. Many of them keep each table small when it grows,
/// and keep threads out of each other's way.
const SHARDS: usize = 64;

/// [`Record::name`] of a first name that is being created.
const UNDER_WAY: u32 = u32::MAX;
/// [`Record::name`] of a first name that could not be created.
const LOST: u32 = u32::MAX - 1;

/// Consists of four-byte fields, without padding: a million of them must fit into little memory.
#[derive(Debug)]
struct Record {
    directory: DirectoryId,
    /// Offset of the name in [`Shard::names`], which only grows.
    name: u32,
    /// Names not yet found.
    remaining: u32,
    inode: [u32; 2],
}

#[derive(Debug, Default)]
struct Shard {
    /// First names, by inode number of the source.
    first: HashMap<[u32; 2], Record>,
    names: Vec<u8>,
    deferred: HashMap<[u32; 2], Vec<EntryName>>,
    /// Inodes of the target that are already the counterpart of a source inode.
    claimed: HashSet<[u32; 2]>,
    /// The further inodes of those of which one has as many names as the target allows.
    further: HashMap<[u32; 2], FurtherInode>,
}

/// The inode of the target that gets the names for which there is no room at those before it.
#[derive(Debug)]
struct FurtherInode {
    first: FurtherName,
    deferred: Vec<EntryName>,
}

#[derive(Debug)]
enum FurtherName {
    UnderWay,
    Created(FirstName),
    Lost,
}

/// The inodes of one device number.
type Table = Arc<[Mutex<Shard>]>;

/// All inodes with several names that one walk finds. A walk stays on one file system, but each
/// btrfs subvolume has its own device number and its own inode numbers.
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

    /// Registers one more name of `inode`, which has `count` names in all, and says what to do with
    /// it.
    pub fn register(&self, inode: InodeId, count: u64, entry: EntryRef<'_>) -> LinkAction {
        let table = self.table(inode.device);
        let shard = &mut *lock(shard(&table, inode.number));
        let key = halves(inode.number);
        let Some(record) = shard.first.get_mut(&key) else {
            let remaining = u32::try_from(count).unwrap_or(u32::MAX).saturating_sub(1);
            shard
                .first
                .insert(key, Record { directory: 0, name: UNDER_WAY, remaining, inode: [0, 0] });
            return LinkAction::Create;
        };
        record.remaining = record.remaining.saturating_sub(1);
        if record.name == UNDER_WAY {
            shard.deferred.entry(key).or_default().push(entry.to_entry_name());
            return LinkAction::Defer;
        }
        let action = match record.name {
            LOST => LinkAction::Lost,
            at => {
                let rest = shard.names.get(at as usize..).unwrap_or_default();
                let name = CStr::from_bytes_until_nul(rest).map(CStr::to_owned).unwrap_or_default();
                LinkAction::LinkTo(FirstName {
                    entry: EntryName { directory: record.directory, name },
                    inode: whole(record.inode),
                })
            }
        };
        if record.remaining == 0 {
            shard.first.remove(&key);
        }
        action
    }

    /// Records the first name of `inode` once it has been created, or `None` if it could not be
    /// copied. Returns the names that were deferred meanwhile, for the caller to link.
    pub fn settle(&self, inode: InodeId, created: Option<&FirstName>) -> Vec<EntryName> {
        let table = self.table(inode.device);
        let shard = &mut *lock(shard(&table, inode.number));
        let key = halves(inode.number);
        if let Some(record) = shard.first.get_mut(&key) {
            if record.remaining == 0 {
                shard.first.remove(&key);
            } else if let Some(first) = created {
                record.directory = first.entry.directory;
                record.name = u32::try_from(shard.names.len()).unwrap_or(LOST).min(LOST);
                record.inode = halves(first.inode);
                shard.names.extend_from_slice(first.entry.name.to_bytes_with_nul());
            } else {
                record.name = LOST;
            }
        }
        shard.deferred.remove(&key).unwrap_or_default()
    }

    /// Says what to do with a name that could not be linked to `full`, because that inode of the
    /// target has as many names as its file system allows. For [`LinkAction::Create`], the caller
    /// creates a further inode with the same content, then calls [`Links::settle_further`].
    pub fn register_further(
        &self,
        inode: InodeId,
        full: &FirstName,
        entry: EntryRef<'_>,
    ) -> LinkAction {
        let table = self.table(inode.device);
        let shard = &mut *lock(shard(&table, inode.number));
        let under_way = || FurtherInode { first: FurtherName::UnderWay, deferred: Vec::new() };
        let Some(further) = shard.further.get_mut(&halves(inode.number)) else {
            shard.further.insert(halves(inode.number), under_way());
            return LinkAction::Create;
        };
        match &further.first {
            FurtherName::UnderWay => {
                further.deferred.push(entry.to_entry_name());
                LinkAction::Defer
            }
            FurtherName::Created(first) if first == full => {
                *further = under_way();
                LinkAction::Create
            }
            FurtherName::Created(first) => LinkAction::LinkTo(first.clone()),
            FurtherName::Lost => LinkAction::Lost,
        }
    }

    /// As [`Links::settle`], for a further inode.
    pub fn settle_further(&self, inode: InodeId, created: Option<&FirstName>) -> Vec<EntryName> {
        let table = self.table(inode.device);
        let shard = &mut *lock(shard(&table, inode.number));
        let first = created.map_or(FurtherName::Lost, |first| FurtherName::Created(first.clone()));
        let settled = FurtherInode { first, deferred: Vec::new() };
        let before = shard.further.insert(halves(inode.number), settled);
        before.map(|further| further.deferred).unwrap_or_default()
    }

    /// Claims an inode of the target that has several names as the counterpart of one inode of the
    /// source. Returns false if it was claimed before.
    pub fn claim(&self, inode: InodeId) -> bool {
        lock(shard(&self.table(inode.device), inode.number)).claimed.insert(halves(inode.number))
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

    fn inode(device: u64, number: u64) -> InodeId {
        InodeId { device, number }
    }

    fn entry(directory: DirectoryId, name: &CStr) -> EntryRef<'_> {
        EntryRef { directory, name }
    }

    fn first(directory: DirectoryId, name: &CStr, inode: u64) -> FirstName {
        FirstName { entry: entry(directory, name).to_entry_name(), inode }
    }

    #[test]
    fn further_names_are_linked_to_the_first_and_the_last_one_frees_the_record() {
        let links = Links::default();
        let (seven, other) = (inode(1, 7), inode(1, 71));
        let link_to_a = || LinkAction::LinkTo(first(4, c"a", 70));
        assert_eq!(links.register(seven, 3, entry(4, c"a")), LinkAction::Create);
        assert_eq!(links.register(other, 2, entry(4, c"x")), LinkAction::Create);
        assert!(links.settle(seven, Some(&first(4, c"a", 70))).is_empty());
        assert!(links.settle(other, None).is_empty());
        assert_eq!(links.register(seven, 3, entry(5, c"b")), link_to_a());
        assert_eq!(links.register(seven, 3, entry(5, c"c")), link_to_a());
        assert_eq!(links.register(other, 2, entry(5, c"y")), LinkAction::Lost);
        assert!(links.is_empty());
    }

    #[test]
    fn a_name_found_too_early_is_handed_to_the_thread_that_settles_the_first() {
        let links = Links::default();
        let seven = inode(1, 7);
        assert_eq!(links.register(seven, 3, entry(0, c"first")), LinkAction::Create);
        assert_eq!(links.register(seven, 3, entry(2, c"early")), LinkAction::Defer);
        let deferred = links.settle(seven, Some(&first(0, c"first", 9)));
        assert_eq!(deferred, [entry(2, c"early").to_entry_name()]);
        let late = links.register(seven, 3, entry(3, c"late"));
        assert!(matches!(late, LinkAction::LinkTo(first) if first.inode == 9));
        assert!(links.is_empty());
    }

    #[test]
    fn a_full_inode_is_followed_by_one_further_inode_at_a_time() {
        let links = Links::default();
        let seven = inode(1, 7);
        let (full, second, third) = (first(0, c"a", 1), first(0, c"b", 2), first(0, c"c", 3));
        let further = |full: &FirstName, name| links.register_further(seven, full, entry(0, name));
        assert_eq!(further(&full, c"b"), LinkAction::Create);
        // Another thread finds the first inode full at the same time.
        assert_eq!(further(&full, c"early"), LinkAction::Defer);
        let deferred = links.settle_further(seven, Some(&second));
        assert_eq!(deferred, [entry(0, c"early").to_entry_name()]);
        assert_eq!(further(&full, c"x"), LinkAction::LinkTo(second.clone()));
        assert_eq!(further(&second, c"c"), LinkAction::Create);
        assert!(links.settle_further(seven, Some(&third)).is_empty());
        for known in [&full, &second] {
            assert_eq!(further(known, c"y"), LinkAction::LinkTo(third.clone()));
        }
        assert_eq!(further(&third, c"z"), LinkAction::Create);
        assert!(links.settle_further(seven, None).is_empty());
        assert_eq!(further(&third, c"z"), LinkAction::Lost);
        let other = links.register_further(inode(1, 7 + 64), &full, entry(0, c"o"));
        assert_eq!(other, LinkAction::Create, "another inode has its own");
    }

    #[test]
    fn a_target_inode_is_claimed_for_one_source_inode_only() {
        let links = Links::default();
        let claims = [(1, 1 << 40), (1, 1 << 40), (1, 1 << 41), (2, 1 << 40)]
            .map(|(device, number)| links.claim(inode(device, number)));
        assert_eq!(claims, [true, false, true, true]);
    }

    #[test]
    fn equal_inode_numbers_on_two_devices_are_different_inodes() {
        let links = Links::default();
        let (one, two) = (inode(1, 7), inode(2, 7));
        assert_eq!(links.register(one, 2, entry(0, c"a")), LinkAction::Create);
        assert_eq!(links.register(two, 2, entry(1, c"b")), LinkAction::Create);
        assert!(links.settle(one, Some(&first(0, c"a", 5))).is_empty());
        assert!(links.settle(two, Some(&first(1, c"b", 6))).is_empty());
        let further = links.register(two, 2, entry(1, c"c"));
        assert!(matches!(further, LinkAction::LinkTo(first) if first.inode == 6));
    }

    #[test]
    fn a_record_takes_28_bytes() {
        assert_eq!(size_of::<([u32; 2], Record)>(), 28);
    }
}
