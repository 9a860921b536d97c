//! The command line of `image-builder`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use log::{LevelFilter, Log, Metadata, Record};

use crate::image::{self, Addition, Recipe};

/// 1 January 1980, the earliest time that FAT can represent.
const EARLIEST: u32 = 315_532_800;

/// The image's default kernel command line: screen and serial console, few messages, and a restart
/// a minute after a panic. A machine that falls back to the image by itself must not hang in it.
const COMMAND_LINE: &str = "console=tty0 console=ttyS0,115200 quiet panic=60";

#[derive(Debug, Parser)]
#[command(name = "image-builder", version, about = "Builds Lifeboat's rescue image")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build lifeboat.efi, lifeboat.img and netboot/; needs no root and does not change the host
    Build(Build),
}

#[derive(Debug, Args)]
struct Build {
    /// Debian release of the kernel and tools
    #[arg(long, default_value = "bookworm")]
    release: String,
    /// sources.list(5) file to use instead of the host's own sources
    #[arg(long, value_name = "FILE")]
    sources: Option<PathBuf>,
    /// The static multi-call binary, installed as /init and /bin/be
    #[arg(long, value_name = "FILE", default_value = "target/lifeboat/rescue-init")]
    binary: PathBuf,
    /// Kernel to use instead of the release's
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Module directory of --kernel [default: /lib/modules/VERSION]
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Additional module to include with its dependencies; can be repeated
    #[arg(long = "module", value_name = "NAME")]
    extra_modules: Vec<String>,
    /// File to add to the image, at DEST or else at /NAME; can be repeated
    #[arg(long = "add", value_name = "FILE[:DEST]", value_parser = addition)]
    additions: Vec<Addition>,
    /// Compression level of the initramfs, 1 (fast) to 19 (small)
    #[arg(
        long,
        value_name = "N",
        default_value_t = 19,
        value_parser = clap::value_parser!(i32).range(1..=19),
    )]
    level: i32,
    /// Kernel command line of the image
    #[arg(long, value_name = "TEXT", default_value = COMMAND_LINE)]
    cmdline: String,
    /// Directory the images are written to
    #[arg(long, value_name = "DIR", default_value = "target/lifeboat")]
    output: PathBuf,
    /// Directory for downloaded and unpacked packages
    #[arg(long, value_name = "DIR", default_value = "target/packages")]
    cache: PathBuf,
    /// Download the newest packages even if the cache is complete
    #[arg(long)]
    update: bool,
    /// Print the command line of each program that is run
    #[arg(long, short)]
    verbose: bool,
    /// Print what was built as JSON
    #[arg(long)]
    json: bool,
}

impl Build {
    fn run(self) -> Result<()> {
        // Fails only if a logger is already set. That one then receives the messages.
        let _ = log::set_logger(&Progress);
        log::set_max_level(if self.verbose { LevelFilter::Debug } else { LevelFilter::Info });
        let report = image::build(&Recipe {
            release: self.release,
            sources: self.sources,
            cache: self.cache,
            update: self.update,
            binary: self.binary,
            kernel: self.kernel,
            modules: self.modules,
            extra_modules: self.extra_modules,
            additions: self.additions,
            level: self.level,
            command_line: self.cmdline,
            output: self.output,
            time: time(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())?,
        })?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print!("{report}");
        }
        Ok(())
    }
}

/// A logger that prints progress on standard error.
struct Progress;

impl Log for Progress {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("image-builder: {}", record.args());
        }
    }

    fn flush(&self) {}
}

/// Runs the program and returns its exit status.
pub fn run() -> ExitCode {
    let Command::Build(build) = Cli::parse().command;
    match build.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image-builder: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The time of all files: `SOURCE_DATE_EPOCH` (reproducible-builds.org), or else [`EARLIEST`].
fn time(source_date_epoch: Option<&str>) -> Result<u32> {
    match source_date_epoch {
        None => Ok(EARLIEST),
        Some(text) => text
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH={text} is not a number of seconds")),
    }
}

fn addition(argument: &str) -> Result<Addition, String> {
    let (from, to) = match argument.split_once(':') {
        Some((from, to)) => (PathBuf::from(from), to.to_owned()),
        None => {
            let from = PathBuf::from(argument);
            let name = from.file_name().and_then(|name| name.to_str());
            let to = format!("/{}", name.ok_or("FILE has no name; give FILE:DEST")?);
            (from, to)
        }
    };
    if !to.starts_with('/') {
        return Err(format!("{to} must begin with \"/\""));
    }
    Ok(Addition { from, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn an_addition_has_an_absolute_destination() {
        let to = |argument| addition(argument).map(|addition| addition.to);
        assert_eq!(to("a/keys").unwrap(), "/keys");
        assert_eq!(to("a/keys:/etc/keys").unwrap(), "/etc/keys");
        assert!(to("a:etc/keys").is_err());
        assert!(to("..").is_err());
    }

    #[test]
    fn the_time_of_files_does_not_depend_on_the_clock() {
        assert_eq!(time(None).unwrap(), EARLIEST);
        assert_eq!(time(Some("1700000000")).unwrap(), 1_700_000_000);
        assert!(time(Some("yesterday")).is_err());
    }
}
