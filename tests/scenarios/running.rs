//! `be` in a running Debian.

use qemu::{Debian, Release};
use tests::table::Scenario;
use tests::{BeWords, scenario};

pub const SCENARIOS: &[Scenario] = &[scenario!(be_runs_in_a_fresh_debian)];

fn be_runs_in_a_fresh_debian(release: Release) -> anyhow::Result<()> {
    let vm = Debian::new(release).build()?.machine()?.start()?;
    vm.ready()?;
    vm.install_be()?;
    assert!(vm.be("--version")?.starts_with("be "));
    Ok(())
}
