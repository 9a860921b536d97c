//! File names: a short name (8.3, in capitals), and a long name where that is not enough.

const LONG_NAME: u8 = 0x0f;

pub(super) fn is_name(name: &str) -> bool {
    let legal = |c: char| !c.is_control() && !"\"*/:<>?\\|".contains(c);
    !name.is_empty()
        && name.encode_utf16().count() <= 255
        && name.chars().all(legal)
        && !name.ends_with(['.', ' '])
}

pub(super) fn is_short_character(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || "!#$%&'()-@^_`{}~".contains(c)
}

/// The eleven bytes of the entry of `name`, if it is a valid short name.
pub(super) fn short_name(name: &str) -> Option<[u8; 11]> {
    let (base, extension) = name.split_once('.').unwrap_or((name, ""));
    let fits = |part: &str, most| part.len() <= most && part.chars().all(is_short_character);
    let dot_without_extension = name.contains('.') && extension.is_empty();
    if base.is_empty() || dot_without_extension || !fits(base, 8) || !fits(extension, 3) {
        return None;
    }
    let mut short = padded(base);
    short[8..8 + extension.len()].copy_from_slice(extension.as_bytes());
    Some(short)
}

pub(super) fn padded(name: &str) -> [u8; 11] {
    let mut bytes = [b' '; 11];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    bytes
}

pub(super) fn long_name_entries(name: &str) -> usize {
    match short_name(name) {
        Some(_) => 0,
        None => name.encode_utf16().count().div_ceil(13),
    }
}

/// The short names assigned in one directory.
#[derive(Debug, Default)]
pub(super) struct ShortNames {
    tails: u32,
}

impl ShortNames {
    /// The short name for `name`. If it needs a long name, the entries are appended to `table`.
    pub(super) fn entry_name(&mut self, name: &str, table: &mut Vec<u8>) -> [u8; 11] {
        if let Some(short) = short_name(name) {
            return short;
        }
        self.tails += 1;
        // No file of the image is likely to have such a name: "LB~00001".
        let mut short = padded(&format!("LB~{:05}", self.tails));
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        let capitals = extension.chars().map(|c| c.to_ascii_uppercase());
        let legal = capitals.filter(|c| is_short_character(*c)).take(3);
        for (to, from) in short[8..].iter_mut().zip(legal) {
            *to = from as u8;
        }
        long_name(name, &short, table);
        short
    }
}

pub(super) fn long_name(name: &str, short: &[u8; 11], table: &mut Vec<u8>) {
    let sum = short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let mut units: Vec<u16> = name.encode_utf16().collect();
    if !units.len().is_multiple_of(13) {
        units.push(0);
        units.resize(units.len().next_multiple_of(13), 0xffff);
    }
    let count = units.len() / 13;
    for (index, part) in units.chunks(13).enumerate().rev() {
        let last = if index + 1 == count { 0x40 } else { 0 };
        let bytes: Vec<u8> = part.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        table.push((index + 1) as u8 | last);
        table.extend(&bytes[..10]);
        table.extend([LONG_NAME, 0, sum]);
        table.extend(&bytes[10..22]);
        table.extend([0, 0]);
        table.extend(&bytes[22..]);
    }
}
