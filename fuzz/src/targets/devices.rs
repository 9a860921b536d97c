//! The bytes of a block device.

use be_tools::block_copy::measure_source;
use be_tools::storage::partitions;
use be_tools::storage::probe::{self, Content, Source, probe};

use super::text::assert_printable;
use crate::checksums::sealed;
use crate::device::SparseDevice;

/// The input as it is, and with correct checksums.
fn devices(input: &[u8]) -> [SparseDevice; 2] {
    let device = SparseDevice::parse(input);
    let sealed = sealed(&device);
    [device, sealed]
}

/// Whether a device is blank is read from megabytes, so it is asked of small ones only.
const BLANK: u64 = 1 << 20;

pub fn super_block(input: &[u8]) {
    let device = SparseDevice::parse(input);
    let content = if device.size <= BLANK {
        probe(&device)
    } else {
        probe::super_block(&device)
            .expect("it can be read")
            .map_or(Content::Unknown, Content::Known)
    };
    if let Content::Known(found) = &content {
        assert_printable(&found.label);
        assert_printable(&found.uuid);
        assert_printable(&content.description());
    }
    let json = serde_json::to_string(&content).expect("a content has no floats and no maps");
    assert_eq!(serde_json::from_str::<Content>(&json).expect("as it was written"), content);
}

pub fn partition_table(input: &[u8]) {
    for device in devices(input) {
        for block in [512, 4096] {
            let Some(table) = partitions::read(&device, block) else { continue };
            assert!(table.partitions.len() <= 1024, "{}", table.partitions.len());
            assert!(table.partitions.is_sorted_by(|a, b| a.number < b.number), "{table:?}");
            assert_printable(&table.id);
            for partition in &table.partitions {
                assert_printable(&partition.name);
                assert_eq!(partition.guid().is_some(), table.gpt, "{partition:?}");
            }
        }
    }
}

pub fn block_copy(input: &[u8]) {
    for device in devices(input) {
        if let Ok(bytes) = measure_source(&device) {
            assert!(bytes <= device.len(), "{bytes} of {}", device.len());
        }
    }
}
