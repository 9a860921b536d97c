//! Every verb on hostile disks: no crash, no hang, nothing written but what the plan named, nothing
//! on the terminal but text, and the good boot environment among them is still listed.
//!
//! `$LIFEBOAT_HOSTILE` is the number of disks, 100 by default, `$LIFEBOAT_SEED` the first seed.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tests::be_program;
use tests::hostile::{Aims, HostileDisk};
use tests::programs::run;

/// The longest that a verb may take.
const LIMIT: Duration = Duration::from_secs(30);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().unwrap())
}

/// A loop device.
struct Loop {
    node: PathBuf,
}

impl Loop {
    fn on(image: &Path) -> Self {
        let output =
            Command::new("losetup").args(["--find", "--show"]).arg(image).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Loop { node: String::from_utf8(output.stdout).unwrap().trim().into() }
    }

    fn name(&self) -> &str {
        self.node.to_str().unwrap()
    }

    /// The sectors that were written to it so far.
    fn written(&self) -> u64 {
        let name = self.node.file_name().unwrap();
        let stat = Path::new("/sys/class/block").join(name).join("stat");
        let stat = std::fs::read_to_string(stat).unwrap();
        stat.split_whitespace().nth(6).unwrap().parse().unwrap()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = run(&["losetup", "--detach", self.name()]);
    }
}

/// A file system with one file tree, which nothing may write to.
fn precious(directory: &Path, name: &str, script: &str) -> (Loop, PathBuf) {
    let image = directory.join(name);
    File::create(&image).unwrap().set_len(48 << 20).unwrap();
    let image_name = image.to_str().unwrap();
    run(&["mke2fs", "-q", "-F", "-t", "ext4", image_name]).unwrap();
    let place = tempfile::tempdir_in(directory).unwrap();
    let at = place.path().to_str().unwrap();
    run(&["mount", "-o", "loop", image_name, at]).unwrap();
    let filled = run(&["sh", "-ec", &format!("cd \"$1\"\n{script}"), "sh", at]);
    run(&["umount", at]).unwrap();
    filled.unwrap();
    (Loop::on(&image), image)
}

fn uuid_of(device: &Loop) -> String {
    let output = Command::new("blkid")
        .args(["-p", "-o", "value", "-s", "UUID", device.name()])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// Runs `be` for at most [`LIMIT`]. Its output goes to files, so that it cannot fill a pipe.
fn be(arguments: &[&str], directory: &Path) -> Output {
    let (out, err) = (directory.join("out"), directory.join("err"));
    let mut child = Command::new(be_program().unwrap())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            panic!("be {arguments:?} still runs after {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let read = |path: &Path| {
        let mut bytes = Vec::new();
        File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    Output { status, stdout: read(&out), stderr: read(&err) }
}

/// Whether a terminal would do something else than show it.
fn steers(character: char) -> bool {
    (character.is_control() && character != '\n')
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// The machine around a hostile disk.
struct Machine {
    directory: tempfile::TempDir,
    aims: Aims,
    victim: Loop,
    good: Loop,
    spare: Loop,
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let (victim, _) = precious(at, "victim", "mkdir db; echo all of them >db/customers");
        let id = "5d9a6cf4-35a4-4a51-8a0e-1b6f4b8b5a11";
        let (good, _) = precious(
            at,
            "good",
            &format!(
                "mkdir -p etc/lifeboat usr/lib home proc; echo ID=debian >usr/lib/os-release; \
                ln -s ../usr/lib/os-release etc/os-release; echo x >etc/machine-id; \
                echo '/dev/lifeboat-none / ext4 defaults 0 1' >etc/fstab; printf 'format = 1\\nid = \
                \"{id}\"\\nname = \"the-good-one\"\\ncreated = \"2026-11-23T06:12:00Z\"\\nstate = \
                \"complete\"\\n' >etc/lifeboat/environment.toml"
            ),
        );
        let spare = at.join("spare");
        File::create(&spare).unwrap().set_len(400 << 20).unwrap();
        let aims = Aims {
            victim: victim.node.clone(),
            victim_uuid: uuid_of(&victim),
            good_id: id.into(),
            good_name: "the-good-one".into(),
            good_uuid: uuid_of(&good),
        };
        Machine { aims, victim, good, spare: Loop::on(&spare), directory }
    }

    /// Runs a verb and checks everything that must hold of any.
    fn verb(&self, arguments: &[&str], what: &str) -> Output {
        let before = [self.victim.written(), self.good.written()];
        let output = be(arguments, self.directory.path());
        let code = output.status.code();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stdout) + &text(&output.stderr);
        let context = format!("be {arguments:?} on {what}: {code:?}: {said}");
        // 101 is a panic, 134 an abort, none a signal.
        assert!(matches!(code, Some(0..=5 | 125..=127 | 130)), "{context}");
        assert!(!said.contains(steers), "{:?} in {context:?}", said.chars().find(|c| steers(*c)));
        assert_eq!([self.victim.written(), self.good.written()], before, "{context}");
        assert!(!Path::new("/lifeboat-was-here").exists(), "{context}");
        output
    }

    /// The references of the BEs whose root is on a device, and whether the good one is listed.
    fn listed(&self, device: &Loop, what: &str) -> Vec<String> {
        let output = self.verb(&["list", "--json"], what);
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let all = found.as_array().or_else(|| found["environments"].as_array()).unwrap();
        let on = |device: &Loop| {
            let here = all.iter().filter(|e| e["root"]["device"] == device.name());
            here.map(|e| e["reference"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(on(&self.good).len(), 1, "the good one is listed beside {what}: {all:?}");
        on(device)
    }

    fn all_verbs(&self, disk: &Loop, what: &str) {
        self.verb(&["list"], what);
        let good = format!("@{}", self.good.name().trim_start_matches("/dev/"));
        let place = self.directory.path().join("mounted");
        std::fs::create_dir_all(&place).unwrap();
        let place = place.to_str().unwrap();
        let spare = format!("/:{}:ext4", self.spare.name());
        for reference in self.listed(disk, what).iter().take(2) {
            let r = reference.as_str();
            self.verb(&["check", r], what);
            self.verb(&["filesystems", r], what);
            self.verb(&["history", r], what);
            self.verb(&["compare", r, &good, "--content"], what);
            self.verb(&["verify", r, "--record"], what);
            self.verb(&["verify", r], what);
            self.verb(&["verify", r, "--repair-from", &good, "--yes"], what);
            self.verb(&["mount", "--read-only", r, place], what);
            self.verb(&["umount", place], what);
            self.verb(&["run", r, "--", "/bin/true"], what);
            self.verb(&["describe", r, "x", "--yes"], what);
            self.verb(&["refresh", r, "--from", &good, "--yes"], what);
            let copy = ["create", "its-copy", "--from", r, "-m", &spare, "--no-boot-entry"];
            self.verb(&[&copy[..], &["--yes", "--force"]].concat(), what);
            let replace = ["create", "instead", "--from", &good, "--replace", r, "--no-boot-entry"];
            self.verb(&[&replace[..], &["--yes"]].concat(), what);
        }
        for reference in self.listed(disk, what) {
            self.verb(&["delete", &reference, "--yes"], what);
        }
        self.listed(disk, what);
        run(&["wipefs", "-q", "-a", self.spare.name()]).unwrap();
    }
}

#[test]
fn no_verb_crashes_hangs_or_writes_elsewhere_on_a_hostile_disk() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root, also in CI");
        eprintln!("skipped: needs root");
        return;
    }
    let machine = Machine::new();
    let (first, count) = (number("LIFEBOAT_SEED", 1), number("LIFEBOAT_HOSTILE", 100));
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    for seed in first..first + count {
        let made = HostileDisk::make(seed, &machine.aims, machine.directory.path()).unwrap();
        let what = format!("the disk of seed {seed} ({})", made.tricks.join(", "));
        let disk = Loop::on(&made.image);
        let start = Instant::now();
        machine.all_verbs(&disk, &what);
        longest = longest.max(start.elapsed());
    }
    eprintln!(
        "{count} hostile disks from seed {first} in {:.0?}, the slowest took {longest:.1?}",
        begun.elapsed()
    );
}
