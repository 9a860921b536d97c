//! What loads a BE's kernel, and the boot entry that makes it selectable.
