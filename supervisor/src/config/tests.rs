//! Every sentence with its line, the defaults, and what the command line overrides.
use super::*;
use ipc::Listen;
use std::error::Error;

const EXAMPLE: &str = include_str!("../../../deploy/supervisor.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("supervisor.toml"))
}

/// The sentence that refuses `text`.
fn refusal(text: &str) -> String {
    parse(text).map(|config| format!("accepted as {config:?}")).unwrap_or_else(|error| error.to_string())
}

/// The sentence that refuses this line under `[supervisor]`, without its place.
fn supervisor(line: &str) -> String {
    let error = refusal(&format!("[supervisor]\n{line}\n"));
    error.strip_prefix("supervisor.toml:2: ").map(str::to_string).unwrap_or(error)
}

/// The sentence that refuses this line under `[[model]]`, without its place.
fn model(line: &str) -> String {
    let error = refusal(&format!("[[model]]\npath = \"a.gguf\"\n{line}\n"));
    error.strip_prefix("supervisor.toml:3: ").map(str::to_string).unwrap_or(error)
}

fn overridden(overrides: &Overrides) -> Result<Config, String> {
    Config::builtin().with_overrides(overrides).map_err(|error| error.to_string())
}

#[test]
fn the_example_is_the_default() {
    assert_eq!(parse(EXAMPLE).unwrap(), Config { names_models: true, ..Config::builtin() });
}

/// The example with each key that is a comment made one that is set.
fn complete_example() -> String {
    let uncomment = |line: &str| {
        let rest = line.strip_prefix("# ").unwrap_or(line);
        let is_key = rest.split_once(" = ").is_some_and(|(key, _)| file::keys().any(|known| known == key));
        if is_key { format!("{rest}\n") } else { format!("{line}\n") }
    };
    EXAMPLE.lines().map(uncomment).collect()
}

#[test]
fn the_example_has_every_key() {
    let complete = complete_example();
    let mut expected = Config { names_models: true, ..Config::builtin() };
    expected.supervisor.socket = Some("/run/supervisor/supervisor.sock".into());
    expected.models[0].context = Some(4096);
    assert_eq!(parse(&complete).unwrap(), expected);
    for key in file::keys() {
        assert!(complete.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key} is not in the example");
    }
}

#[test]
fn the_example_needs_none_of_its_comments() {
    for (text, expected) in
        [(EXAMPLE.to_owned(), Some(Config { names_models: true, ..Config::builtin() })), (complete_example(), None)]
    {
        let bare: String = text.lines().map(|line| format!("{}\n", line.split('#').next().unwrap_or(line))).collect();
        assert_eq!(parse(&bare).unwrap(), expected.unwrap_or_else(|| parse(&text).unwrap()));
    }
}

#[test]
fn nothing_is_the_built_in_model() {
    assert_eq!(parse("").unwrap(), Config::builtin());
    assert_eq!(parse("model = []").unwrap(), Config::builtin());
    assert_eq!(parse("\u{feff}# with a byte order mark\n").unwrap(), Config::builtin());
    let config = parse("[supervisor]\nqueue = 0").unwrap();
    assert_eq!((config.supervisor.queue, config.models), (0, Config::builtin().models));
}

#[test]
fn every_key_is_read() {
    let config = parse(
        r#"
        [[model]]
        name = "A.b_c:d-9"
        path = "/models/a.gguf"
        workers = 256
        threads = 0x10
        isolation = "worker"
        load = "lazy"
        idle_unload = "5m"
        precision = "int8"
        context = 1
        memory_per_worker = "1 MiB"
        progress_timeout = "1ms"
        request_timeout = "30 days"
        client_timeout = "1m 30s"
        max_attempts = 100
        sha256 = "ABCDEF7890123456789012345678901234567890123456789012345678901234"
        template_vars = { enable_thinking = false, effort = "high", more = { b = [1, 2.5], a = 0x10 } }

        [[model]]
        path = "builtin:pocket"
        workers = "auto"

        [http]
        listen = ["127.0.0.1:8080", "unix:run/http.sock"]
        api_keys_file = "keys"
        trusted = ["10.0.0.1", "::ffff:10.0.0.2"]
        connections = 7
        hosts = ["pi"]
        origins = ["https://x"]
        max_body = "1KiB"

        [supervisor]
        socket = "run/x.sock"
        queue = 100_000
        queue_timeout = "2h"
        cores = 1024
        allow_users = ["root", 4294967294]
        shutdown_timeout = "1s"
        sandbox = "require-landlock"
        log_format = "json"
        log_prompts = "hash"
        "#,
    )
    .unwrap();
    let model = ModelConfig {
        workers: Auto::Fixed(256),
        threads: Auto::Fixed(16),
        isolation: Auto::Fixed(Isolation::Worker),
        load: Load::Lazy,
        idle_unload: Some(Duration::from_secs(300)),
        precision: Precision::Int8,
        context: Some(1),
        memory_per_worker: 1_048_576,
        progress_timeout: Duration::from_millis(1),
        request_timeout: Duration::from_secs(2_592_000),
        client_timeout: Duration::from_secs(90),
        max_attempts: 100,
        sha256: Some("abcdef7890123456789012345678901234567890123456789012345678901234".to_string()),
        template_vars: serde_json::from_str(
            r#"{"enable_thinking": false, "effort": "high", "more": {"a": 16, "b": [1, 2.5]}}"#,
        )
        .unwrap(),
        ..ModelConfig::new("A.b_c:d-9".to_string(), ModelSource::parse("/models/a.gguf"))
    };
    let supervisor = SupervisorConfig {
        socket: Some("run/x.sock".into()),
        queue: 100_000,
        queue_timeout: Duration::from_secs(7200),
        cores: Auto::Fixed(1024),
        allow_users: vec![0, 4_294_967_294],
        shutdown_timeout: Duration::from_secs(1),
        sandbox: Confinement::RequireLandlock,
        log_format: Auto::Fixed(LogFormat::Json),
        log_prompts: LogPrompts::Hash,
    };
    let models = vec![model, Config::builtin().models.remove(0)];
    let http = HttpConfig {
        listen: vec![Listen::Tcp("127.0.0.1:8080".parse().unwrap()), Listen::Unix("run/http.sock".into())],
        api_keys_file: Some("keys".into()),
        trusted: vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
        connections: 7,
        hosts: vec!["pi".to_owned()],
        origins: vec!["https://x".to_owned()],
        max_body: 1024,
        keys: Vec::new(),
    };
    assert_eq!(config, Config { supervisor, http, models, names_models: true });
}

#[test]
fn a_name_comes_from_the_path() {
    let name = |path: &str| parse(&format!("[[model]]\npath = {path:?}")).unwrap().models.remove(0).name;
    assert_eq!(name("builtin:pocket"), "pocket");
    assert_eq!(name("/models/Tiny-Q4_K_M.GGUF"), "Tiny-Q4_K_M");
    assert_eq!(name("models/tinyllama-1.1b/"), "tinyllama-1.1b");
    let rule = "but must be 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_', ':' and '-'";
    assert_eq!(
        refusal("[[model]]\nworkers = 1\npath = \"my model.gguf\""),
        format!("supervisor.toml:3: name (from path) is \"my model\", {rule}")
    );
}

#[test]
fn relative_paths_start_from_the_files_folder() {
    let text = r#"
        supervisor.socket = "s.sock"
        model = [{ path = "m/a.gguf" }, { path = "/b.gguf" }, { path = "builtin:pocket" }]
        "#;
    let config = Config::parse(text, Path::new("/etc/supervisor/supervisor.toml")).unwrap();
    let paths: Vec<_> = config.models.iter().map(|model| model.source.to_string()).collect();
    assert_eq!(paths, ["/etc/supervisor/m/a.gguf", "/b.gguf", "builtin:pocket"]);
    assert_eq!(config.supervisor.socket, Some("/etc/supervisor/s.sock".into()));
}

#[test]
fn unknown_keys_name_the_nearest() {
    for (text, sentence) in [
        (
            "\n[[model]]\npath = \"a\"\n\n\nname = \"x\"\nworker = 2\nqueu = 1",
            "7: unknown key \"worker\" in [[model]]; did you mean \"workers\"?",
        ),
        (
            "[supervisor]\nqueue-timeout = 1",
            "2: unknown key \"queue-timeout\" in [supervisor]; did you mean \"queue_timeout\"?",
        ),
        ("[supervisor]\ncpu = 1", "2: unknown key \"cpu\" in [supervisor]"),
        ("[supervisor]\nworkers = 1", "2: unknown key \"workers\" in [supervisor]; \"workers\" belongs in [[model]]"),
        (
            "[supervisor]\nMax-Attempts = 1",
            "2: unknown key \"Max-Attempts\" in [supervisor]; \"max_attempts\" belongs in [[model]]",
        ),
        ("# top\nQueue = 1", "2: unknown key \"Queue\" in the file; \"queue\" belongs in [supervisor]"),
        ("\n\n[web]\nlisten = []", "3: unknown key \"web\" in the file"),
        ("[[models]]\npath = \"a\"", "1: unknown key \"models\" in the file; did you mean \"model\"?"),
        ("[supervisor]\nqueue = 1\n[supervisor.http]\nx = 1", "3: unknown key \"http\" in [supervisor]"),
        ("\n[[model]]\npath = \"a\"\n[model.limits]\n", "4: unknown key \"limits\" in [[model]]"),
        ("[supervisor]\n\"\\u001b[2J\" = 1", "2: unknown key \"\\u{1b}[2J\" in [supervisor]"),
    ] {
        assert_eq!(refusal(text), format!("supervisor.toml:{sentence}"), "{text}");
    }
}

#[test]
fn a_known_key_is_never_unknown() {
    for key in file::keys() {
        let text = format!("[supervisor]\n{key} = 1.5");
        let other = format!("[[model]]\n{key} = 1.5");
        let third = format!("[http]\n{key} = 1.5");
        let known = [refusal(&text), refusal(&other), refusal(&third)]
            .iter()
            .filter(|error| error.contains("is 1.5, but"))
            .count();
        assert_eq!(known, 1, "{key}");
    }
}

#[test]
fn numbers_have_ranges() {
    assert_eq!(refusal("[supervisor]\n\n\nqueue = -1"), "supervisor.toml:4: queue is -1, but must be from 0 to 100000");
    assert_eq!(supervisor("queue = 100001"), "queue is 100001, but must be from 0 to 100000");
    assert_eq!(supervisor("queue = \"64\""), "queue is \"64\", but must be a whole number from 0 to 100000");
    assert_eq!(supervisor("queue = 6.4"), "queue is 6.4, but must be a whole number from 0 to 100000");
    assert_eq!(
        supervisor("queue = 999999999999999999999999999999999999999999"),
        "queue is 999999999999999999999999999999999999999999, but must be a whole number from 0 to 100000"
    );
    assert_eq!(supervisor("cores = 0"), "cores is 0, but must be \"auto\" or a whole number from 1 to 1024");
    assert_eq!(supervisor("cores = 1025"), "cores is 1025, but must be \"auto\" or a whole number from 1 to 1024");
    assert_eq!(
        supervisor("cores = \"all\""),
        "cores is \"all\", but must be \"auto\" or a whole number from 1 to 1024"
    );
    assert_eq!(supervisor("log_format = 1"), "log_format is 1, but must be \"auto\", \"text\" or \"json\"");
    assert_eq!(supervisor("log_prompts = true"), "log_prompts is true, but must be \"none\", \"hash\" or \"full\"");
    assert_eq!(model("workers = 0"), "workers is 0, but must be \"auto\" or a whole number from 1 to 256");
    assert_eq!(model("workers = 257"), "workers is 257, but must be \"auto\" or a whole number from 1 to 256");
    assert_eq!(model("threads = true"), "threads is true, but must be \"auto\" or a whole number from 1 to 1024");
    assert_eq!(model("context = 0"), "context is 0, but must be from 1 to 4294967295");
    assert_eq!(model("context = 4294967296"), "context is 4294967296, but must be from 1 to 4294967295");
    assert_eq!(model("max_attempts = 0"), "max_attempts is 0, but must be from 1 to 100");
    for value in ["\"off\"", "true"] {
        let refused = format!("sandbox is {value}, but must be \"on\" or \"require-landlock\"");
        assert_eq!(supervisor(&format!("sandbox = {value}")), refused);
    }
    assert_eq!(model("max_attempts = 101"), "max_attempts is 101, but must be from 1 to 100");
}

#[test]
fn durations_have_units_and_bounds() {
    assert_eq!(
        refusal("[supervisor]\nqueue = 1\nqueue_timeout = \"sixty\""),
        "supervisor.toml:3: queue_timeout is \"sixty\", but must be a duration like \"30s\" or \"10m\""
    );
    for (key, check) in [
        ("queue_timeout", supervisor as fn(&str) -> String),
        ("shutdown_timeout", supervisor),
        ("progress_timeout", model),
        ("request_timeout", model),
        ("client_timeout", model),
    ] {
        let like = "but must be a duration like \"30s\" or \"10m\"";
        let bounds = "but must be longer than 0 and at most 30 days";
        assert_eq!(check(&format!("{key} = 60")), format!("{key} is 60, {like}"));
        assert_eq!(check(&format!("{key} = \"60\"")), format!("{key} is \"60\", {like}"));
        assert_eq!(check(&format!("{key} = \"-1s\"")), format!("{key} is \"-1s\", {like}"));
        assert_eq!(check(&format!("{key} = \"0s\"")), format!("{key} is \"0s\", {bounds}"));
        assert_eq!(check(&format!("{key} = \"30d 1ns\"")), format!("{key} is \"30d 1ns\", {bounds}"));
    }
}

#[test]
fn users_are_looked_up() {
    assert_eq!(
        refusal("[supervisor]\nallow_users = [\n  \"root\",\n  \"no such user\",\n]"),
        "supervisor.toml:4: a user in allow_users is \"no such user\", but there is no such user"
    );
    assert_eq!(
        supervisor("allow_users = \"root\""),
        "allow_users is \"root\", but must be a list of user names and uids, like [\"alice\", 1000]"
    );
    assert_eq!(supervisor("allow_users = [-1]"), "a user in allow_users is -1, but must be from 0 to 4294967294");
    assert_eq!(supervisor("allow_users = [[1]]"), "a user in allow_users is a list, but must be a user name or a uid");
}

#[test]
fn a_models_values_are_checked() {
    let digits = "64 hexadecimal digits, or \"\" for any file";
    let size = "must be a size like \"512MiB\" or \"2GiB\"";
    for (line, sentence) in [
        ("isolation = \"none\"", "isolation is \"none\", but must be \"auto\", \"request\" or \"worker\"".to_string()),
        ("precision = \"f16\"", "precision is \"f16\", but must be \"f32\" or \"int8\"".into()),
        ("load = \"now\"", "load is \"now\", but must be \"eager\" or \"lazy\"".into()),
        ("idle_unload = \"0s\"", "idle_unload is \"0s\", but must be longer than 0 and at most 30 days".into()),
        ("idle_unload = 5", "idle_unload is 5, but must be \"never\" or a duration like \"5m\"".into()),
        (
            "memory_per_worker = \"1023KiB\"",
            "memory_per_worker is \"1023KiB\", but must be from \"1MiB\" to \"16TiB\"".into(),
        ),
        (
            "memory_per_worker = \"17TiB\"",
            "memory_per_worker is \"17TiB\", but must be from \"1MiB\" to \"16TiB\"".into(),
        ),
        ("memory_per_worker = \"much\"", format!("memory_per_worker is \"much\", but {size}")),
        ("memory_per_worker = \"-1GiB\"", format!("memory_per_worker is \"-1GiB\", but {size}")),
        ("memory_per_worker = 536870912", format!("memory_per_worker is 536870912, but {size}")),
        ("template_vars = 1", "template_vars is 1, but must be a table, like { enable_thinking = false }".into()),
        ("template_vars = { messages = 1 }", "messages is 1, but a template has it from the request".into()),
        (
            "template_vars = { day = 1979-05-27 }",
            "day is 1979-05-27, but must be what JSON can say, without dates".into(),
        ),
        ("template_vars = { far = inf }", "far is inf, but must be what JSON can say, without dates".into()),
        (
            "template_vars = { more = { large = 9223372036854775808 } }",
            "large is 9223372036854775808, but must be what JSON can say, without dates".into(),
        ),
        ("sha256 = \"abc\"", format!("sha256 is \"abc\", but must be {digits}")),
        ("sha256 = 1979-05-27", format!("sha256 is 1979-05-27, but must be {digits}")),
        (
            "sha256 = \"xxcdef7890123456789012345678901234567890123456789012345678901234\"",
            format!(
                "sha256 is \"xxcdef7890123456789012345678901234567890123456789012345678901234\", but must be {digits}"
            ),
        ),
    ] {
        assert_eq!(model(line), sentence);
    }
}

#[test]
fn names_are_checked() {
    let rule = "but must be 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_', ':' and '-'";
    assert_eq!(model("name = \"\""), format!("name is \"\", {rule}"));
    assert_eq!(model("name = \"a/b\""), format!("name is \"a/b\", {rule}"));
    assert_eq!(model("name = 7"), format!("name is 7, {rule}"));
    let long = "x".repeat(65);
    assert_eq!(model(&format!("name = \"{long}\"")), format!("name is \"{long}\", {rule}"));
    assert!(parse(&format!("[[model]]\nname = \"{}\"\npath = \"a\"", "x".repeat(64))).is_ok());
    // A long value is cut, and nothing in it reaches a terminal as it is.
    let long = format!("{}...", "\\r".repeat(80));
    assert_eq!(model(&format!("name = \"{}\"", "\\r".repeat(90))), format!("name is \"{long}\", {rule}"));
    let (key, shown) = ("x".repeat(90), "x".repeat(80));
    assert_eq!(model(&format!("{key} = 1")), format!("unknown key \"{shown}...\" in [[model]]"));
    let twice = format!("supervisor.toml:4: not valid TOML: duplicate key at \"{shown}...\"");
    assert_eq!(model(&format!("{key} = 1\n{key} = 1")), twice);
}

#[test]
fn two_models_cannot_share_a_name() {
    assert_eq!(
        refusal("[[model]]\nname = \"a\"\npath = \"x\"\n[[model]]\npath = \"y\"\nname = \"a\""),
        "supervisor.toml:6: two models have the name \"a\""
    );
    assert_eq!(
        refusal("[[model]]\nname = \"a\"\npath = \"x\"\n[[model]]\n\npath = \"a.gguf\""),
        "supervisor.toml:6: two models have the name \"a\""
    );
}

#[test]
fn paths_are_checked() {
    assert_eq!(
        refusal("[supervisor]\n\n[[model]]\nname = \"a\"\n"),
        "supervisor.toml:3: [[model]] has no path; set path to a GGUF file or to \"builtin:pocket\""
    );
    let rule = "but must be a file, a folder or \"builtin:pocket\"";
    assert_eq!(refusal("[[model]]\npath = \"\""), format!("supervisor.toml:2: path is \"\", {rule}"));
    assert_eq!(refusal("[[model]]\npath = \"a\\u0000\""), format!("supervisor.toml:2: path is \"a\\0\", {rule}"));
    assert_eq!(refusal("[[model]]\npath = []"), format!("supervisor.toml:2: path is a list, {rule}"));
    assert_eq!(supervisor("socket = \"\""), "socket is \"\", but must be the path of a socket");
    let long = "x".repeat(108);
    assert_eq!(
        supervisor(&format!("socket = \"{long}\"")),
        format!("socket is \"{}...\", but must be a path of 1 to 107 bytes", &long[..80])
    );
    assert!(parse(&format!("[supervisor]\nsocket = \"{}\"", &long[..107])).is_ok());
}

#[test]
fn tables_must_be_tables() {
    assert_eq!(
        refusal("\nsupervisor = 1"),
        "supervisor.toml:2: supervisor is 1, but must be a table, which begins with [supervisor]"
    );
    assert_eq!(
        refusal("[[supervisor]]\nqueue = 1"),
        "supervisor.toml:1: supervisor is a list, but must be a table, which begins with [supervisor]"
    );
    let rule = "but must be a list of tables, each of which begins with [[model]]";
    assert_eq!(refusal("\n[model]\npath = \"a\""), format!("supervisor.toml:2: model is a table, {rule}"));
    assert_eq!(refusal("model = [\n  1,\n]"), format!("supervisor.toml:2: model is 1, {rule}"));
}

#[test]
fn syntax_errors_have_a_line() {
    assert_eq!(
        refusal("[supervisor]\nqueue = 1\nqueue = 2"),
        "supervisor.toml:3: not valid TOML: duplicate key at \"queue\""
    );
    assert_eq!(
        refusal("[supervisor]\nqueue = 1\n[supervisor]\n"),
        "supervisor.toml:3: not valid TOML: duplicate key at \"supervisor\""
    );
    // The words are the parser's; the place is not.
    for (text, line) in [
        ("[supervisor\n", 1),
        ("\n\nqueue", 3),
        ("\nx = \"a\ny = 1", 2),
        ("\n\nx = \n", 3),
        ("a = 1\n\u{1b}[2J = 1", 2),
    ] {
        let error = refusal(text);
        assert!(error.starts_with(&format!("supervisor.toml:{line}: not valid TOML: ")), "{text:?}: {error}");
        assert!(!error.contains(char::is_control), "{text:?}: {error:?}");
    }
}

#[test]
fn files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.toml");
    let file = path.display().to_string();

    let error = Config::load(&path).unwrap_err();
    assert_eq!(error.to_string(), format!("{file} cannot be read"));
    assert_eq!(error.source().unwrap().to_string(), "No such file or directory (os error 2)");

    std::fs::write(&path, b"# one\n# two \xff\n").unwrap();
    assert_eq!(Config::load(&path).unwrap_err().to_string(), format!("{file}:2: not valid UTF-8"));

    std::fs::write(&path, "[[model]]\npath = \"a.gguf\"\nworker = 1").unwrap();
    let sentence = "3: unknown key \"worker\" in [[model]]; did you mean \"workers\"?";
    assert_eq!(Config::load(&path).unwrap_err().to_string(), format!("{file}:{sentence}"));

    std::fs::write(&path, "[[model]]\npath = \"a.gguf\"").unwrap();
    let model = folder.path().join("a.gguf").display().to_string();
    assert_eq!(Config::load(&path).unwrap().models, [ModelConfig::new("a".to_string(), ModelSource::parse(&model))]);
}

#[test]
fn the_command_line_overrides_the_file() {
    let config =
        parse("[supervisor]\nqueue = 1\nsocket = \"a\"\n[[model]]\npath = \"a\"\nworkers = 1\n[[model]]\npath = \"b\"")
            .unwrap();
    assert_eq!(config.clone().with_overrides(&Overrides::default()).unwrap(), config);

    let overrides =
        Overrides { workers: Some(2), threads: Some(Auto::Fixed(3)), socket: Some("b".into()), ..Overrides::default() };
    let overrides = Overrides { log_format: Some(LogFormat::Text), ..overrides };
    let mut expected = config.clone();
    expected.supervisor.log_format = Auto::Fixed(LogFormat::Text);
    expected.supervisor.socket = Some("b".into());
    for model in &mut expected.models {
        model.workers = Auto::Fixed(2);
        model.threads = Auto::Fixed(3);
    }
    assert_eq!(config.clone().with_overrides(&overrides).unwrap(), expected);

    let overrides = Overrides {
        models: vec![("x".to_string(), "m/x.gguf".to_string()), ("y".to_string(), "builtin:pocket".to_string())],
        workers: Some(4),
        threads: Some(Auto::Auto),
        ..Overrides::default()
    };
    let mut expected = config.clone();
    expected.models = vec![
        ModelConfig {
            workers: Auto::Fixed(4),
            ..ModelConfig::new("x".to_string(), ModelSource::parse("m/x.gguf").absolute())
        },
        ModelConfig {
            workers: Auto::Fixed(4),
            ..ModelConfig::new("y".to_string(), ModelSource::parse("builtin:pocket"))
        },
    ];
    assert_eq!(config.with_overrides(&overrides).unwrap(), expected);
    assert!(Config::builtin().with_overrides(&overrides).unwrap().names_models);
}

#[test]
fn the_command_line_is_checked_too() {
    let models = |models: &[(&str, &str)]| {
        let models = models.iter().map(|(name, path)| (name.to_string(), path.to_string())).collect();
        overridden(&Overrides { models, ..Overrides::default() }).unwrap_err()
    };
    assert_eq!(
        models(&[("a b", "x")]),
        "--model: name is \"a b\", but must be 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_', ':' and '-'"
    );
    assert_eq!(models(&[("a", "")]), "--model: path is \"\", but must be a file, a folder or \"builtin:pocket\"");
    assert_eq!(models(&[("a", "x"), ("a", "y")]), "--model: two models have the name \"a\"");
    assert_eq!(
        overridden(&Overrides { workers: Some(0), ..Overrides::default() }).unwrap_err(),
        "--workers: workers is 0, but must be \"auto\" or a whole number from 1 to 256"
    );
    assert_eq!(
        overridden(&Overrides { threads: Some(Auto::Fixed(1025)), ..Overrides::default() }).unwrap_err(),
        "--threads: threads is 1025, but must be \"auto\" or a whole number from 1 to 1024"
    );
    assert_eq!(
        overridden(&Overrides { socket: Some("".into()), ..Overrides::default() }).unwrap_err(),
        "--socket: socket is \"\", but must be a path of 1 to 107 bytes"
    );
}
