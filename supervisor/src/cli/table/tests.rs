//! The exact page for an idle, a busy, a crashed and a failed model, at several widths, and for
//! hostile text.
use super::*;
use ipc::status::QueueStatus;

fn status(models: Vec<ModelStatus>) -> Status {
    let (version, state) = ("0.1.0".to_string(), "serving".to_string());
    Status { version, pid: 7, uptime_s: 12.5, cores: 4, models, state, reload_error: None, http: None }
}

fn idle_model() -> ModelStatus {
    ModelStatus {
        name: "pocket".to_string(),
        kind: "generate".to_string(),
        state: "warm".to_string(),
        error: None,
        retry_in_s: None,
        path: "builtin:pocket".to_string(),
        architecture: Some("llama".to_string()),
        context: Some(512),
        isolation: "request".to_string(),
        weights_bytes: None,
        template: Some(TemplateStatus {
            pid: 9,
            load_s: Some(0.4),
            pss_bytes: Some(5_200_000),
            generation: 1,
            sandbox: None,
        }),
        queue: QueueStatus { length: 0, limit: 64, oldest_s: 0.0 },
        workers: vec![worker(0, 1, 21), worker(1, 1, 22)],
        totals: Totals::default(),
        last_crash: None,
    }
}

fn worker(slot: u32, generation: u64, pid: u32) -> WorkerStatus {
    WorkerStatus {
        slot,
        generation,
        pid: Some(pid),
        state: "idle".to_string(),
        request: None,
        owner: None,
        phase: None,
        age_s: 3.1,
        // What it computed for an earlier request is not shown.
        prompt_tokens: 3,
        tokens: 4,
        tokens_per_s: Some(5.0),
        threads: 1,
        private_bytes: Some(8_000_000),
        pss_bytes: None,
        memory_age_s: Some(1.0),
        sandbox: Some("seccomp+landlock".to_string()),
    }
}

fn busy(slot: u32, generation: u64, pid: u32, phase: &str) -> WorkerStatus {
    WorkerStatus {
        state: "busy".to_string(),
        request: Some(format!("req-{pid}")),
        phase: Some(phase.to_string()),
        age_s: 125.9,
        prompt_tokens: 384,
        tokens: 40,
        tokens_per_s: (phase == "decode").then_some(31.04),
        threads: 2,
        ..worker(slot, generation, pid)
    }
}

fn busy_model() -> ModelStatus {
    let unborn =
        WorkerStatus { pid: None, state: "waiting".to_string(), sandbox: None, private_bytes: None, ..worker(2, 9, 0) };
    ModelStatus {
        queue: QueueStatus { length: 3, limit: 64, oldest_s: 1.26 },
        workers: vec![
            busy(0, 3, 4021, "decode"),
            WorkerStatus { state: "spare".to_string(), ..worker(0, 4, 4023) },
            busy(1, 12, 4022, "prompt"),
            unborn,
        ],
        totals: Totals {
            accepted: 1020,
            answered: 998,
            refused: 4,
            failed: 3,
            cancelled: 11,
            timed_out: 2,
            replayed: 6,
            resumed: 5,
            worker_exits: 1012,
            worker_crashes: 11,
        },
        ..idle_model()
    }
}

fn crash() -> Crash {
    Crash {
        pid: 20,
        slot: Some(0),
        cause: "signal 9 (SIGKILL)".to_string(),
        at: "2026-01-01T00:00:00Z".to_string(),
        request: Some("req-12".to_string()),
        stderr: vec!["thread 'main' panicked at src/x.rs:1:2:".to_string(), "\"no\" it said".to_string()],
    }
}

fn assert_page(status: &Status, width: Option<usize>, expected: &str) {
    let page = render(status, width);
    let expected = expected.trim_start_matches('\n');
    assert_eq!(page, expected, "\n--- got ---\n{page}");
    assert!(page.lines().all(|line| line.trim_end() == line), "trailing space");
}

#[test]
fn an_idle_model() {
    assert_page(
        &status(vec![idle_model()]),
        None,
        r"
supervisor 0.1.0, pid 7, up 12 s, 4 cores

pocket: warm
  model      builtin:pocket, llama, generate, 512 tokens of context
  template   pid 9, loaded in 0.4 s, 5.2 MB
  queue      0/64
  requests   none yet
  workers    a fresh process for each request

  SLOT  GEN  PID  STATE  REQUEST  PHASE  TOKENS  TOK/S  THREADS  PRIVATE    AGE  SANDBOX
     0    1   21  idle   -        -           -      -        1   8.0 MB  3.1 s  seccomp+landlock
     1    1   22  idle   -        -           -      -        1   8.0 MB  3.1 s  seccomp+landlock
",
    );
}

#[test]
fn an_idle_model_at_80() {
    assert_page(
        &status(vec![idle_model()]),
        Some(80),
        r"
supervisor 0.1.0, pid 7, up 12 s, 4 cores

pocket: warm
  model      builtin:pocket, llama, generate, 512 tokens of context
  template   pid 9, loaded in 0.4 s, 5.2 MB
  queue      0/64
  requests   none yet
  workers    a fresh process for each request
  sandbox    seccomp+landlock

  SLOT  GEN  PID  STATE  REQUEST  PHASE  TOKENS  TOK/S  THREADS  PRIVATE    AGE
     0    1   21  idle   -        -           -      -        1   8.0 MB  3.1 s
     1    1   22  idle   -        -           -      -        1   8.0 MB  3.1 s
",
    );
}

#[test]
fn a_busy_model() {
    assert_page(
        &status(vec![busy_model()]),
        None,
        r"
supervisor 0.1.0, pid 7, up 12 s, 4 cores

pocket: warm
  model      builtin:pocket, llama, generate, 512 tokens of context
  template   pid 9, loaded in 0.4 s, 5.2 MB
  queue      3/64, the oldest for 1.2 s
  requests   1020 accepted, 998 answered, 4 refused, 3 failed, 11 cancelled, 2 timed out, 6 replayed, 5 resumed
  workers    a fresh process for each request, 1012 ended, 11 crashed

  SLOT  GEN   PID  STATE    REQUEST   PHASE   TOKENS  TOK/S  THREADS  PRIVATE       AGE  SANDBOX
     0    3  4021  busy     req-4021  decode      40   31.0        2   8.0 MB  2 m 05 s  seccomp+landlock
     0    4  4023  spare    -         -            -      -        1   8.0 MB     3.1 s  seccomp+landlock
     1   12  4022  busy     req-4022  prompt     384      -        2   8.0 MB  2 m 05 s  seccomp+landlock
     2    9     -  waiting  -         -            -      -        -        -         -  -
",
    );
}

#[test]
fn a_busy_model_at_80() {
    assert_page(
        &status(vec![busy_model()]),
        Some(80),
        r"
supervisor 0.1.0, pid 7, up 12 s, 4 cores

pocket: warm
  model      builtin:pocket, llama, generate, 512 tokens of context
  template   pid 9, loaded in 0.4 s, 5.2 MB
  queue      3/64, the oldest for 1.2 s
  requests   1020 accepted, 998 answered, 4 refused, 3 failed, 11 cancelled, 2
             timed out, 6 replayed, 5 resumed
  workers    a fresh process for each request, 1012 ended, 11 crashed
  sandbox    seccomp+landlock

  SLOT   PID  STATE    REQUEST   PHASE   TOKENS  TOK/S  PRIVATE       AGE
     0  4021  busy     req-4021  decode      40   31.0   8.0 MB  2 m 05 s
     0  4023  spare    -         -            -      -   8.0 MB     3.1 s
     1  4022  busy     req-4022  prompt     384      -   8.0 MB  2 m 05 s
     2     -  waiting  -         -            -      -        -         -
  (too narrow for GEN, THREADS; --json has everything)
",
    );
}

#[test]
fn a_busy_model_at_50() {
    assert_page(
        &status(vec![busy_model()]),
        Some(50),
        r"
supervisor 0.1.0, pid 7, up 12 s, 4 cores

pocket: warm
  model      builtin:pocket, llama, generate, 512
             tokens of context
  template   pid 9, loaded in 0.4 s, 5.2 MB
  queue      3/64, the oldest for 1.2 s
  requests   1020 accepted, 998 answered, 4
             refused, 3 failed, 11 cancelled, 2
             timed out, 6 replayed, 5 resumed
  workers    a fresh process for each request,
             1012 ended, 11 crashed
  sandbox    seccomp+landlock

  SLOT   PID  STATE    REQUEST   TOKENS  TOK/S  PRIVATE
     0  4021  busy     req-4021      40   31.0   8.0 MB
     0  4023  spare    -              -      -   8.0 MB
     1  4022  busy     req-4022     384      -   8.0 MB
     2     -  waiting  -              -      -        -
  (too narrow for GEN, THREADS, PHASE, AGE; --json
  has everything)
",
    );
}

#[test]
fn a_crashed_model() {
    let totals =
        Totals { accepted: 20, answered: 20, replayed: 1, worker_exits: 20, worker_crashes: 1, ..Totals::default() };
    let model = ModelStatus { totals, last_crash: Some(crash()), ..idle_model() };
    assert_page(
        &status(vec![model]),
        Some(80),
        r#"
supervisor 0.1.0, pid 7, up 12 s, 4 cores

pocket: warm
  model      builtin:pocket, llama, generate, 512 tokens of context
  template   pid 9, loaded in 0.4 s, 5.2 MB
  queue      0/64
  requests   20 accepted, 20 answered, 1 replayed
  workers    a fresh process for each request, 20 ended, 1 crashed
  sandbox    seccomp+landlock

  SLOT  GEN  PID  STATE  REQUEST  PHASE  TOKENS  TOK/S  THREADS  PRIVATE    AGE
     0    1   21  idle   -        -           -      -        1   8.0 MB  3.1 s
     1    1   22  idle   -        -           -      -        1   8.0 MB  3.1 s

  last crash worker in slot 0, pid 20: signal 9 (SIGKILL), serving req-12, at
             2026-01-01T00:00:00Z
    | thread 'main' panicked at src/x.rs:1:2:
    | "no" it said
"#,
    );
}

#[test]
fn a_failed_and_a_parked_model() {
    let failed = ModelStatus {
        name: "big".to_string(),
        state: "failed".to_string(),
        error: Some(
            "big.gguf needs 4.1 GB of memory, but this machine has only 2.0 GB; choose a smaller file".to_string(),
        ),
        retry_in_s: Some(72.0),
        path: "/models/big.gguf".to_string(),
        architecture: None,
        context: None,
        template: None,
        // Nothing to see of each of them.
        workers: vec![WorkerStatus { pid: None, state: "waiting".to_string(), ..worker(0, 0, 1) }],
        ..idle_model()
    };
    let parked = ModelStatus {
        state: "parked".to_string(),
        retry_in_s: Some(29.97),
        isolation: "worker".to_string(),
        template: Some(TemplateStatus { pid: 31, load_s: None, pss_bytes: None, generation: 3, sandbox: None }),
        workers: Vec::new(),
        last_crash: Some(Crash { slot: None, request: None, stderr: Vec::new(), ..crash() }),
        ..idle_model()
    };
    assert_page(
        &status(vec![failed, parked]),
        Some(80),
        r"
supervisor 0.1.0, pid 7, up 12 s, 4 cores

big: failed, next try in 1 m 12 s at the earliest
  error      big.gguf needs 4.1 GB of memory, but this machine has only 2.0 GB;
             choose a smaller file
  model      /models/big.gguf, generate
  queue      0/64
  requests   none yet
  workers    a fresh process for each request

pocket: parked, next try in 29 s at the earliest
  model      builtin:pocket, llama, generate, 512 tokens of context
  template   pid 31, loading, generation 3
  queue      0/64
  requests   none yet
  workers    a process for many requests

  last crash template, pid 20: signal 9 (SIGKILL), at 2026-01-01T00:00:00Z
",
    );
}

#[test]
fn a_column_is_spared_only_when_it_must_be() {
    let status = status(vec![busy_model()]);
    let page = render(&status, None);
    let width = page.lines().filter(|line| line.contains("seccomp")).map(str::len).max().unwrap();
    let table = page.find("  SLOT").unwrap();
    assert!(render(&status, Some(width)).ends_with(&page[table..]));
    assert!(!render(&status, Some(width - 1)).contains("SANDBOX"));
}

#[test]
fn what_processes_take_is_shown_against_the_files() {
    let line = |model: ModelStatus| {
        let page = render(&status(vec![model]), None);
        page.lines().find(|line| line.contains("  memory")).map(str::to_string)
    };
    let shares = |private, pss| WorkerStatus { private_bytes: private, pss_bytes: pss, ..worker(0, 1, 21) };
    let workers = vec![
        shares(Some(8_000_000), Some(300_000_000)),
        shares(Some(9_000_000), Some(301_000_000)),
        shares(None, None),
    ];
    let template =
        Some(TemplateStatus { pid: 9, load_s: Some(0.4), pss_bytes: Some(299_000_000), generation: 1, sandbox: None });
    let model = ModelStatus { weights_bytes: Some(600_000_000), template, workers, ..idle_model() };
    let words = "  memory     600.0 MB of files, 900.0 MB in all processes (1.50 times that), 17.0 MB of workers alone";
    assert_eq!(line(model.clone()).as_deref(), Some(words));
    for unknown in
        [ModelStatus { weights_bytes: None, ..model.clone() }, ModelStatus { weights_bytes: Some(0), ..model.clone() }]
    {
        assert_eq!(line(unknown), None);
    }
    assert_eq!(line(ModelStatus { template: None, ..model }), None, "what is not there takes nothing");
}

#[test]
fn no_models() {
    let status = Status { cores: 1, uptime_s: 0.0, ..status(Vec::new()) };
    assert_page(&status, Some(80), "supervisor 0.1.0, pid 7, up 0.0 s, 1 core\n");
}

#[test]
fn hostile_text() {
    let hostile = "a\u{1b}[2J\u{9b}1m\r\nb\t\u{7}\u{202e}\u{200b}\u{2028}\u{0}\\n\u{e9}";
    let shown = r#"a\u{1b}[2J\u{9b}1m\r\nb\t\u{7}\u{202e}\u{200b}\u{2028}\0\\né"#;
    assert_eq!(escaped(hostile), shown);
    let text = || hostile.to_string();
    let model = ModelStatus {
        name: text(),
        kind: text(),
        state: text(),
        error: Some(text()),
        path: text(),
        architecture: Some(text()),
        isolation: text(),
        weights_bytes: None,
        workers: vec![WorkerStatus {
            state: text(),
            request: Some(text()),
            phase: Some(text()),
            sandbox: Some(text()),
            ..worker(0, 1, 2)
        }],
        last_crash: Some(Crash {
            cause: text(),
            at: text(),
            request: Some(text()),
            stderr: vec![text(), "x".repeat(501)],
            ..crash()
        }),
        ..idle_model()
    };
    let status = Status { version: text(), ..status(vec![model]) };
    for width in [None, Some(80), Some(0)] {
        let page = render(&status, width);
        assert!(page.chars().all(|character| character == '\n' || character == 'é' || matches!(character, ' '..='~')));
        // Each of the 16 texts is there once; a narrow page goes without the phase.
        assert_eq!(page.matches(shown).count(), if width.is_none() { 16 } else { 15 }, "{page}");
        assert!(page.ends_with(&format!("    | {shown}\n    | {}...\n", "x".repeat(500))), "{page}");
    }
}

#[test]
fn durations() {
    for (seconds, expected) in [
        (-1.0, "0.0 s"),
        (0.04, "0.0 s"),
        (3.19, "3.1 s"),
        (9.99, "9.9 s"),
        (10.0, "10 s"),
        (59.99, "59 s"),
        (125.0, "2 m 05 s"),
        (3599.9, "59 m 59 s"),
        (3600.0, "1 h 00 m"),
        (86399.0, "23 h 59 m"),
        (270_000.0, "3 d 03 h"),
        (f64::NAN, "0.0 s"),
    ] {
        assert_eq!(duration(seconds), expected);
    }
}

#[test]
fn what_the_daemon_does_besides_serving_is_said() {
    let status = Status {
        state: "draining".to_string(),
        reload_error: Some("config.toml:3: unknown key".to_string()),
        ..status(Vec::new())
    };
    assert_eq!(
        render(&status, None),
        "supervisor 0.1.0, pid 7, up 12 s, 4 cores, draining\nthe last reload has changed nothing: config.toml:3: unknown key\n"
    );
}
