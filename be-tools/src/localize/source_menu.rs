//! What the source's boot menu chooses, so that the copy's chooses the same.

use boot::grubenv::EnvironmentBlock;

use crate::environment::boot_menu::{BootMenu, GRUB_DIRECTORIES, environment_block};
use crate::root_dir::RootDir;

/// The boot menu of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMenu {
    /// The file name of the kernel in the entry that boots if no key is pressed.
    pub kernel: Option<String>,
    /// GRUB's environment block.
    pub block: EnvironmentBlock,
}

impl SourceMenu {
    /// Reads the menu of the system whose root directory is `root`.
    pub fn read(root: &RootDir) -> Self {
        let menu = BootMenu::read(root);
        let has_menu = |directory: &&str| root.exists(format!("{directory}/grub.cfg"));
        SourceMenu {
            kernel: menu.default_entry().map(|entry| entry.kernel_name().to_owned()),
            block: environment_block(root, GRUB_DIRECTORIES.into_iter().find(has_menu)),
        }
    }
}
