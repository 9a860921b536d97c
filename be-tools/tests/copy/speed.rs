//! Measures, not tests: `cargo test --profile fast -p be-tools --test copy -- --ignored --nocapture speed`.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use be_tools::copy::{Instant as Moment, Mode, Request, Trust, copy_tree};
use be_tools::plan::Silent;

use super::loop_device::{Mounted, root, sh};
use super::request;

const EXT4: [&str; 5] = ["mkfs.ext4", "-q", "-F", "-N", "2500000"];
const ROUNDS: usize = 5;

fn timed(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn forget_caches() {
    sh(Path::new("/"), "sync; echo 3 >/proc/sys/vm/drop_caches");
}

fn rsync(source: &Mounted, target: &Mounted) {
    let mut command = Command::new("rsync");
    command.args(["-aHAXS", "--numeric-ids", "--delete", "--exclude=/lost+found"]);
    assert!(command.arg(source.path().join("")).arg(target.path().join("")).status().unwrap().success());
}

fn ours(source: &Mounted, target: &Mounted, trust: Trust) -> u64 {
    let request = Request { mode: Mode::Refresh(trust), ..request(source.path(), target.path()) };
    copy_tree(&request, &mut Silent).unwrap().changed
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned()
}

/// The files of this machine's /usr, twice where it has few.
fn system() -> Mounted {
    let source = Mounted::new(&EXT4, "8G");
    sh(source.path(), "cp -a /usr/share usr; cp -a /usr/lib/python3* /usr/include usr/ || true");
    source
}

#[test]
#[ignore = "measures"]
fn refresh_against_rsync() {
    if !root() {
        return;
    }
    let (source, target) = (system(), Mounted::new(&EXT4, "8G"));
    copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    let trust = Trust { complete: Some(Moment::now()), ..Trust::default() };
    println!("{} entries", sh(source.path(), "find . | wc -l").trim());
    for (state, cold) in [("cold", true), ("warm", false)] {
        let (mut them, mut us) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            for (times, work) in [
                (&mut them, &mut (|| rsync(&source, &target)) as &mut dyn FnMut()),
                (&mut us, &mut || assert_eq!(ours(&source, &target, trust), 0)),
            ] {
                if cold {
                    forget_caches();
                }
                times.push(timed(work));
            }
        }
        let (them, us) = (median(them), median(us));
        println!("nothing changed, {state}: {us:.3} s, rsync {them:.3} s, ratio {:.2}", us / them);
    }
    let touch = "find . -type f -size -40 | awk 'NR % 100 == 0' | while read -r f; do echo x >>\"$f\"; done";
    let (mut them, mut us) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        for (times, theirs) in [(&mut them, true), (&mut us, false)] {
            sh(source.path(), touch);
            forget_caches();
            times.push(timed(|| {
                if theirs {
                    rsync(&source, &target);
                    sh(target.path(), "sync -f .");
                } else {
                    ours(&source, &target, trust);
                }
            }));
        }
    }
    let (them, us) = (median(them), median(us));
    println!("1 % changed, cold: {us:.3} s, rsync with sync {them:.3} s, ratio {:.2}", us / them);
}

#[test]
#[ignore = "measures"]
fn create_against_cp() {
    if !root() {
        return;
    }
    let source = system();
    for (state, cold) in [("cold", true), ("warm", false)] {
        let (mut them, mut us) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            for (times, theirs) in [(&mut them, true), (&mut us, false)] {
                let target = Mounted::new(&EXT4, "8G");
                if cold {
                    forget_caches();
                }
                times.push(timed(|| {
                    if theirs {
                        let to = target.path().to_str().unwrap();
                        sh(source.path(), &format!("cp -a . {to}; sync -f {to}"));
                    } else {
                        copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
                    }
                }));
            }
        }
        let (them, us) = (median(them), median(us));
        println!("create, {state}: {us:.3} s, cp -a with sync {them:.3} s, ratio {:.2}", us / them);
    }
}

/// `LIFEBOAT_LINKED=1`: half a million files with two names each, far apart.
#[test]
#[ignore = "measures"]
fn a_million_files() {
    if !root() {
        return;
    }
    let count: u64 = std::env::var("LIFEBOAT_COUNT").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let linked = std::env::var_os("LIFEBOAT_LINKED").is_some();
    let (source, target) = (Mounted::new(&EXT4, "6G"), Mounted::new(&EXT4, "6G"));
    let first = if linked { count / 2 } else { count };
    for n in 0..first {
        let folder = source.path().join(format!("a/{}/{}", n / 100_000, n / 1000));
        if n % 1000 == 0 {
            std::fs::create_dir_all(&folder).unwrap();
        }
        drop(std::fs::File::create(folder.join(format!("file-{n}"))).unwrap());
    }
    if linked {
        sh(source.path(), "cp -al a b");
    }
    let create = timed(|| drop(copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap()));
    println!("{count} files, create {create:.1} s, {}", resident());
    for trust in [Trust { complete: Some(Moment::now()), ..Trust::default() }, Trust::default()] {
        let mut changed = 0;
        let refresh = timed(|| changed = ours(&source, &target, trust));
        println!("refresh {refresh:.1} s, {changed} changed, {}", resident());
    }
}
