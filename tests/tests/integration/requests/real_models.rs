//! The built-in model and MiniLM in one daemon, as a user has them: vectors through the command
//! line, also when workers are killed under a batch, beside a conversation that has all the cores
//! it can get.
use integration_tests::{Call, Daemon, Running, Signal, generate, minilm, process};
use ipc::GenerateRequest;
use serde_json::Value;

fn daemon(supervisor: &str, minilm_settings: &str) -> Daemon {
    Daemon::start(&format!(
        "[supervisor]\n{supervisor}\n[[model]]\npath = \"builtin:pocket\"\nworkers = 2\n\
         [[model]]\nname = \"minilm\"\npath = {:?}\nworkers = 2\n{minilm_settings}\n",
        minilm()
    ))
}

/// The texts of the goldens, and their vectors.
fn goldens() -> Vec<(String, Vec<f64>)> {
    let lines = include_str!("../../../../worker/tests/minilm.jsonl").lines();
    let golden = |line: &str| {
        let golden: Value = serde_json::from_str(line).unwrap();
        (golden["text"].as_str().unwrap().to_owned(), numbers(&golden["embedding"]))
    };
    // The command line reads a text from each line.
    lines.map(golden).filter(|(text, _)| !text.is_empty() && !text.contains(['\n', '\r'])).collect()
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn cosine(one: &[f64], other: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

/// Requires the vectors of the goldens, over and over.
#[track_caller]
fn check(output: &str, goldens: &[(String, Vec<f64>)], count: usize, least: f64) {
    assert_eq!(output.lines().count(), count);
    for (index, line) in output.lines().enumerate() {
        let object: Value = serde_json::from_str(line).unwrap();
        assert_eq!(object["index"].as_u64(), Some(index as u64));
        let (text, right) = &goldens[index % goldens.len()];
        let found = cosine(&numbers(&object["embedding"]), right);
        assert!(found >= least, "{index}, {text:?}: {found}");
    }
}

#[test]
fn the_command_line_gives_the_vectors_of_the_goldens() {
    let goldens = goldens();
    let texts: Vec<&str> = goldens.iter().map(|(text, _)| text.as_str()).collect();
    for (settings, least) in [("", 0.9999), ("precision = \"int8\"", 0.99)] {
        let daemon = daemon("", settings);
        let ended = Call::new(["embed", "--"].iter().chain(&texts)).to(daemon.socket()).run();
        assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
        check(&ended.stdout, &goldens, goldens.len(), least);
    }
}

#[test]
fn a_batch_comes_whole_when_its_workers_are_killed() {
    const TIMES: usize = 20;
    let goldens = goldens();
    let daemon = daemon("", "");
    let lines: String =
        goldens.iter().cycle().take(TIMES * goldens.len()).map(|(text, _)| format!("{text}\n")).collect();
    let call = Call::new(["embed", "-"]).to(daemon.socket()).input(lines).start();
    for _ in 0..2 {
        let mut pid = None;
        daemon.until("a part of the batch is computed", |status| {
            let busy = status.models[1].workers.iter().find(|worker| worker.state == "busy");
            pid = busy.and_then(|worker| worker.pid);
            pid.is_some() || status.models[1].totals.answered > 0
        });
        if let Some(pid) = pid {
            process::kill(pid, Signal::SIGKILL);
            daemon.until("its end is noticed", |status| {
                status.models[1].workers.iter().all(|worker| worker.pid != Some(pid))
            });
        }
    }
    let ended = call.wait();
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
    check(&ended.stdout, &goldens, TIMES * goldens.len(), 0.9999);
    assert!(daemon.status().models[1].totals.worker_crashes > 0, "no worker was killed in time");
}

#[test]
fn an_answer_beside_a_burst_of_vectors_is_the_answer_it_is_alone() {
    let goldens = goldens();
    let daemon = daemon("cores = 2", "");
    let long = GenerateRequest { max_tokens: Some(300), ignore_end: true, ..GenerateRequest::raw("Once upon a time") };
    let alone = generate(&daemon, long.clone()).unwrap();
    let lines: String = goldens.iter().cycle().take(40 * goldens.len()).map(|(text, _)| format!("{text}\n")).collect();
    let call = Call::new(["embed", "--format", "none", "-"]).to(daemon.socket()).input(lines).start();
    daemon
        .until("the batch is computed", |status| status.models[1].workers.iter().any(|worker| worker.state == "busy"));
    let mut client = daemon.client();
    let beside = Running::begin(&mut client, long).unwrap().finish().unwrap();
    assert_eq!((beside.text, beside.tokens), (alone.text, alone.tokens));
    assert_eq!(call.wait().code(), 0);
    let [pocket, minilm] = &daemon.settle().models[..] else { panic!("there are two models") };
    assert_eq!((pocket.totals.worker_crashes, minilm.totals.worker_crashes), (0, 0));
    assert_eq!((pocket.state.as_str(), minilm.state.as_str()), ("warm", "warm"));
}
