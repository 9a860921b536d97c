//! The blocks of ext2, ext3 and ext4 that a copy is made of.

mod groups;
mod journal;
mod super_block;

use super::blueprint::{Blueprint, Identity, Unfit};
use super::overlay::Edit;
use crate::storage::probe::Source;
use super_block::{LENGTH, PLACE, compat, read};

pub use super_block::Ext;

impl Ext {
    pub(super) fn blueprint(
        &self,
        source: &dyn Source,
        identity: &Identity,
    ) -> Result<Blueprint, Unfit> {
        self.is_at_rest()?;
        let groups::Used { used, mut zeros } = self.used(source)?;
        if self.compat & compat::JOURNAL != 0 {
            zeros.extend(self.empty_journal(source)?);
        }
        let mut backups = Vec::new();
        for group in (1..self.groups()).filter(|group| self.has_super_block(*group)) {
            let at = (self.first_block + group * self.group_blocks) * self.block_size;
            let found = read(source, at, LENGTH)?;
            // One that is no super block is made anew: e2fsck would.
            let sound = found[0x38..0x3a] == [0x53, 0xef];
            let mut bytes = self.renamed(if sound { &found } else { &self.super_block }, identity);
            bytes[0x5a..0x5c].copy_from_slice(&(group as u16).to_le_bytes());
            self.seal(&mut bytes);
            backups.push(Edit { at, bytes });
        }
        // What a loader has put before it belongs to the source.
        let primary = [vec![0; PLACE as usize], self.renamed(&self.super_block, identity)].concat();
        let size = self.size();
        let primary = Edit { at: 0, bytes: primary };
        Ok(Blueprint { size, used: used.sorted(size), zeros, log: None, backups, primary })
    }
}
