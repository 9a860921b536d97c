//! A Ctrl-C while a program of others runs. This is a test program of its own, because the signal
//! affects the whole process.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use be_tools::Error;
use be_tools::tool::Tool;

#[test]
fn a_program_that_a_ctrl_c_ends_is_an_interruption_and_no_failure_of_it() {
    be_tools::signals::watch();
    // A failure before the signal is one.
    let failed =
        Error::from(Tool::new("sh").args(["-c", "echo no room >&2; exit 1"]).run().unwrap_err());
    assert!(failed.to_string().contains("no room"), "{failed}");
    assert_eq!(failed.exit_status(), 1);
    // What the service of a schedule runs is told of an interruption by that alone. (A second one
    // would end this test.)
    let script = "trap 'echo told; exit 3' TERM; kill -INT $PPID; while :; do sleep 0.1; done";
    let told = Tool::new("sh").args(["-c", script]).interruptible().output().unwrap();
    assert_eq!((told.status.code(), &told.stdout[..]), (Some(3), &b"told\n"[..]));
    // A terminal sends the signal to both. Some programs end by it, others with a status.
    for script in ["kill -INT $$", "echo interrupted by user >&2; exit 1"] {
        let why = Error::from(Tool::new("sh").args(["-c", script]).run().unwrap_err());
        assert!(matches!(why, Error::Interrupted), "{why:?}");
        assert_eq!(why.exit_status(), 130);
    }
    // A hook after the copy is not reached by the signal, so that its failure is its own.
    let hook = Tool::new("sh").args(["-c", "echo asleep >&2; exit 1"]).own_group().run();
    assert!(hook.unwrap_err().to_string().contains("asleep"));
}
