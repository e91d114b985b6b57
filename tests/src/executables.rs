//! The executables under test, built with the profile of the running test and into its target
//! folder.
use crate::command;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

/// What there is by its name. All of it is built on the first call, so that nothing is out of date.
static BUILT: LazyLock<BTreeMap<String, PathBuf>> = LazyLock::new(build);

/// The supervisor's executable, which was packaged and not built if there is such a one.
pub fn supervisor() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| packaged().unwrap_or_else(|| built("supervisor").to_owned()));
    &PATH
}

/// A copy of the supervisor's executable in a folder to which other users can come.
///
/// Another process writes it. What this one has open for writing, a process that another thread has
/// just forked has open too, for a moment, and for as long nobody can execute it.
#[track_caller]
pub fn copy_of_supervisor(folder: &Path) -> PathBuf {
    let copy = folder.join("client");
    let made = command("cp").arg(supervisor()).arg(&copy).output();
    let made = made.unwrap_or_else(|error| panic!("cannot run cp: {error}"));
    assert!(made.status.success(), "the executable cannot be copied: {made:?}");
    copy
}

/// The executable that writes the manual and the completions. Benchmarks and campaigns have none.
pub fn documents() -> &'static Path {
    built("documents")
}

/// The executable of an example of the client library.
pub fn client_example(name: &str) -> &'static Path {
    built(name)
}

/// The executable of the scripted bad worker.
pub fn bad_worker() -> &'static Path {
    built("bad-worker")
}

/// The executable that runs another one as on a lesser kernel.
pub(crate) fn without() -> &'static Path {
    built("without")
}

/// The supervisor's executable that `SUPERVISOR_EXECUTABLE` names.
fn packaged() -> Option<PathBuf> {
    env::var_os("SUPERVISOR_EXECUTABLE").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn built(name: &str) -> &'static Path {
    BUILT.get(name).unwrap_or_else(|| panic!("cargo does not say where it has put {name}"))
}

/// Builds with the features that what is running was built with, or each library would be compiled
/// once more for those that differ.
fn build() -> BTreeMap<String, PathBuf> {
    // `cargo test --workspace` takes what tests and examples depend on into account. So does
    // `cargo build` as soon as there is an example among what it is to build.
    const WITH_TESTS: [&str; 7] =
        ["--workspace", "--example", "documents", "--example", "blocking", "--example", "asynchronous"];
    const WITHOUT: [&str; 4] = ["--package", "supervisor", "--package", "integration-tests"];
    let folder = profile_folder();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--message-format=json-render-diagnostics", "--profile", profile]);
    cargo.args(if is_test() { &WITH_TESTS[..] } else { &WITHOUT[..] });
    cargo.args(["--bin", "bad-worker", "--bin", "without"]);
    if packaged().is_none() {
        cargo.args(["--bin", "supervisor"]);
    }
    cargo.arg("--target-dir").arg(folder.parent().unwrap_or(&folder));
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run cargo: {error}"));
    assert!(output.status.success(), "cargo cannot build the executables under test");
    let artifact = |line: &str| -> Option<(String, PathBuf)> {
        let message: Value = serde_json::from_str(line).ok()?;
        Some((message["target"]["name"].as_str()?.to_owned(), message["executable"].as_str()?.into()))
    };
    String::from_utf8_lossy(&output.stdout).lines().filter_map(artifact).collect()
}

/// Whether this process is a test, and no benchmark or campaign.
fn is_test() -> bool {
    own_folder().ends_with("deps")
}

/// `target/debug` or `target/release`, from where this process's executable is.
fn profile_folder() -> PathBuf {
    let folder = own_folder();
    let parent = folder.parent().filter(|_| is_test());
    parent.unwrap_or(&folder).to_owned()
}

fn own_folder() -> PathBuf {
    let executable = env::current_exe().unwrap_or_else(|error| panic!("cannot find the test's executable: {error}"));
    executable.parent().unwrap_or(Path::new("/")).to_owned()
}
