//! Devices as inputs: of any size, and only the bytes that differ from zero take part in the input.
//!
//! An input is the size of the device (u64, little-endian), then pieces: offset (u64), length
//! (u16), that many bytes. What follows the last whole piece is a piece too, as far as it goes.

use std::io;

use be_tools::storage::probe::Source;

/// The kernel counts the bytes of a device in a signed number.
const MAX_SIZE: u64 = i64::MAX as u64;

/// Some bytes of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Their offset.
    pub at: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A device that is zero except for its pieces. A later piece lies over an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparseDevice {
    /// Its size in bytes.
    pub size: u64,
    /// Its pieces.
    pub pieces: Vec<Piece>,
}

impl SparseDevice {
    /// Reads an input. Every input is a device.
    pub fn parse(input: &[u8]) -> Self {
        let mut rest = input;
        let size = u64::from_le_bytes(take(&mut rest)) & MAX_SIZE;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let at = u64::from_le_bytes(take(&mut rest));
            let length = usize::from(u16::from_le_bytes(take(&mut rest)));
            let (bytes, after) = rest.split_at(length.min(rest.len()));
            pieces.push(Piece { at, bytes: bytes.to_vec() });
            rest = after;
        }
        SparseDevice { size, pieces }
    }

    /// The input that is this device. Pieces are cut to the length that one can have.
    pub fn render(&self) -> Vec<u8> {
        let mut input = self.size.to_le_bytes().to_vec();
        for piece in &self.pieces {
            let mut at = piece.at;
            for part in piece.bytes.chunks(usize::from(u16::MAX)) {
                input.extend(at.to_le_bytes());
                input.extend((part.len() as u16).to_le_bytes());
                input.extend(part);
                at += part.len() as u64;
            }
        }
        input
    }

    /// Lays bytes over the device.
    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        self.pieces.push(Piece { at, bytes: bytes.to_vec() });
    }

    /// The bytes of a range; `None` if it is not within the device.
    pub fn bytes(&self, at: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read_at(at, &mut bytes).ok().map(|()| bytes)
    }
}

impl Source for SparseDevice {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.fill(0);
        for piece in &self.pieces {
            let piece_end = piece.at.saturating_add(piece.bytes.len() as u64);
            let (from, to) = (piece.at.max(offset), piece_end.min(end));
            if from < to {
                let source = &piece.bytes[(from - piece.at) as usize..(to - piece.at) as usize];
                buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
            }
        }
        Ok(())
    }
}

/// The next bytes of an input, with zeros for those that are missing.
fn take<const N: usize>(input: &mut &[u8]) -> [u8; N] {
    let (bytes, rest) = input.split_at(N.min(input.len()));
    *input = rest;
    let mut taken = [0; N];
    taken[..bytes.len()].copy_from_slice(bytes);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_parsed_as_it_was_rendered() {
        let mut device = SparseDevice { size: 1 << 40, pieces: Vec::new() };
        device.put(1024, b"super block");
        device.put(1030, b"over");
        assert_eq!(SparseDevice::parse(&device.render()), device);
        assert_eq!(device.bytes(1023, 14).unwrap(), b"\0super overk\0\0");
        assert_eq!(device.bytes((1 << 40) - 1, 1).unwrap(), [0]);
        assert_eq!(device.bytes((1 << 40) - 1, 2), None);
    }

    #[test]
    fn a_long_piece_is_cut() {
        let mut device = SparseDevice { size: 1 << 20, pieces: Vec::new() };
        device.put(7, &[1; 100_000]);
        let parsed = SparseDevice::parse(&device.render());
        assert_eq!(parsed.pieces.len(), 2);
        assert_eq!(parsed.bytes(0, 1 << 20), device.bytes(0, 1 << 20));
    }

    #[test]
    fn every_input_is_a_device() {
        for length in 0..40 {
            let device = SparseDevice::parse(&vec![0xff; length]);
            assert!(device.size <= MAX_SIZE, "{length}");
            let _ = device.bytes(0, 1 << 10);
        }
    }
}
