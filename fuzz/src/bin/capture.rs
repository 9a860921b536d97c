//! `capture TARGET IMAGE OUTPUT`: writes what the parser of a target reads of an image as an input
//! of that target. `fuzz/capture.sh` calls it.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};
use be_tools::block_copy::measure_source;
use be_tools::storage::partitions;
use be_tools::storage::probe::{Source, probe};
use fuzz::device::SparseDevice;

/// Zeros of this length and more are left out.
const GRANULE: u64 = 64;

/// Remembers what was read.
struct Recorder {
    file: File,
    size: u64,
    reads: RefCell<Vec<std::ops::Range<u64>>>,
}

impl Source for Recorder {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)?;
        self.reads.borrow_mut().push(offset..offset + buffer.len() as u64);
        Ok(())
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, image, output] = arguments.as_slice() else { bail!("TARGET IMAGE OUTPUT") };
    let file = File::open(image).with_context(|| image.clone())?;
    let size = file.metadata()?.len();
    let recorder = Recorder { file, size, reads: RefCell::default() };
    let found = match target.as_str() {
        "super_block" => probe(&recorder).description(),
        "partition_table" => format!("{:?}", partitions::read(&recorder, 512)),
        "block_copy" => format!("{:?}", measure_source(&recorder)),
        other => bail!("{other} is no target that takes a device"),
    };
    println!("{output}: {found}");
    let device = recorder.device()?;
    let bytes = device.render();
    std::fs::write(output, &bytes).with_context(|| output.clone())
}

impl Recorder {
    /// The device with those of its bytes that were read and are not zero.
    fn device(&self) -> Result<SparseDevice> {
        let mut granules = std::collections::BTreeSet::new();
        for read in self.reads.borrow().iter() {
            granules.extend(read.start / GRANULE..read.end.div_ceil(GRANULE));
        }
        let mut device = SparseDevice { size: self.size, pieces: Vec::new() };
        for granule in granules {
            let at = granule * GRANULE;
            let mut bytes = vec![0; GRANULE.min(self.size - at) as usize];
            self.file.read_exact_at(&mut bytes, at)?;
            if bytes.iter().all(|byte| *byte == 0) {
                continue;
            }
            match device.pieces.last_mut() {
                Some(last) if last.at + last.bytes.len() as u64 == at => last.bytes.extend(bytes),
                _ => device.put(at, &bytes),
            }
        }
        Ok(device)
    }
}
