//! What a loader keeps in a BE itself, below `loader/`, which implements it.

use super::kernel_parameters::OwnParameters;
use super::localization::Localization;
use super::localized::Localized;
use crate::error::Result;
use crate::root_dir::RootDir;
use crate::sandbox::programs::Programs;

/// What a loader keeps in a BE itself. Each method returns a sentence for what it did.
pub trait LoaderSettings {
    /// The files that [`LoaderSettings::adopt`] writes in the BE at `root`, relative to it.
    fn adopted_files(&self, root: &RootDir) -> &'static [&'static str];

    /// The files of its settings in a BE, relative to the root. They are not copied to a BE that
    /// has its own: they are localized again.
    fn own_files(&self) -> &'static [&'static str];

    /// The menu that [`LoaderSettings::adopt_menu`] changes, relative to the root; `None` where
    /// there is none.
    fn adopted_menu(&self, root: &RootDir) -> Option<&'static str>;

    /// Runs in a running system that becomes a BE: a trial of it that panics must restart the
    /// machine, and nothing else changes.
    ///
    /// # Errors
    /// When a file cannot be written.
    fn adopt(&self, root: &RootDir) -> Result<Vec<String>>;

    /// Runs after [`LoaderSettings::adopt`]: the menu says now what it will say when it is made
    /// again from the settings.
    ///
    /// # Errors
    /// When the menu cannot be written.
    fn adopt_menu(&self, root: &RootDir) -> Result<()>;

    /// Whether the kernel of the BE at `root` is told where to resume from, so that its initramfs
    /// need not know.
    fn passes_resume(&self, root: &RootDir) -> bool;

    /// Runs before the plan of an operation that makes a copy of the system at `source`. Returns
    /// what it lacks to make the copy a menu of its own; `None` if it has everything.
    fn missing_in(&self, source: &RootDir) -> Option<String>;

    /// Runs before the copy's own programs: the loader's settings become the copy's.
    ///
    /// # Errors
    /// When a file cannot be written.
    fn localize(
        &self,
        root: &RootDir,
        change: &Localization,
        parameters: &OwnParameters,
    ) -> Result<Vec<String>>;

    /// Runs after all else in the copy: the loader's menu is made from its settings, by the copy's
    /// own programs.
    ///
    /// # Errors
    /// When a program fails, or the menu would not boot the copy.
    fn write_menu(
        &self,
        root: &RootDir,
        change: &Localization,
        parameters: &OwnParameters,
        inside: &dyn Programs,
    ) -> Result<Localized>;
}
