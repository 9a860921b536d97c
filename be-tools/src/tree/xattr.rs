//! Where an inode is reached, and its extended attributes, raw (ACLs, capabilities and labels are
//! among them).

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// An extended attribute: its name and value.
pub type Xattr = (CString, Vec<u8>);

/// XFS lists an ACL twice, the second time in a form of its own. An inode's ACL is
/// `system.posix_acl_*` everywhere.
const ACLS_OF_XFS: [&CStr; 2] = [c"trusted.SGI_ACL_FILE", c"trusted.SGI_ACL_DEFAULT"];

/// An entry: open, or a name in a directory.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// A file or directory that is open.
    Open(&'a OwnedFd),
    /// Anything by its name; a symbolic link is the link itself.
    Named(&'a OwnedFd, &'a CStr),
}

impl Place<'_> {
    /// A path for the calls that take no descriptor: it leads through /proc, so no other name is
    /// looked up.
    fn path(&self, name: &CStr, directory: &OwnedFd) -> Vec<u8> {
        let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        path.extend_from_slice(name.to_bytes());
        path
    }

    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Place::Open(fd) => rustix::fs::flistxattr(fd, buffer),
            Place::Named(directory, name) => {
                rustix::fs::llistxattr(self.path(name, directory), buffer)
            }
        }
    }

    fn get(&self, attribute: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Place::Open(fd) => rustix::fs::fgetxattr(fd, attribute, buffer),
            Place::Named(directory, name) => {
                rustix::fs::lgetxattr(self.path(name, directory), attribute, buffer)
            }
        }
    }

    /// Sets one.
    ///
    /// # Errors
    /// As setxattr(2).
    pub fn set(&self, (attribute, value): &Xattr) -> Result<(), Errno> {
        let flags = XattrFlags::empty();
        match self {
            Place::Open(fd) => rustix::fs::fsetxattr(fd, attribute, value, flags),
            Place::Named(directory, name) => {
                rustix::fs::lsetxattr(self.path(name, directory), attribute, value, flags)
            }
        }
    }

    /// Removes one.
    ///
    /// # Errors
    /// As removexattr(2).
    pub fn remove(&self, attribute: &CStr) -> Result<(), Errno> {
        match self {
            Place::Open(fd) => rustix::fs::fremovexattr(fd, attribute),
            Place::Named(directory, name) => {
                rustix::fs::lremovexattr(self.path(name, directory), attribute)
            }
        }
    }

    /// Their names, each of an ACL once.
    ///
    /// # Errors
    /// As listxattr(2); a file system without extended attributes has none.
    pub fn names(&self) -> Result<Vec<CString>, Errno> {
        names(|buffer| self.list(buffer))
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// As getxattr(2).
    pub fn xattrs(&self) -> Result<Vec<Xattr>, Errno> {
        xattrs(self.names()?, |name, buffer| self.get(name, buffer))
    }
}

/// Those of an entry of the directory that the thread stands in: a third of the cost of
/// [`Place::Named`].
///
/// # Errors
/// As getxattr(2).
pub fn xattrs_here(entry: &CStr) -> Result<Vec<Xattr>, Errno> {
    let names = names(|buffer| rustix::fs::llistxattr(entry, buffer))?;
    xattrs(names, |name, buffer| rustix::fs::lgetxattr(entry, name, buffer))
}

fn names(list: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<CString>, Errno> {
    let mut small = [0u8; 1024];
    let list = match list(&mut small) {
        Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
        Ok(length) => small[..length].to_vec(),
        Err(_) => grown(&mut small, list)?,
    };
    Ok(list
        .split_inclusive(|b| *b == 0)
        .filter_map(|n| CString::from_vec_with_nul(n.to_vec()).ok())
        .filter(|n| !ACLS_OF_XFS.contains(&n.as_c_str()))
        .collect())
}

fn xattrs(
    names: Vec<CString>,
    get: impl Fn(&CStr, &mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<Xattr>, Errno> {
    let mut xattrs = Vec::with_capacity(names.len());
    for name in names {
        let mut small = [0u8; 256];
        match grown(&mut small, |buffer| get(&name, buffer)) {
            Ok(value) => xattrs.push((name, value)),
            Err(Errno::NODATA) => {}
            Err(why) => return Err(why),
        }
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}

/// Calls with a larger buffer until what is asked for fits.
fn grown(
    first: &mut [u8],
    mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<u8>, Errno> {
    match call(first) {
        Ok(length) => return Ok(first[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(why) => return Err(why),
    }
    // XATTR_SIZE_MAX and XATTR_LIST_MAX are 64 KiB; some file systems hold more.
    let mut large = vec![0u8; 64 * 1024];
    loop {
        match call(&mut large) {
            Ok(length) => {
                large.truncate(length);
                return Ok(large);
            }
            Err(Errno::RANGE) if large.len() < 16 * 1024 * 1024 => large.resize(large.len() * 4, 0),
            Err(why) => return Err(why),
        }
    }
}
