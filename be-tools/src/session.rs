//! What an operation begins with: nobody else writes, and what it mounts only it sees.

pub mod hooks;
pub mod lock;
