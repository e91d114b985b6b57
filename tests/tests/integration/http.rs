//! HTTP: OpenAI's API, who may use it, what is no HTTP, and the life of the process that speaks it.
mod access;
mod bad_requests;
mod clients;
mod front;
mod openai;

use integration_tests::{Daemon, Http, model};

/// What has HTTP served on a port that the kernel chooses.
const LISTEN: &str = "[http]\nlisten = [\"127.0.0.1:0\"]\n";

/// A daemon of this model that serves HTTP.
fn serve(path: &str, settings: &str) -> (Daemon, Http) {
    let daemon = Daemon::start(&format!("{LISTEN}{}", model(path, settings)));
    let http = Http::of(&daemon);
    (daemon, http)
}
