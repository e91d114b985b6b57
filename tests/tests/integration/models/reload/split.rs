//! A model in several files: a reload sees a change of each, and what is missing changes nothing.
use super::*;
use crate::gguf::Gguf;
use std::path::Path;

#[test]
fn each_part_of_a_split_model_is_looked_at() {
    let file = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/pocket/pocket-q8_0.gguf")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let parts = Gguf::read(&file).split("pocket", 3);
    for (name, part) in &parts {
        fs::write(folder.path().join(name), part.bytes()).unwrap();
    }
    let path = |index: usize| folder.path().join(&parts[index].0);
    let config = model(path(0).to_str().unwrap(), "workers = 1");
    let daemon = Daemon::start(&config);
    let answers = || {
        let request = GenerateRequest { model: Some("model".into()), ..GenerateRequest::chat("16 - 8 = ?") };
        assert_eq!(generate(&daemon, request).unwrap().text, "16 - 8 = 8");
    };
    answers();
    reloads(&daemon, &config, &["model: unchanged"]);
    let before = daemon.status().models[0].clone();
    for index in [2, 1] {
        let whole = fs::read(path(index)).unwrap();
        fs::remove_file(path(index)).unwrap();
        let missing = format!("its part {} cannot be opened: No such file", parts[index].0);
        refuses(&daemon, &config, 1, &missing);
        answers();
        fs::write(path(index), whole).unwrap();
        reloads(&daemon, &config, &["model: replaced, loaded in TIME (the files themselves)"]);
        answers();
    }
    let after = &daemon.status().models[0];
    assert_eq!(before.state, after.state);
}
