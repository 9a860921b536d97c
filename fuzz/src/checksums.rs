//! Correct checksums for devices that were changed at random: a parser refuses a wrong one, and
//! would never show what comes after it.

use crate::device::SparseDevice;

/// A device on which the structures that are there have correct checksums.
pub fn sealed(device: &SparseDevice) -> SparseDevice {
    let mut sealed = device.clone();
    seal_ext(&mut sealed);
    seal_xfs(&mut sealed);
    for block in [512, 4096] {
        seal_gpt(&mut sealed, block, block);
        let last = (sealed.size / block).saturating_sub(1);
        seal_gpt(&mut sealed, block, last.saturating_mul(block));
    }
    sealed
}

/// The super block of ext4, whose last field is the checksum of the fields before it.
fn seal_ext(device: &mut SparseDevice) {
    const AT: u64 = 1024;
    const SUM: usize = 0x3fc;
    let Some(block) = device.bytes(AT, SUM) else { return };
    if block[0x38..0x3a] == [0x53, 0xef] {
        device.put(AT + SUM as u64, &crc(&CASTAGNOLI, &block).to_le_bytes());
    }
}

/// The super blocks of xfs, the headers of its allocation groups, and the blocks of their trees.
fn seal_xfs(device: &mut SparseDevice) {
    let Some(super_block) = device.bytes(0, 512) else { return };
    if !super_block.starts_with(b"XFSB") {
        return;
    }
    let sector = usize::from(u16::from_be_bytes([super_block[102], super_block[103]]));
    let block = u32::from_be_bytes([4, 5, 6, 7].map(|at| super_block[at])) as usize;
    let kinds: [(&[u8; 4], usize, usize); 3] =
        [(b"XFSB", sector, 224), (b"XAGF", sector, 216), (b"AB3B", block, 52)];
    for piece in device.pieces.clone() {
        let kind = kinds.iter().find(|(magic, ..)| piece.bytes.starts_with(*magic));
        let Some((_, length @ 512..=65536, at)) = kind else { continue };
        let Some(mut bytes) = device.bytes(piece.at, *length) else { continue };
        bytes[*at..at + 4].fill(0);
        let sum = !crc(&CASTAGNOLI, &bytes);
        device.put(piece.at.saturating_add(*at as u64), &sum.to_le_bytes());
    }
}

/// The GPT header at an offset, and the sum of the entries in it.
fn seal_gpt(device: &mut SparseDevice, block: u64, at: u64) {
    const MAX_TABLE: usize = 1 << 16;
    let Some(mut header) = device.bytes(at, 512) else { return };
    if !header.starts_with(b"EFI PART") {
        return;
    }
    let word = |header: &[u8], at: usize| {
        u32::from_le_bytes([at, at + 1, at + 2, at + 3].map(|at| header[at])) as usize
    };
    let (length, entries, size) = (word(&header, 12), word(&header, 80), word(&header, 84));
    let lba = u64::from_le_bytes([72, 73, 74, 75, 76, 77, 78, 79].map(|at| header[at]));
    let table = entries.checked_mul(size).filter(|length| *length <= MAX_TABLE);
    let table = table.and_then(|length| device.bytes(lba.checked_mul(block)?, length));
    if let Some(table) = table {
        header[88..92].copy_from_slice(&(!crc(&IEEE, &table)).to_le_bytes());
    }
    if (92..=512).contains(&length) {
        header[16..20].fill(0);
        let sum = !crc(&IEEE, &header[..length]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
    }
    device.put(at, &header);
}

static CASTAGNOLI: [u32; 256] = table(0x82f6_3b78);
static IEEE: [u32; 256] = table(0xedb8_8320);

/// The remainder of each byte, for a reflected polynomial.
const fn table(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ polynomial } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// A CRC-32 that begins with all ones and is not inverted at the end.
fn crc(table: &[u32; 256], bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ table[(crc as u8 ^ byte) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_of_both_polynomials() {
        for (table, value) in [(&IEEE, 0xcbf4_3926), (&CASTAGNOLI, 0xe306_9283)] {
            assert_eq!(!crc(table, b"123456789"), value);
        }
    }
}
