//! The settings with which apt is run (apt.conf(5)), in addition to those of the BE.

use std::fmt::Write;

use crate::distribution::debian::release::ReleaseChange;
use crate::distribution::package_manager::{ConfigurationPolicy, Wanted, Workplace};
use crate::error::Result;
use crate::sandbox::WORK;
use crate::tool::Tool;

/// Where apt finds them inside.
pub(super) const PATH: &str = "/run/lifeboat/work/apt.conf";

/// What apt needs in the work directory before it fetches lists.
const LISTS: &str = "lists/partial";

/// Writes the settings, and the sources of the new release if there is one.
pub(super) fn write(
    place: &Workplace<'_>,
    wanted: &Wanted<'_>,
    release: Option<&ReleaseChange>,
) -> Result<()> {
    place.work.make_directory(LISTS)?;
    let mut text = format!(
        "Dir::State::Lists \"{WORK}/lists\";\n\
         Dir::Cache::pkgcache \"{WORK}/pkgcache.bin\";\n\
         Dir::Cache::srcpkgcache \"\";\n\
         Acquire::GzipIndexes \"true\";\n\
         Acquire::Languages \"none\";\n\
         APT::Update::Error-Mode \"any\";\n\
         APT::Color \"false\";\n\
         APT::Keep-Downloaded-Packages \"false\";\n\
         DPkg::Use-Pty \"false\";\n\
         DPkg::Options {{ \"{}\"; }};\n\
         #clear APT::Update::Pre-Invoke;\n\
         #clear APT::Update::Post-Invoke;\n\
         #clear APT::Update::Post-Invoke-Success;\n",
        dpkg_options(wanted.configuration).join("\"; \"")
    );
    for (name, value) in proxies(place) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name} \"{value}\";");
    }
    if let Some(release) = release {
        place.work.make_directory("sources.list.d")?;
        place.work.write("sources.list", b"", 0o644)?;
        for file in &release.sources {
            let name = file.path.strip_prefix("etc/apt").unwrap_or(&file.path);
            place.work.write(name, file.text.as_bytes(), 0o644)?;
        }
        let _ = write!(
            text,
            "Dir::Etc::SourceList \"{WORK}/sources.list\";\n\
             Dir::Etc::SourceParts \"{WORK}/sources.list.d\";\n"
        );
    }
    place.work.write("apt.conf", text.as_bytes(), 0o644)
}

/// The options of dpkg(1) for configuration files that both sides have changed. Its own default is
/// to keep them.
pub(super) fn dpkg_options(policy: ConfigurationPolicy) -> &'static [&'static str] {
    match policy {
        ConfigurationPolicy::Keep => &["--force-confdef", "--force-confold"],
        ConfigurationPolicy::Replace => &["--force-confnew"],
    }
}

/// The policy of ucf(1), for the configuration files that it manages.
fn ucf_variable(policy: ConfigurationPolicy) -> &'static str {
    match policy {
        ConfigurationPolicy::Keep => "UCF_FORCE_CONFFOLD=1",
        ConfigurationPolicy::Replace => "UCF_FORCE_CONFFNEW=1",
    }
}

/// A shell's command line that configures what is unpacked, as far as that can be done now.
pub(super) fn configuring(policy: ConfigurationPolicy) -> String {
    let (variable, options) = (ucf_variable(policy), dpkg_options(policy).join(" "));
    format!("env {variable} dpkg {options} --configure --pending || true")
}

/// A command of apt-get that reports its progress, with the same policy for the files that ucf(1)
/// manages.
///
/// The reports go to standard output by another descriptor: apt closes the one that it reports to
/// before it runs dpkg, and the packages' scripts need theirs.
pub(super) fn reporting<'a>(wanted: &Wanted<'_>, apt_get: &[&'a str]) -> Vec<&'a str> {
    let variable = ucf_variable(wanted.configuration);
    let shell = ["sh", "-c", "exec \"$@\" 3>&1", "sh", "env", variable];
    let [program, words @ ..] = apt_get else { return Vec::new() };
    [&shell[..], &[program, "--option", "APT::Status-Fd=3"], words].concat()
}

/// The proxies that the running system's apt uses. One that has no apt has none.
fn proxies(place: &Workplace<'_>) -> Vec<(String, String)> {
    let program = place.host.root.join("usr/bin/apt-config");
    if !program.exists() {
        return Vec::new();
    }
    match Tool::new(program).args(["dump", "Acquire"]).run() {
        Ok(printed) => parse_proxies(&printed),
        Err(why) => {
            log::warn!("the proxy of the running system is not known: {why}");
            Vec::new()
        }
    }
}

/// Lines such as `Acquire::http::Proxy "http://proxy:3128";`.
fn parse_proxies(printed: &str) -> Vec<(String, String)> {
    let settings = printed.lines().filter_map(|line| {
        let (name, value) = line.strip_suffix("\";")?.split_once(" \"")?;
        let is_plain = !value.is_empty() && !value.contains(['"', '\\']);
        let is_proxy = name.to_ascii_lowercase().contains("::proxy");
        let is_program = name.to_ascii_lowercase().contains("detect");
        (is_proxy && !is_program && is_plain).then(|| (name.to_owned(), value.to_owned()))
    });
    settings.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxies_of_the_running_system_are_taken_over() {
        let dump = "Acquire \"\";\nAcquire::Languages \"none\";\nAcquire::http \"\";\n\
            Acquire::http::Proxy \"http://proxy:3128\";\n\
            Acquire::http::Proxy::internal \"DIRECT\";\nAcquire::https::Proxy \"\";\n\
            Acquire::http::Proxy-Auto-Detect \"/usr/bin/detect\";\n";
        let expected = [
            ("Acquire::http::Proxy", "http://proxy:3128"),
            ("Acquire::http::Proxy::internal", "DIRECT"),
        ];
        assert_eq!(parse_proxies(dump), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}
