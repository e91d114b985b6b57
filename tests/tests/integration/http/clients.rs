//! Other people's clients, as `tests/set-up` fetches them.
use super::LISTEN;
use integration_tests::{Daemon, Http, command, minilm, models_folder, skipped};

#[test]
fn openais_library_for_python() {
    let python = models_folder().join("clients/bin/python");
    if !python.exists() {
        return skipped("OpenAI's library for Python: tests/set-up has not fetched it");
    }
    let minilm = minilm();
    let daemon = Daemon::start(&format!(
        "{LISTEN}[supervisor]\nqueue = 1\n[[model]]\nname = \"pocket\"\npath = \"builtin:pocket\"\n\
         [[model]]\nname = \"slow\"\npath = \"builtin:echo?token_us=2000&context=1000000\"\nworkers = 1\n\
         isolation = \"worker\"\n[[model]]\nname = \"minilm\"\npath = {minilm:?}\n"
    ));
    let http = Http::of(&daemon);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/openai_python.py");
    let base = format!("http://{}/v1", http.address());
    let output = command(python).arg(script).arg(base).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", daemon.log());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "all is well\n");
}
