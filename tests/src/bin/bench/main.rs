//! `make bench`: the figures of the README, each from runs beside each other on this machine, as ratios.
//!
//! Needs root for loop devices. Writes to nothing but images that it made.

mod copying;
mod listing;
mod loops;
mod menu;

use std::process::ExitCode;

use anyhow::Result;
use tests::rescue;

fn main() -> ExitCode {
    println!("{:<58} {:>12}  limit", "figure", "measured");
    let parts: [fn() -> Result<()>; 4] = [size, listing::measure, copying::measure, menu::measure];
    let mut failed = false;
    for part in parts {
        if let Err(error) = part() {
            println!("not measured: {error:#}");
            failed = true;
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// One line: what, how much, and what it should be.
fn figure(what: &str, measured: &str, limit: &str) {
    println!("{what:<58} {measured:>12}  {limit}");
}

/// The middle one of several.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn size() -> Result<()> {
    let mib = |name| anyhow::Ok(rescue::image(name)?.metadata()?.len() as f64 / f64::from(1 << 20));
    figure("size of lifeboat.efi", &format!("{:.1} MiB", mib("lifeboat.efi")?), "32 MiB, goal 24");
    Ok(())
}
