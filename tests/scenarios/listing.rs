//! `be list`: every column shows the current state.

use anyhow::{Context, Result};
use qemu::{Release, deadline};
use serde_json::Value;
use tests::prepared::{FIRST, SECOND, TwoEnvironments};
use tests::table::Scenario;
use tests::{BeCommands, scenario};

pub const SCENARIOS: &[Scenario] = &[scenario!(every_column_of_the_list_shows_the_current_state)];

fn every_column_of_the_list_shows_the_current_state(release: Release) -> Result<()> {
    let vm = TwoEnvironments::on(release)?.machine()?.start()?;
    vm.ready()?;
    let (first, second) = (vm.environment(FIRST)?, vm.environment(SECOND)?);
    assert_eq!((&first["running"], &second["running"]), (&true.into(), &false.into()));
    assert_eq!((&first["next_boot"], &second["next_boot"]), (&true.into(), &false.into()));
    assert_eq!(first["problems"], Value::Array(Vec::new()), "{first:#}");
    assert_eq!(second["problems"], Value::Array(Vec::new()), "{second:#}");
    assert_eq!(second["descriptor"]["state"], "complete");
    assert_eq!(second["root"]["device"], "/dev/vda3");
    assert_eq!(second["os"]["id"], "debian");
    assert_ne!(first["boot_entry"], second["boot_entry"]);
    assert!(first["descriptor"]["created"].as_str() <= second["descriptor"]["created"].as_str());
    let kernel = vm.run("uname -r")?.stdout;
    assert_eq!(second["kernel"], kernel.trim());
    assert_eq!(vm.listed(SECOND, "KERNEL")?, kernel.trim());

    // used space
    let used = second["used"].as_u64().context("bytes in use")?;
    vm.run("mount /dev/vda3 /mnt && fallocate -l 64M /mnt/var/tmp/large && sync && umount /mnt")?;
    assert!(vm.environment(SECOND)?["used"].as_u64().context("bytes in use")? >= used + (60 << 20));
    // OS
    vm.run(
        "mount /dev/vda3 /mnt && cp -a /mnt/usr/lib/os-release /mnt/var/tmp/ && \
         sed -i 's/^VERSION_ID=.*/VERSION_ID=\"99\"/' /mnt/usr/lib/os-release && umount /mnt",
    )?;
    assert_eq!(vm.environment(SECOND)?["os"]["version_id"], "99");
    assert!(vm.be("list")?.contains("Debian 99"));
    vm.run("mount /dev/vda3 /mnt && mv /mnt/var/tmp/os-release /mnt/usr/lib/ && umount /mnt")?;
    assert_eq!(vm.environment(SECOND)?["os"], second["os"]);
    // kernel
    vm.run(
        "mount /dev/vda3 /mnt && mkdir /mnt/aside && mv /mnt/boot/vmlinuz-* /mnt/aside/ && \
        umount /mnt",
    )?;
    assert_eq!(vm.environment(SECOND)?["kernel"], Value::Null);
    assert_eq!(vm.listed(SECOND, "KERNEL")?, "-");
    vm.run("mount /dev/vda3 /mnt && mv /mnt/aside/* /mnt/boot/ && umount /mnt")?;
    assert_eq!(vm.environment(SECOND)?["kernel"], second["kernel"]);
    // health
    vm.run("mount /dev/vda3 /mnt && mv /mnt/boot/initrd.img-* /mnt/aside/ && umount /mnt")?;
    let broken = vm.environment(SECOND)?;
    assert!(broken["problems"].to_string().contains("initrd.img"), "{broken:#}");
    let refused = vm.try_be(&format!("activate {SECOND} --yes"))?;
    assert_eq!(
        (refused.status, refused.stderr.contains("initrd.img")),
        (3, true),
        "{}",
        refused.stderr
    );
    assert_eq!(vm.try_be(&format!("check {SECOND}"))?.status, 5);
    vm.run("mount /dev/vda3 /mnt && mv /mnt/aside/* /mnt/boot/ && umount /mnt")?;
    assert_eq!(vm.environment(SECOND)?["problems"], Value::Array(Vec::new()));
    // next boot, trial
    vm.be(&format!("activate {SECOND} --yes"))?;
    assert_eq!(vm.environment(SECOND)?["next_boot"], true);
    assert_eq!(vm.environment(SECOND)?["trial"], "pending");
    assert_eq!(vm.environment(FIRST)?["next_boot"], false);
    vm.run("efibootmgr -qN")?;
    assert_eq!(vm.environment(SECOND)?["next_boot"], false);
    assert_eq!(vm.environment(SECOND)?["trial"], "interrupted");
    // name, description
    vm.be(&format!("rename {SECOND} renamed"))?;
    assert_eq!(vm.environment("renamed")?["descriptor"]["id"], second["descriptor"]["id"]);
    assert!(vm.run("efibootmgr")?.stdout.contains("Lifeboat: renamed"));
    vm.be(&format!("rename renamed {SECOND}"))?;
    vm.be(&format!("describe {SECOND} 'before the upgrade'"))?;
    assert_eq!(vm.be(&format!("describe {SECOND}"))?.trim(), "before the upgrade");
    // state, while a killed create is incomplete
    vm.run_detached(&format!(
        "be create {SECOND} --replace {SECOND} --yes > /run/create.log 2>&1"
    ))?;
    // Once in the plan, once when it is done.
    vm.run_within(
        "for i in $(seq 300); do [ $(grep -c 'copy the files' /run/create.log) -ge 2 ] && break; \
        sleep 0.2; done; sleep 2; pkill -KILL -x be",
        deadline(180),
    )?;
    let killed = vm.environment(SECOND)?;
    assert_eq!(killed["descriptor"]["state"], "incomplete");
    assert_eq!(killed["descriptor"]["operation"], "create");
    let refused = vm.try_be(&format!("activate {SECOND} --yes --force"))?;
    assert_eq!(
        (refused.status, refused.stderr.contains("incomplete")),
        (3, true),
        "{}",
        refused.stderr
    );
    // The create can be repeated.
    vm.be(&format!("create {SECOND} -m /:/dev/vda3:ext4 --yes"))?;
    let repeated = vm.environment(SECOND)?;
    assert_eq!(repeated["descriptor"]["state"], "complete");
    assert_eq!(repeated["problems"], Value::Array(Vec::new()));
    // created
    assert!(repeated["descriptor"]["created"].as_str() > second["descriptor"]["created"].as_str());
    assert_eq!(vm.listed(SECOND, "DEVICES")?, "/dev/vda3");
    // devices and name: a BE on another partition has its own line
    vm.be("create third -m /:/dev/vda4:ext4 --empty --yes")?;
    assert_eq!(vm.environment("third")?["root"]["device"], "/dev/vda4");
    assert_eq!(vm.listed("third", "DEVICES")?, "/dev/vda4");
    Ok(())
}
