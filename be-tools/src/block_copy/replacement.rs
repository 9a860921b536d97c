//! Finds the blocks of a file, so that a block copy can put another content there.

use std::path::Path;

use rustix::io::Errno;

use super::blueprint::Unfit;
use super::overlay::Edit;
use crate::error::Result;
use crate::root_dir::RootDir;
use crate::sys;

/// FIEMAP_EXTENT_LAST and FIEMAP_EXTENT_MERGED. Every other flag means that the bytes are not
/// there, encoded, or shared with another file.
const HARMLESS: u32 = 0x1 | 0x1000;

/// Returns the edits that replace the content of the file at `path` by `text`, padded with newlines
/// to the length of the file. The inner error says why that is not possible.
///
/// # Errors
/// When the file cannot be read.
pub fn edits_to_replace(
    root: &RootDir,
    path: impl AsRef<Path>,
    text: &str,
) -> Result<Result<Vec<Edit>, Unfit>> {
    let path = path.as_ref();
    let Some(old) = root.read(path)? else {
        return Ok(Unfit::new(format!("it has no /{}", path.display())));
    };
    let Some(file) = root.file(path)? else {
        return Ok(Unfit::new(format!("it has no /{}", path.display())));
    };
    if text.len() > old.len() {
        return Ok(Unfit::new(format!(
            "the descriptor of the copy needs {} bytes and that of the source has {} (a shorter \
            name would fit)",
            text.len(),
            old.len()
        )));
    }
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(old.len(), b'\n');
    let extents = match sys::extents(&file.into(), 0, old.len() as u64) {
        Ok(extents) => extents,
        Err(Errno::OPNOTSUPP | Errno::NOTTY) => {
            return Ok(Unfit::new("it does not say which blocks a file has"));
        }
        Err(why) => {
            return Ok(Unfit::new(format!("it does not say which blocks a file has ({why})")));
        }
    };
    let (mut edits, mut next) = (Vec::new(), 0_usize);
    for extent in extents {
        if extent.flags & !HARMLESS != 0 || extent.logical != next as u64 {
            break;
        }
        let end = bytes
            .len()
            .min(next.saturating_add(usize::try_from(extent.length).unwrap_or(usize::MAX)));
        edits.push(Edit { at: extent.physical, bytes: bytes[next..end].to_vec() });
        next = end;
        if next == bytes.len() {
            return Ok(Ok(edits));
        }
    }
    Ok(Unfit::new(format!("its /{} does not have blocks of its own", path.display())))
}
