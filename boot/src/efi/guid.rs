//! Vendor GUIDs of variables. The first three fields of a binary GUID are little endian (UEFI 2.10,
//! appendix A): `Uuid::to_bytes_le` and `from_bytes_le`.

use uuid::{Uuid, uuid};

/// `EFI_GLOBAL_VARIABLE`: `BootOrder`, `Boot####`, `SecureBoot` (UEFI 2.10, section 3.3).
pub const GLOBAL: Uuid = uuid!("8be4df61-93ca-11d2-aa0d-00e098032b8c");

/// The Boot Loader Interface's variables: `LoaderEntryOneShot`, `LoaderEntryDefault`.
pub const LOADER: Uuid = uuid!("4a67b082-0a4c-41cf-b6c7-440b29bb8c4f");
