//! A refresh that is killed repeatedly, at different moments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use be_tools::copy::copy_tree;
use be_tools::plan::Silent;

use super::loop_device::{Mounted, root, sh};
use super::{refresh, request, rsync_finds_no_difference};

const SOURCE: &str = "LIFEBOAT_TEST_SOURCE";
const TARGET: &str = "LIFEBOAT_TEST_TARGET";

/// The process that is killed. In an ordinary run of the tests it does nothing.
#[test]
fn victim() {
    if let (Some(source), Some(target)) = (std::env::var_os(SOURCE), std::env::var_os(TARGET)) {
        copy_tree(&refresh(Path::new(&source), Path::new(&target)), &mut Silent).unwrap();
    }
}

fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    names
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

#[test]
fn every_file_is_old_or_new_whenever_a_refresh_is_killed() {
    if !root() {
        return;
    }
    let mkfs = ["mkfs.ext4", "-q", "-F"];
    let (source, target) = (Mounted::new(&mkfs, "256M"), Mounted::new(&mkfs, "256M"));
    let fill = "for i in $(seq 150); do head -c $((i * 1500)) /dev/urandom >f$i; done; mkdir -p d; \
                for i in $(seq 100); do echo $i >d/$i; done; ln -f f1 linked; chattr +i f2 d/3";
    sh(source.path(), fill);
    copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    let file_of = |root: &Path, path: &Path| root.join(path.file_name().unwrap());
    let mut killed = 0;
    for round in 0..25_u64 {
        if round % 5 == 0 {
            sh(source.path(), &format!("chattr -i f2 d/3; {fill}"));
        }
        let old = contents(target.path());
        let new = contents(source.path());
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::victim"])
            .env(SOURCE, source.path())
            .env(TARGET, target.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(2 + round * 7 % 60));
        victim.kill().unwrap();
        killed += u32::from(!victim.wait().unwrap().success());
        let now = contents(target.path());
        for (path, content) in &old {
            let found = now.get(path);
            let wanted = new.get(&file_of(source.path(), path));
            let leftover = path.to_string_lossy().contains("/.lifeboat-");
            assert!(
                leftover || found == Some(content) || found == wanted,
                "{} is half written",
                path.display()
            );
        }
    }
    assert!(killed > 0);
    copy_tree(&refresh(source.path(), target.path()), &mut Silent).unwrap();
    rsync_finds_no_difference(source.path(), target.path());
    assert_eq!(sh(target.path(), "find . -name '.lifeboat-*'"), "");
}
