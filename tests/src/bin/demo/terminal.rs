//! This terminal as the machine's, and what a terminal would show.

use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};
use qemu::Machine;

const ROWS: NonZero<u16> = NonZero::new(24).unwrap();
const COLUMNS: NonZero<u16> = NonZero::new(80).unwrap();

/// Ctrl-]
const ESCAPE: u8 = 0x1d;

/// Gives the terminal to the machine until it is switched off, or Ctrl-] is pressed.
///
/// # Errors
/// The terminal cannot be set.
pub fn attach(vm: &Machine) -> Result<()> {
    let _raw = Raw::set()?;
    let (sender, keys) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok(count @ 1..) = std::io::stdin().read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut shown = 0;
    loop {
        let raw = vm.console().raw();
        let mut out = std::io::stdout().lock();
        out.write_all(&raw[shown..])?;
        out.flush()?;
        shown = raw.len();
        if vm.off(Duration::ZERO).is_ok() {
            return Ok(());
        }
        match keys.recv_timeout(Duration::from_millis(30)) {
            Ok(bytes) if bytes.contains(&ESCAPE) => return Ok(()),
            Ok(bytes) => vm.console().send(&String::from_utf8_lossy(&bytes))?,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Raw mode, as stty(1) sets it, until dropped.
struct Raw(String);

impl Raw {
    fn set() -> Result<Self> {
        let before = stty(&["-g"])?;
        stty(&["raw", "-echo"])?;
        Ok(Raw(before.trim().to_owned()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if stty(&[&self.0]).is_ok() {
            println!("\r");
        }
    }
}

fn stty(words: &[&str]) -> Result<String> {
    let output =
        Command::new("stty").args(words).stdin(Stdio::inherit()).output().context("starting stty")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The last screen that was drawn on a terminal of 80 by 24, as text: enough of ECMA-48 for a menu and plain lines.
pub fn screen(bytes: &[u8]) -> Vec<String> {
    let mut parser = vt100::Parser::new(ROWS, COLUMNS, 0);
    parser.process(bytes);
    let text = parser.screen().contents();
    let lines: Vec<String> = text.lines().map(|l| l.trim_end().to_owned()).collect();
    let end = lines.iter().rposition(|l| !l.is_empty()).map_or(0, |last| last + 1);
    lines[..end].to_vec()
}
