//! A test that needs a process of its own, for it changes or measures the one that it runs in.
use std::{
    env,
    path::Path,
    process::{Command, Stdio},
    thread,
};

/// Tells a process that it is a test's own.
const MARK: &str = "TEST_IN_ITS_OWN_PROCESS";

/// Whether the calling test is in a process of its own. If not, it has been run in one and passed.
///
/// # Panics
///
/// If it has failed there.
#[track_caller]
pub fn has_own_process() -> bool {
    let is_this = is_this();
    if !is_this {
        run(|executable| Command::new(executable));
    }
    is_this
}

/// Whether this process is the calling test's own.
pub(crate) fn is_this() -> bool {
    env::var_os(MARK).is_some()
}

/// Runs the calling test in a process of its own, which `command` starts: a command for this
/// executable that takes more arguments for it.
#[track_caller]
pub(crate) fn run(command: impl FnOnce(&Path) -> Command) {
    let this = thread::current();
    let name = this.name().unwrap_or_else(|| panic!("the thread of a test has its name"));
    let executable = env::current_exe().unwrap_or_else(|error| panic!("cannot find the test's executable: {error}"));
    let mut test = command(&executable);
    test.args(["--exact", name, "--nocapture"]).env(MARK, "1").stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = test.output().unwrap_or_else(|error| panic!("cannot run {name} in its own process: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("test result: ok. 1 passed"), "{said}");
}
