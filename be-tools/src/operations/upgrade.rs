//! `be upgrade`: changes the packages of a BE while another one serves. The BE's own package manager
//! does it, inside the BE and shut off from the running system.

mod space;
mod step;
mod transcript;
mod work;

use std::path::PathBuf;

use super::in_place::{self, Frames, InPlace, block_devices};
use super::schedule;
use super::write_descriptor::hold;
use crate::discover;
use crate::distribution;
use crate::distribution::package_manager::{
    Change, ConfigurationPolicy, PackageManager, PackagePlan, Wanted, Workplace,
};
use crate::environment;
use crate::environment::mounted::{self, MountMode, MountedEnvironment};
use crate::environment::{BootEnvironment, Descriptor, Inventory, Operation};
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::plan::{ChangeKind, PackageChange, PackageChanges, Plan, Report};
use crate::root_dir::RootDir;
use crate::sandbox::Inside;
use crate::session::lock::{InProgress, Lock};
use crate::step as steps;
use crate::storage::namespace;
use step::State;
pub use transcript::Transcript;
use work::Work;

/// What becomes of the packages of a BE.
#[derive(Clone, Debug)]
pub struct UpgradeRequest {
    /// What names the BE.
    pub reference: String,
    /// The change.
    pub change: Change,
    /// What becomes of configuration files that both the administrator and the package changed.
    pub configuration: ConfigurationPolicy,
    /// Mount points on other disks than the root, or shared with other BEs, that the packages'
    /// scripts may write to.
    pub writable: Vec<PathBuf>,
    /// Whether the packages' scripts have the network, too.
    pub network: bool,
    /// Whether to run the package manager of a BE that may come from another machine.
    pub force: bool,
    /// Whether no user sees the plan.
    pub unattended: bool,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Upgraded {
    /// The name of the BE.
    pub name: String,
    /// What names it on a command line.
    pub reference: String,
    /// What happened to its packages.
    pub changes: PackageChanges,
    /// What the package manager said while it worked.
    pub transcript: Transcript,
}

impl Upgraded {
    /// Packages that were removed although the plan did not say so: a package manager that is
    /// upgraded itself may solve the rest in another way.
    pub fn removed_unplanned(&self) -> Vec<&str> {
        let is_planned = |name: &str| {
            let of =
                |change: &PackageChange| change.name.split(':').next() == name.split(':').next();
            self.changes.of(ChangeKind::Removed).any(of)
        };
        let removed = self.transcript.removed.iter().map(String::as_str);
        removed.filter(|name| !is_planned(name)).collect()
    }
}

/// Changes the packages of a BE. `None` if the report stopped after the plan.
///
/// The BE is incomplete meanwhile. It stays so if this fails, and running it again goes on.
///
/// # Errors
/// The BE is running or another operation left it incomplete, its package manager is not known or
/// fails, or what is to be installed has no room.
pub fn upgrade(
    host: &Host,
    request: &UpgradeRequest,
    report: &mut dyn Report,
) -> Result<Option<Upgraded>> {
    let wait = request.unattended;
    let lock = if wait { Lock::wait(host, report)? } else { Lock::acquire(host)? };
    let inventory = discover::discover(host)?;
    let environment = inventory.find(&request.reference)?;
    lock.note(InProgress::on("upgrade", environment));
    if request.unattended {
        schedule::refuse_unattended(host, &inventory, environment, None)?;
    }
    let way_out = "make a copy with `be create`, and upgrade that";
    in_place::refuse(environment, way_out, &request.writable)?;
    mounted::refuse_for_commands(&inventory, environment, &request.writable, true)?;
    if !request.force {
        refuse_foreign(&inventory, environment)?;
    }
    let holds = hold(host, &inventory, environment.own_devices())?;
    namespace::enter_private_namespace()?;
    let work = Work::new(host)?;
    report.part(&format!("reading what there is for '{}'", environment.name()));
    let planned = lock.without_boot_lock(|| {
        planned(host, &inventory, environment, request, &work, HasRoom::Proved)
    });
    report.ended();
    let Planned { manager, packages } = planned??;
    // Only now, since another program may have changed boot entries meanwhile.
    let entry = in_place::own_entry(host, &inventory, environment)?;

    let frames = Frames::new(environment, entry.is_some(), Operation::Upgrade);
    let list = step::list(&frames, &packages);
    let plan = Plan {
        title: format!("Change the packages of boot environment '{}'", environment.name()),
        steps: steps::lines(&list),
        notes: notes(environment, &packages),
        packages: Some(packages.changes.clone()),
        ..Plan::default()
    };
    if !lock.confirm(report, &plan)? {
        return Ok(None);
    }
    holds.refuse_changed()?;
    if let Some(note) = environment.trial_called_off().filter(|_| entry.is_some()) {
        report.warn(&note);
    }
    let mut state = State {
        place: InPlace::new(host, &inventory, environment, &lock, &request.writable),
        manager: &*manager,
        packages: &packages,
        work: work.path(),
        network: request.network,
        transcript: Transcript::default(),
    };
    steps::run_all(&list, &mut state, report)?;
    Ok(Some(Upgraded {
        name: environment.name().to_owned(),
        reference: environment.reference.clone(),
        transcript: state.transcript,
        changes: packages.changes,
    }))
}

/// What an upgrade of a copy would be, as the package manager of its source says it before there is
/// a copy.
pub(super) struct Preview {
    /// The steps of the upgrade.
    pub(super) steps: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) changes: PackageChanges,
}

/// Works out what [`upgrade`] would do to a copy of `source`, or of the running BE, with the name of
/// the request and perhaps a boot entry. Whether there is room is known only where the copy is.
///
/// # Errors
/// As [`upgrade`].
pub(super) fn preview(
    host: &Host,
    source: Option<&str>,
    request: &UpgradeRequest,
    has_entry: bool,
    report: &mut dyn Report,
) -> Result<Preview> {
    let lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let environment = inventory.find_or_running(source)?;
    lock.note(InProgress::on("create", environment));
    if !environment.running && !request.force {
        refuse_foreign(&inventory, environment)?;
    }
    report.part(&format!("reading what there is for a copy of '{}'", environment.name()));
    let planned = lock.without_boot_lock(|| {
        namespace::in_private_namespace(|| {
            let work = Work::new(host)?;
            planned(host, &inventory, environment, request, &work, HasRoom::Unknown)
                .map(|planned| planned.packages)
        })
    });
    report.ended();
    let packages = planned??;
    let mut copy = BootEnvironment::empty(&environment.root.device);
    let mut descriptor = Descriptor::new(request.reference.parse()?, None);
    (descriptor.state, descriptor.operation) = (environment::State::Complete, None);
    copy.descriptor = Some(descriptor);
    let frames = Frames::new(&copy, has_entry, Operation::Upgrade);
    Ok(Preview {
        steps: steps::lines(&step::list(&frames, &packages)),
        notes: notes(&copy, &packages),
        changes: packages.changes,
    })
}

/// Refuses a BE whose package manager may be anybody's program: it runs with the network, and before
/// the plan can be confirmed.
fn refuse_foreign(
    inventory: &Inventory,
    environment: &BootEnvironment,
) -> std::result::Result<(), Refusal> {
    let why = match () {
        () if !environment.is_managed() => "is a system that Lifeboat did not make",
        () if environment.is_on_portable_disk(&inventory.devices) => {
            "is on a disk that may come from another machine"
        }
        () => return Ok(()),
    };
    Err(Refusal::ForeignPrograms { name: environment.name().into(), why })
}

/// Whether there is room for what is to be installed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HasRoom {
    Proved,
    Unknown,
}

struct Planned {
    manager: Box<dyn PackageManager>,
    packages: PackagePlan,
}

/// Asks the package manager of a BE, which is mounted read-only for that.
fn planned(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
    request: &UpgradeRequest,
    work: &Work,
    has_room: HasRoom,
) -> Result<Planned> {
    let mode = MountMode::ReadOnly;
    let writable = &request.writable;
    let mounted =
        MountedEnvironment::mount_for_commands(host, inventory, environment, mode, writable)?;
    let root = RootDir::open(mounted.root())?;
    let Some(manager) = distribution::package_manager(&root) else {
        let (name, reference) = (environment.name().into(), environment.reference.clone());
        return Err(Refusal::NoPackageManager { name, reference }.into());
    };
    let devices = block_devices(inventory, environment);
    let inside = Inside { work: Some(work.path()), ..Inside::new(mounted.root(), &devices) };
    let online = Inside { network: true, ..inside };
    let directory = RootDir::open(work.path())?;
    let workplace =
        Workplace { host, root: &root, work: &directory, inside: &inside, online: &online };
    let wanted = Wanted {
        change: &request.change,
        configuration: request.configuration,
        is_interrupted: environment
            .descriptor
            .as_ref()
            .is_some_and(|descriptor| descriptor.refuse_incomplete().is_err()),
    };
    let packages = manager.plan(&workplace, &wanted)?;
    if has_room == HasRoom::Proved {
        space::refuse_full(environment.name(), &root, &packages)?;
    }
    drop((directory, root));
    mounted.unmount()?;
    Ok(Planned { manager, packages })
}

fn notes(environment: &BootEnvironment, packages: &PackagePlan) -> Vec<String> {
    let mut notes = packages.notes.clone();
    if packages.commands.is_empty() {
        notes.push(format!("the packages of '{}' are as they should be", environment.name()));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::testing::environment;
    use crate::storage::device::BlockDevice;
    use crate::storage::device::Devices;
    use crate::storage::probe::{Kind, SuperBlock};

    #[test]
    fn the_package_manager_of_a_system_from_elsewhere_does_not_run_unasked() {
        let refused = |transport: &str, environment: &BootEnvironment| {
            let mut device = BlockDevice::example("sdc1", SuperBlock::new(Kind::Ext4));
            device.transport = transport.into();
            let devices: Devices = [device].into_iter().collect();
            refuse_foreign(&Inventory { devices, ..Inventory::default() }, environment).is_err()
        };
        let mut own = environment("second", "aaaa-02").complete();
        own.root.device = "/dev/sdc1".into();
        let unmanaged = BootEnvironment::empty("/dev/sdc1".as_ref());
        for (transport, environment, expected) in [
            ("ata", &own, false),
            ("usb", &own, true),
            ("ata", &unmanaged, true),
            ("usb", &unmanaged, true),
        ] {
            assert_eq!(refused(transport, environment), expected, "{transport}");
        }
    }
}
