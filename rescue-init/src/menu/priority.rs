//! The menu gives way to the scan that it waits for.

/// Lowers the priority of this process in favour of the scan, until there is a list or the user
/// presses a key. If this is not permitted, the list only takes longer.
pub fn lower(lower: bool) {
    let _ = rustix::process::setpriority_process(None, if lower { 10 } else { 0 });
}
