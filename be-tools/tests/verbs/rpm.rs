//! `be upgrade` with the real dnf and the real zypper, in systems whose packages are a small
//! repository on their own disk.

use super::{Disk, be, done, from_packages, refused, root, said};

/// A system with rpm that is a BE. Debian's packages of dnf and zypper are what there is here: its
/// own list of packages is taken away. `system` is the `ID` of its os-release(5).
fn with_rpm(program: &str, name: &str, system: &str) -> Disk {
    let programs = format!("--include={program},rpm,createrepo-c");
    // A package needs a shell, and the first one of the list is what has it.
    let prepared = "rm -rf var/lib/dpkg usr/bin/apt-get; mkdir -p etc/rpm var/lib/rpm srv/build; \
        echo '%_dbpath /var/lib/rpm' >etc/rpm/macros; printf '%s\\n' 'Name: base' 'Version: 1' \
        'Release: 1' 'Summary: x' 'License: x' 'BuildArch: noarch' 'Provides: /bin/sh' 'Provides: \
        system-release = 39' '%description' x '%files' >srv/build/base.spec; chroot . sh -ec 'rpm \
        --initdb; cd /srv; rpmbuild --quiet -bb --define \"_topdir /srv/build\" --define \"_rpmdir \
        /srv/base\" build/base.spec; rpm -i --nodeps base/noarch/base-1-1.noarch.rpm' 2>&1";
    let settings = format!(
        "rm -f etc/os-release && printf 'ID={system}\\nVERSION_ID=39\\n' >etc/os-release && \
        mkdir -p srv/repo etc/yum.repos.d etc/zypp/repos.d && for d in yum.repos.d zypp/repos.d; do \
        printf '[here]\\nname=here\\nbaseurl=file:///srv/repo\\ngpgcheck=0\\nenabled=1\\nautorefresh=1\
        \\n' >etc/$d/here.repo; done"
    );
    from_packages(program, &programs, prepared, name, &settings)
}

/// Puts a version of a package into the repository of a BE. `script` runs after its installation.
fn publish(disk: &Disk, name: &str, version: &str, requires: &str, script: &str) {
    disk.change(&format!(
        "printf '%s\\n' 'Name: {name}' 'Version: {version}' 'Release: 1' 'Summary: x' 'License: x' \
        'BuildArch: noarch' {requires} '%description' x '%install' 'mkdir -p \
        %{{buildroot}}/usr/share/doc/{name} %{{buildroot}}/etc' 'echo {version} \
        >%{{buildroot}}/usr/share/doc/{name}/v' 'echo of {version} >%{{buildroot}}/etc/{name}.conf' \
        '%post' '{script}' '%files' '/usr/share/doc/{name}/v' '%config(noreplace) /etc/{name}.conf' \
        >srv/build/{name}.spec; chroot . sh -ec 'rpmbuild --quiet -bb --define \"_topdir /srv/build\" \
        --define \"_rpmdir /srv/repo\" /srv/build/{name}.spec; createrepo_c --quiet /srv/repo' 2>&1"
    ));
}

fn version(disk: &Disk, package: &str) -> String {
    disk.change(&format!("cat usr/share/doc/{package}/v 2>/dev/null || true")).trim().to_owned()
}

#[test]
fn dnf_installs_upgrades_and_removes_as_the_plan_says() {
    installs_upgrades_and_removes("dnf", "fedora");
}

#[test]
fn zypper_installs_upgrades_and_removes_as_the_plan_says() {
    installs_upgrades_and_removes("zypper", "opensuse-leap");
}

fn installs_upgrades_and_removes(program: &str, system: &str) {
    if !root() {
        return;
    }
    let name = format!("{program}-{}", std::process::id());
    let disk = with_rpm(program, &name, system);
    publish(&disk, "tool", "1", "", "true");
    publish(&disk, "other", "1", "'Requires: tool'", "true");

    let before = disk.sum();
    let plan = done(&["upgrade", &name, "--install", "other", "--dry-run"]);
    assert!(plan.contains("other  1-1") && plan.contains("tool  1-1"), "{plan}");
    assert_eq!(disk.sum(), before, "a plan writes nothing");
    done(&["upgrade", &name, "--install", "other", "--yes"]);
    assert_eq!((version(&disk, "tool"), version(&disk, "other")), ("1".into(), "1".into()));

    // What was changed by hand stays, and is named.
    disk.change("echo changed >>etc/tool.conf");
    publish(&disk, "tool", "2", "", "true");
    let text = done(&["upgrade", &name, "--dist", "--yes"]);
    assert!(text.contains("upgraded  tool  1-1 -> 2-1"), "{text}");
    assert!(text.contains("kept: /etc/tool.conf"), "{text}");
    assert_eq!(version(&disk, "tool"), "2");
    assert_eq!(disk.change("cat etc/tool.conf"), "of 1\nchanged\n");
    let text = done(&["upgrade", &name, "--dist", "--yes"]);
    assert!(text.contains("are as they should be"), "{text}");

    // A script that fails, after which the program goes on, is reported.
    publish(&disk, "tool", "3", "", "exit 1");
    let failed = be(&["upgrade", &name, "--dist", "--yes"]);
    let text = said(&failed);
    assert_eq!(failed.status.code(), Some(4), "{text}");
    assert!(text.contains("%post(tool-3-1.noarch) scriptlet failed"), "{text}");
    let state = || disk.change("grep ^state etc/lifeboat/environment.toml");
    assert_eq!((state().as_str(), &*version(&disk, "tool")), ("state = \"complete\"\n", "3"));

    // What cannot be downloaded changes nothing.
    publish(&disk, "tool", "4", "", "true");
    disk.change("mv srv/repo/noarch/tool-4-1.noarch.rpm srv/");
    let output = be(&["upgrade", &name, "--dist", "--yes"]);
    assert!(output.status.code() == Some(1), "{}", said(&output));
    assert_eq!((state().as_str(), &*version(&disk, "tool")), ("state = \"complete\"\n", "3"));
    disk.change("rm srv/tool-4-1.noarch.rpm; chroot . createrepo_c --quiet /srv/repo");
    // Nor does a release that is not there.
    refused(&["upgrade", &name, "--release", "40", "--yes"], 1, "no release 40");

    // What is in a file of the running system.
    publish(&disk, "new", "1", "", "true");
    let package = std::env::temp_dir().join(format!("new-{program}-{}.rpm", std::process::id()));
    let package = package.to_str().unwrap();
    disk.change(&format!(
        "cp srv/repo/noarch/new-1-1.noarch.rpm {package}; rm srv/repo/noarch/new-*; chroot . \
        createrepo_c --quiet /srv/repo"
    ));
    done(&["upgrade", &name, "--package", package, "--yes"]);
    refused(&["upgrade", &name, "--package", "/etc/fstab", "--yes"], 2, "not a package of rpm");
    std::fs::remove_file(package).unwrap();

    // What needs what is removed goes too, and the plan says so.
    let plan = done(&["upgrade", &name, "--remove", "tool", "--dry-run"]);
    assert!(plan.contains("removed   other") && plan.contains("removed   tool"), "{plan}");
    done(&["upgrade", &name, "--remove", "tool", "--yes"]);
    // The oracle is rpm itself.
    assert_eq!(disk.change("chroot . rpm -qa | sort"), "base-1-1.noarch\nnew-1-1.noarch\n");

    // What cannot be done is said before anything is changed.
    let missing = be(&["upgrade", &name, "--install", "no-such", "--yes"]);
    assert!(!missing.status.success() && said(&missing).contains("no-such"), "{}", said(&missing));
    publish(&disk, "bad", "1", "'Requires: nobody-has-it'", "true");
    let broken = be(&["upgrade", &name, "--install", "bad", "--yes"]);
    assert!(said(&broken).contains("nobody-has-it"), "{}", said(&broken));
    assert_eq!(state(), "state = \"complete\"\n");
    refused(&["upgrade", &name, "--dist", "--conffiles", "new", "--yes"], 2, ".rpmnew");
    refused(&["upgrade", &name, "--install", "https://x/y.rpm", "--yes"], 2, "--package");
    refused(&["upgrade", &name, "--release", "next", "--yes"], 2, "number");

    // A transaction that was killed is not finished.
    disk.change(
        "sed -i 's/^state.*/state = \"incomplete\"\\noperation = \"upgrade\"/' \
        etc/lifeboat/environment.toml",
    );
    refused(&["upgrade", &name, "--dist", "--yes"], 2, "be refresh");
}
