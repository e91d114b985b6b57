//! Models that are loaded when they are asked for: before they come into force they are opened, and
//! nothing is loaded.
use super::*;
use nix::{sys::stat::Mode, unistd::mkfifo};

fn lazy(path: &str, settings: &str) -> String {
    model(path, &format!("workers = 1\nload = \"lazy\"\n{settings}"))
}

/// That only the built-in model is there, which is not loaded and can be.
#[track_caller]
fn is_as_before(daemon: &Daemon) {
    let model = daemon
        .until("what was tried has gone", |status| status.models.len() == 1 && status.models[0].template.is_none());
    let model = &model.models[0];
    assert_eq!((model.state.as_str(), model.path.as_str()), ("cold", "builtin:pocket"));
    daemon.has_only_its_own();
}

#[test]
fn one_that_cannot_be_served_changes_nothing_and_says_why() {
    let good = lazy("builtin:pocket", "");
    let daemon = Daemon::start(&good);
    let file = |name: &str| daemon.folder().join(name).display().to_string();
    let (text, cut, pipe) = (file("text.gguf"), file("cut.gguf"), file("pipe.gguf"));
    fs::write(&text, "no model").unwrap();
    let whole = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../worker/pocket/pocket-q8_0.gguf")).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    mkfifo(pipe.as_str(), Mode::S_IRWXU).unwrap();
    for (path, settings, words) in [
        ("/nowhere.gguf", "", "model: cannot open the model /nowhere.gguf: No such file"),
        (&text, "", "text.gguf: it is not a GGUF file"),
        (&cut, "", "model: cannot load the model "),
        (&pipe, "", "pipe.gguf: it is not a file"),
        ("/dev/zero", "", "model: cannot load the model /dev/zero: it is not a file"),
        ("builtin:nothing", "", "model: there is no built-in model \"nothing\""),
        ("builtin:echo?context=7", "context = 8", "a context of 8 tokens was asked for"),
        ("builtin:pocket", "context = 1000000", "a context of 1000000 tokens was asked for"),
    ] {
        refuses(&daemon, &lazy(path, settings), 1, words);
        is_as_before(&daemon);
    }
    // One that is added, also beside one that could be.
    let fine = echo("fine", "", "load = \"lazy\"");
    let added = lazy("/nowhere.gguf", "").replace("\"model\"", "\"added\"");
    refuses(&daemon, &format!("{good}{fine}{added}"), 1, "added: cannot open the model /nowhere.gguf");
    is_as_before(&daemon);
    assert!(!ask(&daemon, "model").unwrap().is_empty(), "the old one is served");
    reloads(&daemon, &good, &["model: unchanged"]);
}

#[test]
fn one_that_can_be_opened_is_not_loaded() {
    let executable = bad_worker().to_string_lossy().into_owned();
    let config = |script: &str| lazy(&format!("script:{script}"), "");
    let daemon = Daemon::with(&config("ok"), &["--template-executable", &executable]);
    // Whoever loads it dies.
    reloads(&daemon, &config("kill@load?times=1"), &["model: replaced, to be loaded when it is asked for (path)"]);
    let model = daemon.until_model("its template has gone", |model| model.template.is_none());
    assert_eq!((model.state.as_str(), model.last_crash, model.error), ("cold", None, None));
    daemon.has_only_its_own();
    assert!(!daemon.log().contains("loading"), "{}", daemon.log());
    // To be asked for is what loads it: once in vain.
    assert_eq!(ask(&daemon, "model").unwrap(), "text");
    let cause = "signal 9 (SIGKILL), most likely because the kernel had no memory left";
    assert_eq!(daemon.model().last_crash.map(|crash| crash.cause), Some(cause.to_owned()));
}

#[test]
fn one_that_never_fits_into_memory_changes_nothing() {
    let executable = bad_worker().to_string_lossy().into_owned();
    let config = |weights: u64, workers: u32| {
        model(&format!("script:ok?weights={weights}"), &format!("workers = {workers}\nload = \"lazy\""))
    };
    let daemon = Daemon::with(&config(1, 1), &["--template-executable", &executable]);
    refuses(&daemon, &config(1 << 50, 1), 1, "model: it does not fit into memory: 1.0 PiB of weights and 1 x (");
    // More workers than there is memory for, of a model that nobody has loaded yet.
    let cache = model(&format!("script:ok?cache={}", 1_u64 << 40), "workers = 1\nload = \"lazy\"");
    refuses(&daemon, &cache, 1, "a worker + 1.0 TiB for a request's cache) are 1.0 TiB");
    reloads(&daemon, &config(1, 2), &["model: replaced, to be loaded when it is asked for (workers)"]);
    reloads(&daemon, &config(1, 1), &["model: changed in place (workers)"]);
    assert_eq!(ask(&daemon, "model").unwrap(), "text");
}

#[test]
fn one_that_could_not_be_loaded_and_is_put_right_is_only_opened() {
    let daemon = Daemon::start(&lazy("/nowhere.gguf", ""));
    ask(&daemon, "model").unwrap_err();
    daemon.until_model("it has failed", |model| model.state == "failed");
    let lines = ["model: replaced, to be loaded when it is asked for (path)"];
    reloads(&daemon, &lazy("builtin:pocket", ""), &lines);
    is_as_before(&daemon);
    assert!(!ask(&daemon, "model").unwrap().is_empty());
}
