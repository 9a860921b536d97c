//! UEFI 2.10: variables (section 8.2), device paths (section 10), and the boot manager's load
//! options (section 3.1).

pub mod boot_entries;
pub mod device_path;
pub mod guid;
pub mod load_option;
pub mod ucs2;
pub mod variables;

pub use boot_entries::{BootEntries, BootEntry, Position, SecureBoot};
pub use device_path::{DevicePath, Node, Signature};
pub use load_option::LoadOption;
pub use variables::{Attributes, Variable, VariableName, Variables};
