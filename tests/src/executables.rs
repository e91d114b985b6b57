//! The executables under test, built with the profile of the running test and into its target folder.
use serde_json::Value;
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

/// The supervisor's executable: the one that `SUPERVISOR_EXECUTABLE` names, as it was packaged, or one built on the first call.
pub fn supervisor() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| match env::var_os("SUPERVISOR_EXECUTABLE") {
        Some(path) if !path.is_empty() => path.into(),
        _ => build("supervisor", "bin", "supervisor"),
    });
    &PATH
}

/// The executable that writes the manual and the completions, built on the first call.
pub fn documents() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| build("supervisor", "example", "documents"));
    &PATH
}

/// The executable of an example of the client library, built on the first call.
pub fn client_example(name: &str) -> PathBuf {
    build("ipc", "example", name)
}

/// The executable of the scripted bad worker.
pub fn bad_worker() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| own("bad-worker"));
    &PATH
}

/// The executable that runs another one as on a lesser kernel.
pub(crate) fn without() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| own("without"));
    &PATH
}

/// An executable of this package: the one that cargo has built along with a running integration test, or one built on the first call.
fn own(name: &str) -> PathBuf {
    let built = profile_folder().join(name);
    if is_test() && built.is_file() { built } else { build("integration-tests", "bin", name) }
}

/// Whether this process is a test, and no benchmark or campaign, which cargo builds without the package's other executables.
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

/// Builds a target of a package; `kind` is `bin` or `example`.
fn build(package: &str, kind: &str, name: &str) -> PathBuf {
    let folder = profile_folder();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--package", package, &format!("--{kind}"), name, "--profile", profile])
        .args(if package == "ipc" { ["--features", "client,tokio"].as_slice() } else { &[] })
        .arg("--message-format=json-render-diagnostics")
        .arg("--target-dir")
        .arg(folder.parent().unwrap_or(&folder))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("cannot run cargo: {error}"));
    assert!(output.status.success(), "cargo cannot build {name}");
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let artifact = |line: &str| -> Option<PathBuf> {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == name && message["executable"].is_string();
        is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
    };
    messages.lines().find_map(artifact).unwrap_or_else(|| panic!("cargo does not say where it has put {name}"))
}
