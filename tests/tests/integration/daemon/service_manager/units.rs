//! The units, as systemd's own tools see them, and what they must agree with in the program.
use integration_tests::{command, supervisor};
use std::{fs, path::PathBuf};

fn deployed(name: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every value of a setting, without what comments say.
fn settings<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let start = format!("{key}=");
    unit.lines().filter_map(|line| line.strip_prefix(&start)).collect()
}

#[test]
fn systemd_is_content_with_the_units() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/verify");
    let output = command(script).arg(supervisor()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    if said.starts_with("skipped: ") {
        eprintln!("{said}");
        return;
    }
    for word in [
        "verified: supervisor.service supervisor.socket supervisor-http.socket",
        "Overall exposure level",
        "made: the user",
    ] {
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn the_units_are_those_of_this_program() {
    let (service, socket) = (deployed("supervisor.service"), deployed("supervisor.socket"));
    assert_eq!(settings(&socket, "ListenStream"), [ipc::SYSTEM_SOCKET]);
    assert_eq!(settings(&socket, "FileDescriptorName"), ["supervisor.sock"]);
    let http = deployed("supervisor-http.socket");
    assert_eq!(settings(&http, "FileDescriptorName"), ["http"]);
    assert_eq!((settings(&http, "Service"), settings(&http, "NoDelay")), (vec!["supervisor.service"], vec!["yes"]));
    assert_eq!(settings(&http, "ListenStream"), ["127.0.0.1:8080"], "this host alone");
    assert_eq!(settings(&service, "Type"), ["notify"]);
    assert_eq!(settings(&service, "OOMPolicy"), ["continue"]);
    assert_eq!(settings(&service, "PrivateUsers"), Vec::<&str>::new(), "clients would all look like nobody");
    let started = settings(&service, "ExecStart");
    let [line] = started[..] else { panic!("{started:?}") };
    let mut words = line.split(' ');
    assert_eq!(words.next(), Some("/usr/bin/supervisor"));
    let words: Vec<_> =
        words.map(|word| if word.ends_with(".toml") { "deploy/supervisor.toml" } else { word }).collect();
    let checked = command(supervisor())
        .args(words)
        .arg("--check")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
}
