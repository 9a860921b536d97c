//! How an inode is reached, and its extended attributes as raw bytes. They include ACLs,
//! capabilities and security labels.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The name and the value of an extended attribute.
pub type Xattr = (CString, Vec<u8>);

/// XFS lists an ACL twice, the second time under a name of its own. `system.posix_acl_*` is the
/// name on all file systems.
const ACLS_OF_XFS: [&CStr; 2] = [c"trusted.SGI_ACL_FILE", c"trusted.SGI_ACL_DEFAULT"];

/// An inode, by an open file or by its name in a directory.
#[derive(Clone, Copy, Debug)]
pub enum InodeRef<'a> {
    /// An open file or directory.
    Open(&'a OwnedFd),
    /// An entry of a directory, by its name. Symlinks are not followed.
    Named(&'a OwnedFd, &'a CStr),
}

impl InodeRef<'_> {
    /// A path for the calls that take no descriptor. It goes through /proc, so that only `name` is
    /// looked up.
    fn path(&self, name: &CStr, directory: &OwnedFd) -> Vec<u8> {
        let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        path.extend_from_slice(name.to_bytes());
        path
    }

    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            InodeRef::Open(fd) => rustix::fs::flistxattr(fd, buffer),
            InodeRef::Named(directory, name) => {
                rustix::fs::llistxattr(self.path(name, directory), buffer)
            }
        }
    }

    fn get(&self, attribute: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            InodeRef::Open(fd) => rustix::fs::fgetxattr(fd, attribute, buffer),
            InodeRef::Named(directory, name) => {
                rustix::fs::lgetxattr(self.path(name, directory), attribute, buffer)
            }
        }
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// As setxattr(2).
    pub fn set(&self, (attribute, value): &Xattr) -> Result<(), Errno> {
        let flags = XattrFlags::empty();
        match self {
            InodeRef::Open(fd) => rustix::fs::fsetxattr(fd, attribute, value, flags),
            InodeRef::Named(directory, name) => {
                rustix::fs::lsetxattr(self.path(name, directory), attribute, value, flags)
            }
        }
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// As removexattr(2).
    pub fn remove(&self, attribute: &CStr) -> Result<(), Errno> {
        match self {
            InodeRef::Open(fd) => rustix::fs::fremovexattr(fd, attribute),
            InodeRef::Named(directory, name) => {
                rustix::fs::lremovexattr(self.path(name, directory), attribute)
            }
        }
    }

    /// The names of all extended attributes. ACLs are named once, also on XFS.
    ///
    /// # Errors
    /// As listxattr(2). On a file system without extended attributes the list is empty.
    pub fn names(&self) -> Result<Vec<CString>, Errno> {
        names(|buffer| self.list(buffer))
    }

    /// All extended attributes, sorted by name.
    ///
    /// # Errors
    /// As getxattr(2).
    pub fn xattrs(&self) -> Result<Vec<Xattr>, Errno> {
        xattrs(self.names()?, |name, buffer| self.get(name, buffer))
    }
}

/// The extended attributes of an entry of the thread's working directory, sorted by name. Takes a
/// third of the time of [`InodeRef::Named`].
///
/// # Errors
/// As getxattr(2).
pub fn xattrs_in_working_directory(entry: &CStr) -> Result<Vec<Xattr>, Errno> {
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

/// Calls again with a larger buffer until the result fits.
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
