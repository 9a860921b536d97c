//! Which blocks of an ext2, ext3 or ext4 a copy consists of.

mod groups;
mod journal;
mod super_block;

use super::blueprint::{Blueprint, Identity, Unfit, add_backup};
use super::overlay::Edit;
use crate::storage::probe::Source;
use super_block::{LENGTH, OFFSET, compat, read};

pub use super_block::Ext;

impl Ext {
    pub(super) fn blueprint(
        &self,
        source: &dyn Source,
        identity: &Identity,
    ) -> Result<Blueprint, Unfit> {
        self.check_clean()?;
        let groups::UsedBlocks { used, mut zeros } = self.used(source)?;
        if self.compat & compat::JOURNAL != 0 {
            zeros.extend(self.empty_journal(source)?);
        }
        let mut backups = Vec::new();
        for group in (1..self.groups()).filter(|group| self.has_super_block(*group)) {
            let at = (self.first_block + group * self.group_blocks) * self.block_size;
            let found = read(source, at, LENGTH)?;
            // A damaged backup is replaced by the primary super block, as e2fsck does.
            let sound = found[0x38..0x3a] == [0x53, 0xef];
            let mut bytes =
                self.with_identity(if sound { &found } else { &self.super_block }, identity);
            bytes[0x5a..0x5c].copy_from_slice(&(group as u16).to_le_bytes());
            self.set_checksum(&mut bytes);
            add_backup(&mut backups, Edit { at, bytes })?;
        }
        // The boot sectors before the super block are not copied: a loader there would belong to
        // the source.
        let boot_sectors = vec![0; OFFSET as usize];
        let super_block = self.with_identity(&self.super_block, identity);
        let primary = Edit { at: 0, bytes: [boot_sectors, super_block].concat() };
        let size = self.size();
        Ok(Blueprint { size, used: used.sorted(size), zeros, log: None, backups, primary })
    }
}
