//! What the source's own files say about how it boots, read before anything is written.

use boot::menu::BootMenu;

use crate::environment::BootEnvironment;
use crate::environment::mounted::MountedEnvironment;
use crate::error::Result;
use crate::layout::MountPoint;
use crate::localize::LoaderSettings;
use crate::root_dir::RootDir;
use crate::session::Session;

use super::source;
use crate::own_files;

/// How a source boots.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceSystem {
    /// Its boot menu.
    pub(crate) menu: BootMenu,
    /// What it lacks to make a copy a boot menu of its own.
    pub(crate) missing: Option<String>,
    /// Its init is systemd.
    pub(crate) has_systemd: bool,
}

impl SourceSystem {
    /// Reads the source.
    ///
    /// # Errors
    /// Its root cannot be mounted.
    pub(crate) fn read(
        session: &Session,
        found: &BootEnvironment,
        loader: &dyn LoaderSettings,
    ) -> Result<Self> {
        let Session { host, inventory, .. } = session;
        if found.running {
            return Ok(Self::of(&RootDir::open(&host.root)?, loader));
        }
        match MountedEnvironment::mount_system(host, inventory, found) {
            Ok(mounted) => Ok(Self::of(&RootDir::open(mounted.root())?, loader)),
            // What does not have to be there for a copy is not there.
            Err(why) => {
                log::info!("only the root of '{}' is looked at: {why}", found.name());
                let mounted = source::mount(session, found, &MountPoint::root())?;
                Ok(Self::of(&RootDir::open(mounted.dir())?, loader))
            }
        }
    }

    fn of(root: &RootDir, loader: &dyn LoaderSettings) -> Self {
        SourceSystem {
            menu: BootMenu::read(root),
            missing: loader.missing_in(root),
            has_systemd: own_files::is_started_by_systemd(root),
        }
    }
}
