use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn every_health_check_must_succeed_in_time() {
    let root = tempfile::tempdir().unwrap();
    let limit = Duration::from_millis(500);
    run_health_checks(root.path(), limit).unwrap();
    let directory = root.path().join(HEALTH_CHECKS);
    std::fs::create_dir_all(&directory).unwrap();
    for directory in directory.ancestors().take(2) {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory, mode).unwrap();
    }
    let write = |name: &str, text: &str, mode: u32| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write("10-good", "#!/bin/sh\nexit 0\n", 0o755);
    write("20-not-executable", "#!/bin/sh\nexit 1\n", 0o644);
    run_health_checks(root.path(), limit).unwrap();
    write("30-bad", "#!/bin/sh\nexit 3\n", 0o755);
    let outcome = || match run_health_checks(root.path(), limit) {
        Err(Error::HealthCheck { check, outcome }) => {
            assert_eq!(check, directory.join("30-bad"));
            outcome
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(outcome(), "failed (exit status: 3)");
    write("30-bad", "#!/bin/sh\nexec sleep 60\n", 0o755);
    assert!(outcome().starts_with("did not end within"));
    // A user who can write to a check could run anything as root.
    write("10-good", "#!/bin/sh\nexit 0\n", 0o775);
    let refused = run_health_checks(root.path(), limit).unwrap_err();
    assert!(refused.to_string().contains("others than its owner may write"), "{refused}");
    assert_eq!(refused.exit_status(), 3);
}
