//! Refusals: reasons not to begin an operation.

/// Why an operation was refused before anything was written, and what the user can do about it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// The program does not run as root.
    #[error("{verb} needs root: run it with sudo")]
    NotRoot {
        /// The verb.
        verb: String,
    },
    /// The device is mounted.
    #[error("{device} is mounted on {mountpoint}: unmount it first")]
    Mounted {
        /// Kernel name with /dev.
        device: String,
        /// One of its mount points.
        mountpoint: String,
    },
    /// The device is swap space in use.
    #[error("{device} is used as swap: `swapoff {device}` first")]
    SwapInUse {
        /// Kernel name with /dev.
        device: String,
    },
    /// Another device is stacked on this one (LVM, LUKS, md).
    #[error("{device} is in use by {holder}: close that first")]
    Held {
        /// Kernel name with /dev.
        device: String,
        /// The device stacked on it.
        holder: String,
    },
    /// The device is not as the plan shows it.
    #[error(
        "{device} is not as it was in the plan: {how}; run the command again and read its plan"
    )]
    DeviceChanged {
        /// Kernel name with /dev.
        device: String,
        /// What differs.
        how: &'static str,
    },
    /// Something has the device mounted or claimed, perhaps in another mount namespace.
    #[error("{device} is in use, perhaps mounted in a container: stop what uses it first")]
    DeviceBusy {
        /// Kernel name with /dev.
        device: String,
    },
    /// The device belongs to a BE that the command line does not name.
    #[error(
        "{device} is part of boot environment '{owner}': to put the new one in its place use \
        --replace {owner}"
    )]
    PartOfEnvironment {
        /// Kernel name with /dev.
        device: String,
        /// That BE.
        owner: String,
    },
    /// The device is a line in the fstab of another BE.
    #[error(
        "{device} is {mountpoint} in the fstab of '{owner}': take that line out of it first, or \
        name another device"
    )]
    InFstab {
        /// Kernel name with /dev.
        device: String,
        /// The mount point of the line.
        mountpoint: String,
        /// That BE.
        owner: String,
    },
    /// The device is the root of the BE that is to be copied.
    #[error("{device} is the root of '{name}', which is to be copied: name another device")]
    IsSource {
        /// Kernel name with /dev.
        device: String,
        /// The source.
        name: String,
    },
    /// A system opens or formats the device at boot.
    #[error(
        "{device} is '{volume}' in the /etc/crypttab of {owner}, which opens or formats it when it \
        boots: take that line out of it first, or name another device"
    )]
    InCrypttab {
        /// Kernel name with /dev.
        device: String,
        /// The name of the opened volume.
        volume: String,
        /// "'first'", or "the running system".
        owner: String,
    },
    /// A file system that a BE cannot do without is not shown to its programs.
    #[error("{place} is not shown to its programs: {why}")]
    OutOfReach {
        /// Its mount point.
        place: String,
        /// Why not, and the way out.
        why: String,
    },
    /// The copy's initramfs would not find its root.
    #[error(
        "{device} for {mountpoint} is on {target}, and that of the source on {source_storage}: the \
        copy's initramfs would look for what the source has; name a device of the same kind, or \
        give --other-storage to copy it all the same"
    )]
    OtherStorage {
        /// The mount point.
        mountpoint: String,
        /// The device.
        device: String,
        /// What the device is on.
        target: String,
        /// What the source's is on.
        source_storage: String,
    },
    /// The copy would ask for the passphrase of a volume that it does not use, before it boots.
    #[error(
        "'{name}' opens '{volume}' by its /etc/crypttab, and its copy would ask for that passphrase \
        at every boot and not use it: set noauto for it, or give --other-storage to copy it all the \
        same"
    )]
    OpensForNothing {
        /// The source.
        name: String,
        /// The name of the opened volume.
        volume: String,
    },
    /// The copy would have no boot menu of its own.
    #[error("'{name}' lacks {missing}, so that its copy would have no boot menu: install that")]
    NoMenu {
        /// The source.
        name: String,
        /// What it lacks.
        missing: String,
    },
    /// Nothing in the BE would say that a start went well.
    #[error(
        "'{name}' is not started by systemd, so nothing would confirm its trials: after three \
        starts its loader would give it up"
    )]
    NoSystemd {
        /// The BE.
        name: String,
    },
    /// A whole disk with partitions was named as the target of a file system.
    #[error("{device} holds a {table} partition table: name one of its partitions{partitions}")]
    PartitionTable {
        /// Kernel name with /dev.
        device: String,
        /// GPT or MBR.
        table: String,
        /// " (a, b)", or empty.
        partitions: String,
    },
    /// The device holds something and `--force` was not given.
    #[error("{device} holds {content}: give --force to erase it, or name another device")]
    HoldsData {
        /// Kernel name with /dev.
        device: String,
        /// What was found on it.
        content: String,
    },
    /// The package manager of a BE may be anybody's program.
    #[error(
        "'{name}' {why}, and its own package manager would run with this machine's network before \
        the plan is shown: give --force to `be upgrade` if you trust it"
    )]
    ForeignPrograms {
        /// The BE.
        name: String,
        /// Why it may be.
        why: &'static str,
    },
    /// A program that is to be run as root may be changed by others.
    #[error(
        "{path} would be run as root, and {why}: look at it, then `chown root {path}` and `chmod \
        go-w {path}`"
    )]
    UntrustedProgram {
        /// The program, or a directory that holds it.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The journal of a file system of the source has to be replayed, and cannot be.
    #[error(
        "{device} was not cleanly unmounted and is read-only, so that its journal cannot be \
        replayed: make it writable (`blockdev --setrw {device}`), or copy from a writable image of \
        it"
    )]
    JournalOnReadOnlyDevice {
        /// Kernel name with /dev.
        device: String,
    },
    /// The target cannot hold the source.
    #[error(
        "{device} is too small for {mountpoint}: it needs {needed}, the device gives {available}; \
        name a larger one, or leave files out with --exclude"
    )]
    TooSmall {
        /// Kernel name with /dev.
        device: String,
        /// Mount point in the target.
        mountpoint: String,
        /// Size with a unit.
        needed: String,
        /// Size with a unit.
        available: String,
    },
    /// Packages that are to be installed have no room.
    #[error(
        "{directory} of '{name}' has {free} free, and the packages need {needed}: remove something, \
        or create it again with a larger file system"
    )]
    NoRoom {
        /// The BE.
        name: String,
        /// The directory in which they need it.
        directory: &'static str,
        /// Size with a unit.
        needed: String,
        /// Size with a unit.
        free: String,
    },
    /// The BE's package manager is not one that Lifeboat knows.
    #[error(
        "'{name}' has no package manager that be upgrade knows: run its own with \
        `be run --network {reference} -- COMMAND`"
    )]
    NoPackageManager {
        /// The BE.
        name: String,
        /// What to call it on a command line.
        reference: String,
    },
    /// The name is taken.
    #[error(
        "a boot environment named '{name}' exists on {device}: choose another name, or `be delete \
        {name}` first"
    )]
    NameTaken {
        /// The name as it is written there.
        name: String,
        /// Its root device.
        device: String,
    },
    /// The kernels lie on the ESP, which no command in a BE sees.
    #[error(
        "{mountpoint} is the EFI system partition {device}, which no command in a boot environment \
        may write to: a kernel that is installed would be lost; boot it to change its packages"
    )]
    EspIsBoot {
        /// The mount point.
        mountpoint: String,
        /// Kernel name with /dev.
        device: String,
    },
    /// An interrupted create has the name, on devices that the command line does not name.
    #[error(
        "'{name}' on {device} was left by an interrupted create: name its devices again with -m, \
        or take them with --replace {name}"
    )]
    InterruptedCreate {
        /// The BE.
        name: String,
        /// Its root device.
        device: String,
    },
    /// More than one BE has the name.
    #[error("'{name}' is ambiguous: use one of {}", .candidates.join(", "))]
    Ambiguous {
        /// The name as the user gave it.
        name: String,
        /// Names that are not ambiguous.
        candidates: Vec<String>,
    },
    /// Several devices match the device field of a line of fstab, so that which one is mounted is
    /// chance.
    #[error(
        "{spec} in its fstab names {}: disconnect all but one, or give the others another UUID, \
        label or PARTUUID",
        .devices.join(" and ")
    )]
    AmbiguousDevice {
        /// The field.
        spec: String,
        /// The devices.
        devices: Vec<String>,
    },
    /// The memory of the BE is in its swap space. What is written to its file systems until it is
    /// resumed destroys them.
    #[error("nothing is written to '{name}': {why}")]
    Hibernated {
        /// The BE.
        name: String,
        /// Where its memory is, and what the user can do about it.
        why: String,
    },
    /// What a BE would do if it were started is chance, or would destroy something.
    #[error(
        "'{name}' is not started: {}; see `be check {name}`, or start it anyway with --force",
        .problems.join("; ")
    )]
    UnsafeToStart {
        /// What to call the BE on a command line.
        name: String,
        /// What is wrong, one sentence each.
        problems: Vec<String>,
    },
    /// The kernel and the initramfs of a BE do not fit into memory.
    #[error(
        "the kernel and the initramfs that '{name}' would start with have {} together, and at most \
        {} can be loaded here: free memory, or see `be check {name}`",
        indicatif::HumanBytes(*.size),
        indicatif::HumanBytes(*.limit)
    )]
    ImagesTooLarge {
        /// The BE.
        name: String,
        /// The bytes of all files.
        size: u64,
        /// The most bytes that are loaded.
        limit: u64,
    },
    /// There is no EFI system partition for the loader.
    #[error("no EFI system partition found on {searched}: make one (type EF00, FAT32)")]
    NoEsp {
        /// The disks that were searched.
        searched: String,
    },
    /// Several partitions have the PARTUUID by which a boot entry names the ESP.
    #[error(
        "{} have the same PARTUUID {partuuid}, so the firmware cannot tell them apart: disconnect \
        the disk that is not meant, or give its partition another with `sgdisk --partition-guid`",
        .devices.join(" and ")
    )]
    AmbiguousEsp {
        /// The PARTUUID.
        partuuid: String,
        /// The partitions.
        devices: Vec<String>,
    },
    /// The descriptor names a loader that this program does not know.
    #[error(
        "'{name}' is started by the loader '{loader}', which this program does not know: use a \
        newer be"
    )]
    UnknownLoader {
        /// The BE.
        name: String,
        /// The loader, as the descriptor names it.
        loader: String,
    },
    /// The system was not started in UEFI mode, or runs without UEFI runtime services.
    #[error(
        "the firmware's variables cannot be read here: start this system in UEFI mode, without \
        efi=noruntime"
    )]
    NoFirmwareVariables,
    /// The firmware would not start the loader that Lifeboat writes.
    #[error(
        "Secure Boot is enforced and would refuse Lifeboat's unsigned loader: turn Secure Boot \
        off in the firmware setup"
    )]
    SecureBoot,
    /// A copy cannot be made bootable on this machine. Adds an alternative that only `be create`
    /// has to the cause.
    #[error("{0}, or use --no-boot-entry for a copy that another machine will boot")]
    NotBootableHere(Box<Refusal>),
    /// The BE is incomplete.
    #[error(
        "boot environment '{name}' is incomplete (interrupted {operation}): run that operation \
        again, or `be delete {name}`"
    )]
    Incomplete {
        /// The BE.
        name: String,
        /// The operation that was interrupted.
        operation: String,
    },
    /// The BE is the running system.
    #[error("'{name}' is the running boot environment: {way_out}")]
    Running {
        /// The BE.
        name: String,
        /// What the user can do instead.
        way_out: String,
    },
    /// The BE is mounted, so that its files may change at any time.
    #[error("'{name}' is mounted on {mountpoint}: unmount it first, with `be umount {name}`")]
    EnvironmentMounted {
        /// What to call the BE on a command line.
        name: String,
        /// One of its mount points.
        mountpoint: String,
    },
    /// The BE is unmanaged, and the operation needs its descriptor.
    #[error("'{name}' is unmanaged, it has no descriptor: {way_out}")]
    Unmanaged {
        /// What to call the BE on a command line.
        name: String,
        /// What the user can do instead.
        way_out: String,
    },
    /// The BE is unmanaged, and `--force` was not given.
    #[error(
        "'{name}' is unmanaged, a system that Lifeboat did not make ({system}): give --force to \
        erase it"
    )]
    NotMadeByLifeboat {
        /// What to call the BE on a command line.
        name: String,
        /// Its operating system.
        system: String,
    },
    /// The running system, which would be adopted, is a BE.
    #[error(
        "the running system is already boot environment '{name}': `be rename` gives it another \
        name"
    )]
    AlreadyManaged {
        /// Its name.
        name: String,
    },
    /// Two BEs have the same id, as block copies made by other programs have. They share a boot
    /// entry and a loader directory.
    #[error(
        "'{name}' and '{twin}' have the same id, as block copies have: disconnect the disk of one, \
        or `be delete` it"
    )]
    SameId {
        /// What to call the BE on a command line.
        name: String,
        /// What to call the other one.
        twin: String,
    },
    /// The firmware could start nothing else after the BE is removed.
    #[error(
        "the machine could start nothing without '{name}': make another boot environment first"
    )]
    OnlyBootable {
        /// The BE.
        name: String,
    },
    /// The machine would start a loader that is left alone, and whose BE is gone.
    #[error(
        "the machine starts Boot{entry:04X} first, which is not removed with '{name}', because it \
        may be that of another boot environment with the same id: `be activate` another one first, \
        or remove the entry with `be boot-entries remove {entry:04X}`"
    )]
    KeptStartsFirst {
        /// The BE that would be removed.
        name: String,
        /// The number of the entry.
        entry: u16,
    },
    /// The machine would start a distribution's loader whose root is gone.
    #[error(
        "the machine starts '{name}' next, by a boot entry that is not Lifeboat's and is not removed \
        with it: `be activate` another one first"
    )]
    ForeignEntryStartsIt {
        /// The BE that would be removed.
        name: String,
    },
    /// The firmware could start nothing else if the BE did not boot.
    #[error(
        "the machine could start nothing but '{name}', so there would be nothing to fall back to: \
        make another boot environment, add the rescue image to the firmware's entries, or give \
        --force"
    )]
    NoFallback {
        /// The BE.
        name: String,
    },
    /// A refresh would replace the files of the BE that the machine starts by itself.
    #[error(
        "the machine starts '{name}' by itself, so what it holds may be newer than its source: \
        give --force to replace it, or refresh another boot environment from it"
    )]
    BootsByItself {
        /// The BE.
        name: String,
    },
    /// A refresh that nobody watches would replace what is only in a BE.
    #[error(
        "'{name}' has run or was changed since {since}, and a refresh would lose what is only in it: \
        `be refresh {name}` does it all the same, and so does what is scheduled with --force"
    )]
    HasChanges {
        /// The BE.
        name: String,
        /// When it first ran or was changed since it was equal to its source.
        since: String,
    },
    /// A BE that would be tried at the next boot is not changed while nobody watches.
    #[error("the trial of '{name}' is pending: it is left as it is until that is over")]
    TrialPending {
        /// The BE.
        name: String,
    },
    /// The sources of packages have something else by now than what was shown.
    #[error(
        "what there is to be installed has changed since the plan was made: the copy is complete, and \
        `be upgrade` shows a new plan for it"
    )]
    OtherPackages,
    /// A BE with the id of the scheduled one lies somewhere else.
    #[error(
        "'{name}' is not where it was scheduled: that was {pinned}, and this is {found}; `be \
        schedule` it again to accept that"
    )]
    AnotherDevice {
        /// What to call the BE on a command line.
        name: String,
        /// Where it was when it was scheduled.
        pinned: String,
        /// Where it is now.
        found: String,
    },
    /// A BE that no user named lies on a removable disk, which may be a stranger's.
    #[error("'{name}' is on the removable disk of {device}: {way_out}")]
    OnRemovableDisk {
        /// What to call the BE on a command line.
        name: String,
        /// Kernel name with /dev.
        device: String,
        /// What the user can do about it.
        way_out: String,
    },
    /// The BE is a subvolume, which cannot be erased like a device.
    #[error("'{name}' is a btrfs subvolume of {device}, which others may share: {way_out}")]
    Subvolume {
        /// What to call the BE on a command line.
        name: String,
        /// The device.
        device: String,
        /// What the user can do instead.
        way_out: String,
    },
    /// The source and the target are the same BE.
    #[error("'{name}' cannot be {operation} itself: name another source with --from")]
    SourceIsTarget {
        /// The BE.
        name: String,
        /// "replaced by a copy of" or "refreshed from".
        operation: &'static str,
    },
    /// A device of the BE is also in the fstab of another one.
    #[error("{device} also holds files of '{other}': {way_out}")]
    SharedDevice {
        /// Kernel name with /dev.
        device: String,
        /// The other BE.
        other: String,
        /// What the user can do about it.
        way_out: String,
    },
    /// The source has files for a file system of the target, and nothing shows that Lifeboat made it
    /// for the target.
    #[error(
        "{mountpoint} of '{name}' is on {device}, and nothing shows that it was made for '{name}': \
        --keep {mountpoint} leaves it as it is, --take-over {mountpoint} fills it from '{from}'"
    )]
    Unproven {
        /// The BE.
        name: String,
        /// The mount point in its fstab.
        mountpoint: String,
        /// The device that fstab names.
        device: String,
        /// The BE that is copied.
        from: String,
    },
    /// The path to a mount point leads through a symlink of the source, so that a copy could be
    /// written somewhere else.
    #[error(
        "{symlink} is a symlink in '{name}', so no file system can be mounted on {mountpoint}: \
        name the directory that it points to"
    )]
    SymlinkInPath {
        /// The symlink.
        symlink: String,
        /// The BE.
        name: String,
        /// The mount point.
        mountpoint: String,
    },
    /// A BE would be mounted on `/`.
    #[error("mounting on / would hide the running system: name another directory, or leave it out")]
    MountOnRoot,
    /// This version cannot copy by this method.
    #[error(
        "this version of be makes no snapshots: leave --method out, and the files or blocks are \
        copied"
    )]
    SnapshotUnsupported,
    /// A file system cannot be copied by blocks, and `--method block` was given.
    #[error(
        "{mountpoint} cannot be copied by blocks: {why}; without --method its files are copied"
    )]
    BlocksUnsupported {
        /// Mount point in the target.
        mountpoint: String,
        /// The reason.
        why: String,
    },
    /// A boot entry is not Lifeboat's, and `--foreign` was not given.
    #[error("boot entry {entry} was not made by Lifeboat: give --foreign to remove it anyway")]
    ForeignEntry {
        /// Its number and description.
        entry: String,
    },
    /// Another `be` process holds the lock.
    #[error(
        "another operation is in progress on {what} (process {pid}): wait for it, or interrupt \
        that process"
    )]
    Busy {
        /// BE or machine.
        what: String,
        /// Process id of the holder, or "unknown".
        pid: String,
    },
    /// Boot entries were changed between the plan and the answer.
    #[error(
        "process {pid} changed the boot entries of this machine while the question waited: look \
        at the plan again"
    )]
    BootEntriesChanged {
        /// Process id of the program that changed them, or "unknown".
        pid: String,
    },
    /// A check before the activation failed.
    #[error(
        "'{name}' would not boot: {}; see `be check {name}`, or activate it anyway with --force",
        .problems.join("; ")
    )]
    WouldNotBoot {
        /// The BE.
        name: String,
        /// What is wrong, one sentence each.
        problems: Vec<String>,
    },
    /// There is no systemd to run a timer.
    #[error(
        "this system was not started by systemd, whose timers `be schedule` uses: run `be refresh` \
        from its cron instead"
    )]
    NoTimers,
    /// Nothing is in progress on the BE, and nothing is scheduled for it.
    #[error("nothing is in progress on '{name}', and nothing is scheduled for it{others}")]
    NothingToCancel {
        /// The BE as the user named it.
        name: String,
        /// "; what is in progress", or empty.
        others: String,
    },
    /// The plan was not confirmed.
    #[error("not confirmed: nothing was written; answer yes, or give --yes")]
    NotConfirmed,
    /// Any other reason, in a sentence that says what to do.
    #[error("{0}")]
    Other(String),
}

impl Refusal {
    /// A stable word for programs (docs/manual/src/scripts.md has them all). The sentences may
    /// change, the codes do not.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::NotRoot { .. } => "not-root",
            Refusal::Mounted { .. } => "device-mounted",
            Refusal::SwapInUse { .. } => "swap-in-use",
            Refusal::Held { .. } => "device-in-use",
            Refusal::DeviceChanged { .. } => "device-changed",
            Refusal::DeviceBusy { .. } => "device-busy",
            Refusal::PartOfEnvironment { .. } => "part-of-environment",
            Refusal::InFstab { .. } => "in-fstab",
            Refusal::IsSource { .. } => "is-source",
            Refusal::InCrypttab { .. } => "in-crypttab",
            Refusal::OutOfReach { .. } => "out-of-reach",
            Refusal::OtherStorage { .. } => "other-storage",
            Refusal::OpensForNothing { .. } => "opens-for-nothing",
            Refusal::NoMenu { .. } => "no-menu",
            Refusal::NoSystemd { .. } => "no-systemd",
            Refusal::PartitionTable { .. } => "partition-table",
            Refusal::HoldsData { .. } => "holds-data",
            Refusal::ForeignPrograms { .. } => "foreign-programs",
            Refusal::UntrustedProgram { .. } => "untrusted-program",
            Refusal::JournalOnReadOnlyDevice { .. } => "journal-on-read-only-device",
            Refusal::TooSmall { .. } => "too-small",
            Refusal::NoRoom { .. } => "no-room",
            Refusal::NoPackageManager { .. } => "no-package-manager",
            Refusal::NameTaken { .. } => "name-taken",
            Refusal::EspIsBoot { .. } => "esp-is-boot",
            Refusal::InterruptedCreate { .. } => "interrupted-create",
            Refusal::Ambiguous { .. } => "ambiguous",
            Refusal::AmbiguousDevice { .. } => "ambiguous-device",
            Refusal::Hibernated { .. } => "hibernated",
            Refusal::UnsafeToStart { .. } => "unsafe-to-start",
            Refusal::ImagesTooLarge { .. } => "images-too-large",
            Refusal::NoEsp { .. } => "no-esp",
            Refusal::AmbiguousEsp { .. } => "ambiguous-esp",
            Refusal::UnknownLoader { .. } => "unknown-loader",
            Refusal::NoFirmwareVariables => "no-firmware-variables",
            Refusal::SecureBoot => "secure-boot",
            Refusal::Incomplete { .. } => "incomplete",
            Refusal::Running { .. } => "running",
            Refusal::EnvironmentMounted { .. } => "mounted",
            Refusal::Unmanaged { .. } => "unmanaged",
            Refusal::NotMadeByLifeboat { .. } => "not-made-by-lifeboat",
            Refusal::AlreadyManaged { .. } => "already-managed",
            Refusal::SameId { .. } => "same-id",
            Refusal::OnlyBootable { .. } => "only-bootable",
            Refusal::KeptStartsFirst { .. } | Refusal::ForeignEntryStartsIt { .. } => {
                "kept-starts-first"
            }
            Refusal::NoFallback { .. } => "no-fallback",
            Refusal::BootsByItself { .. } => "boots-by-itself",
            Refusal::HasChanges { .. } => "has-changes",
            Refusal::OtherPackages => "other-packages",
            Refusal::TrialPending { .. } => "trial-pending",
            Refusal::AnotherDevice { .. } => "another-device",
            Refusal::OnRemovableDisk { .. } => "on-removable-disk",
            Refusal::Subvolume { .. } => "subvolume",
            Refusal::SourceIsTarget { .. } => "source-is-target",
            Refusal::SharedDevice { .. } => "shared-device",
            Refusal::Unproven { .. } => "unproven",
            Refusal::SymlinkInPath { .. } => "symlink-in-path",
            Refusal::MountOnRoot => "mount-on-root",
            Refusal::SnapshotUnsupported => "snapshot-unsupported",
            Refusal::BlocksUnsupported { .. } => "blocks-unsupported",
            Refusal::ForeignEntry { .. } => "foreign-entry",
            Refusal::Busy { .. } => "busy",
            Refusal::BootEntriesChanged { .. } => "boot-entries-changed",
            Refusal::WouldNotBoot { .. } => "would-not-boot",
            Refusal::NoTimers => "no-timers",
            Refusal::NothingToCancel { .. } => "nothing-to-cancel",
            Refusal::NotConfirmed => "not-confirmed",
            Refusal::NotBootableHere(cause) => cause.code(),
            Refusal::Other(_) => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_manual_lists_every_code() {
        let (source, manual) =
            (include_str!("refusal.rs"), include_str!("../../../docs/manual/src/scripts.md"));
        let codes = source.lines().filter_map(|line| {
            let code = line.trim().strip_prefix("Refusal::")?.split_once(" => \"")?.1;
            code.strip_suffix("\",")
        });
        let missing: Vec<&str> =
            codes.clone().filter(|code| !manual.contains(&format!("`{code}`"))).collect();
        assert!(codes.count() > 30 && missing.is_empty(), "{missing:?}");
    }
}
