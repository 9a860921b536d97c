//! What loads a BE's kernel, and the boot entry that makes it selectable.

pub mod stub;
pub mod vendor;
