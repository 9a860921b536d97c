//! `be mount` and `be umount`: a BE mounted until it is unmounted again.

use std::path::{Path, PathBuf};

use crate::discover::discover;
use crate::environment::FileSystemUse;
use crate::environment::mounted::{Access, Extent, MountedEnvironment, nested};
use crate::error::{Doing, Error, Refusal, Result};
use crate::host::Host;
use crate::plan::{Plan, Report};
use crate::session::lock::Lock;
use crate::storage::mounts::unmount_all;

/// Mounts a BE until it is unmounted again, on `dir` or on `/run/lifeboat/mnt/NAME`, and says
/// where; `None` when the report stopped after the plan.
///
/// # Errors
/// When it runs or is mounted already, `dir` is `/` or no directory, or a file system cannot be
/// mounted.
pub fn mount(
    host: &Host,
    reference: &str,
    dir: Option<&Path>,
    read_only: bool,
    report: &mut dyn Report,
) -> Result<Option<PathBuf>> {
    let _lock = Lock::acquire(host)?;
    let inventory = discover(host)?;
    let environment = inventory.find(reference)?;
    if environment.running {
        let way_out = "its files are below /".into();
        return Err(Refusal::Running { name: environment.name().into(), way_out }.into());
    }
    if let Some(place) = environment.mounted_at.first() {
        return Err(Refusal::Mounted {
            device: environment.root.device.display().to_string(),
            mountpoint: place.display().to_string(),
        }
        .into());
    }
    let own = host.run.join("lifeboat/mnt").join(environment.reference.replace('/', "-"));
    let dir = match dir {
        Some(dir) => dir.canonicalize().at("finding the directory", dir)?,
        None => own.clone(),
    };
    if dir != own && !dir.is_dir() {
        return Err(Error::Usage(format!(
            "{} is not a directory: name one to mount on",
            dir.display()
        )));
    }
    if dir == Path::new("/") {
        let why = "mounting on / would hide the running system: name another directory, or none";
        return Err(Refusal::Other(why.into()).into());
    }
    let place =
        |f: &FileSystemUse| dir.join(f.mountpoint.strip_prefix("/").unwrap_or(&f.mountpoint));
    let mut steps =
        vec![format!("mount {} on {}", environment.root.device.display(), dir.display())];
    steps.extend(
        nested(environment, Extent::All)
            .iter()
            .map(|f| format!("mount {} on {}", f.spec, place(f).display())),
    );
    let access = if read_only { "for reading only" } else { "for writing" };
    let plan = Plan {
        title: format!("Mount '{}' {access}", environment.name()),
        steps,
        ..Plan::default()
    };
    if !report.confirm(&plan)? {
        return Ok(None);
    }
    if dir == own {
        std::fs::create_dir_all(&dir).at("making the directory", &dir)?;
    }
    let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
    match MountedEnvironment::mount(&inventory, environment, &dir, access) {
        Ok(mounted) => Ok(Some(mounted.into_persistent())),
        Err(error) => {
            if dir == own {
                // It is empty, unless something is still mounted there.
                let _ = std::fs::remove_dir(&dir);
            }
            Err(error)
        }
    }
}

/// Unmounts a BE that [`mount`] mounted, named or by its directory.
///
/// # Errors
/// When it is not mounted, runs, or is in use.
pub fn umount(host: &Host, be_or_dir: &str, report: &mut dyn Report) -> Result<()> {
    let _lock = Lock::acquire(host)?;
    let inventory = discover(host)?;
    let dir = Path::new(be_or_dir).canonicalize().ok();
    let at_dir = dir.filter(|_| be_or_dir.contains('/')).and_then(|dir| {
        let environment = inventory.environments.iter().find(|e| e.mounted_at.contains(&dir))?;
        Some((environment, dir))
    });
    let (environment, dir) = match at_dir {
        Some(found) => found,
        None if be_or_dir.starts_with('/') => {
            return Err(Error::Usage(format!(
                "no boot environment is mounted on {be_or_dir}: `be list` shows which are"
            )));
        }
        None => {
            let environment = inventory.find(be_or_dir)?;
            let dir =
                environment.mounted_at.last().cloned().ok_or_else(|| {
                    Error::Usage(format!("'{}' is not mounted", environment.name()))
                })?;
            (environment, dir)
        }
    };
    if environment.running || dir == Path::new("/") {
        let way_out = "boot another one, then it can be unmounted".into();
        return Err(Refusal::Running { name: environment.name().into(), way_out }.into());
    }
    let plan = Plan {
        title: format!("Unmount '{}'", environment.name()),
        steps: vec![format!("unmount {} and what is mounted below it", dir.display())],
        ..Plan::default()
    };
    if !report.confirm(&plan)? {
        return Ok(());
    }
    unmount_all(host, &dir)?;
    if dir.starts_with(host.run.join("lifeboat/mnt")) {
        std::fs::remove_dir(&dir).at("removing the directory", &dir)?;
    }
    Ok(())
}
