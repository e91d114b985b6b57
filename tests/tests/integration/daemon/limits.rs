//! Limits and containers: what a service manager, a shell or a container leaves the daemon, and what
//! it says of what is too little.
use integration_tests::{
    Call, Daemon, LIMIT, Signal, command, copy_of_supervisor, generate, model, process, skipped, until,
};
use ipc::GenerateRequest;
use nix::unistd::Uid;
use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
};

/// Whether this can be run here; if not, it says so.
fn can_run(words: &[&str]) -> bool {
    let ran = command(words[0]).args(&words[1..]).arg("true").output();
    let can = ran.is_ok_and(|output| output.status.success());
    if !can {
        skipped(&format!("`{}` cannot be run here", words.join(" ")));
    }
    can
}

#[track_caller]
fn assert_serves(daemon: &Daemon) {
    daemon.settle();
    assert_eq!(generate(daemon, GenerateRequest::raw("a text")).unwrap().text, "a text");
}

/// Why a daemon does not start that is called with these words before its command.
fn refusal(words: &[&str]) -> String {
    let mut daemon = Daemon::launch_under(words, &model("builtin:pocket", "workers = 2"), &[]);
    assert_eq!(daemon.wait().code(), Some(1), "{}", daemon.last_words());
    let log = daemon.log();
    let last = log.lines().rfind(|line| line.starts_with("supervisor: ")).unwrap_or_else(|| panic!("{log}"));
    last.to_owned()
}

#[test]
fn a_limit_that_is_lower_is_kept() {
    let words = ["prlimit", "--as=4000000000", "--nofile=500", "--memlock=0", "--data=2000000000"];
    if !can_run(&words) {
        return;
    }
    let daemon = Daemon::launch_under(&words, &model("builtin:echo", "workers = 1"), &[]);
    assert_serves(&daemon);
    let worker = daemon.settle().models[0].workers[0].pid.unwrap();
    let limits = fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
    let limit = |name: &str| -> Vec<u64> {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{limits}"));
        line.split_ascii_whitespace().take(2).map(|number| number.parse().unwrap()).collect()
    };
    assert_eq!(limit("Max address space"), [4_000_000_000; 2]);
    assert_eq!((limit("Max open files"), limit("Max locked memory")), (vec![16; 2], vec![0; 2]));
    assert!(limit("Max data size") <= vec![2_000_000_000; 2], "{limits}");
}

#[test]
fn memory_that_is_too_long_for_a_file_is_done_without() {
    let words = ["prlimit", "--fsize=20000"];
    if !can_run(&words) {
        return;
    }
    let daemon = Daemon::launch_under(&words, &model("builtin:pocket", "workers = 1"), &["--log-level", "warn"]);
    daemon.settle();
    let finished = generate(&daemon, GenerateRequest { max_tokens: Some(5), ..GenerateRequest::raw("One morning") });
    assert_eq!(finished.unwrap().done.attempts, 1);
    let told = "the limit of file sizes is 20000 bytes (ulimit -f, LimitFSIZE= of a unit): File too large";
    until("the limit is named", LIMIT, || daemon.log().contains(told));
}

#[test]
fn a_limit_of_file_sizes_that_leaves_no_worker_is_named_at_the_start() {
    if !can_run(&["prlimit", "--fsize=4095"]) {
        return;
    }
    let expected =
        "supervisor: cannot start: the limit of file sizes is 4095 bytes (ulimit -f, LimitFSIZE= of a unit), and ";
    let said = refusal(&["prlimit", "--fsize=4095"]);
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn where_no_thread_can_be_had_the_limit_is_named() {
    // One that no other process here has, for they would count.
    const SOMEBODY: u32 = 64_123;
    const EXHAUSTED: &str =
        "no more processes or threads are allowed (ulimit -u, TasksMax= of a unit, a container's limit of pids)";
    if !Uid::effective().is_root() {
        skipped("only root can be somebody who has no other processes");
        return;
    }
    if !can_run(&["prlimit", "--nproc=1"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let executable = copy_of_supervisor(folder.path());
    // The main thread and that of the log; the helpers; the template.
    for (limit, what) in [
        (1, "cannot start the log: cannot start a thread to write the log: "),
        (2, "cannot start: cannot start a thread to read large requests: "),
        (3, "cannot start: cannot start a thread to look at the memory of processes: "),
        (4, "nothing can be served: echo: cannot start a template: cannot start its process: "),
    ] {
        let mut daemon = command("prlimit");
        daemon.arg(format!("--nproc={limit}")).arg(&executable).args([
            "run",
            "--model",
            "echo=builtin:echo",
            "--socket",
        ]);
        daemon.arg(folder.path().join(format!("{limit}.sock"))).current_dir("/").uid(SOMEBODY).gid(SOMEBODY);
        let output = daemon.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let expected = format!("supervisor: {what}{EXHAUSTED}");
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().filter(|line| line.starts_with(&expected)).count(), 1, "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_signal_that_means_nothing_ends_nothing() {
    let daemon = Daemon::start(&model("builtin:echo", "workers = 1"));
    let before = daemon.settle();
    let pids = |status: &ipc::status::Status| {
        let model = &status.models[0];
        (model.template.as_ref().map(|template| template.pid), model.workers[0].pid)
    };
    let (template, worker) = pids(&before);
    for pid in [daemon.pid(), template.unwrap(), worker.unwrap()] {
        assert!(process::kill(pid, Signal::SIGUSR1) && process::kill(pid, Signal::SIGUSR2));
    }
    for pid in [template.unwrap(), worker.unwrap()] {
        assert!(process::kill(pid, Signal::SIGHUP));
    }
    until("it is told", LIMIT, || daemon.log().contains("SIGUSR1 and SIGUSR2 mean nothing to the daemon"));
    // A worker that is told to end has ended before it is given a request.
    assert_eq!(generate(&daemon, GenerateRequest::raw("a text")).unwrap().done.attempts, 1);
    let after = daemon.settle();
    assert_eq!(pids(&after).0, template);
    assert_eq!(after.models[0].totals.worker_crashes, 0);
}

#[test]
fn a_client_outside_of_the_daemons_container_is_known_by_its_user() {
    let words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if !can_run(&words) {
        return;
    }
    let mut daemon = Daemon::launch_under(&words, &model("builtin:echo", "workers = 1"), &[]);
    assert_serves(&daemon);
    let answered = |daemon: &Daemon| {
        let log = daemon.log();
        log.lines().find(|line| line.contains("outcome=answered")).map(str::to_owned)
    };
    until("the request is told", LIMIT, || answered(&daemon).is_some());
    let line = answered(&daemon).unwrap();
    assert!(line.contains(&format!("client_uid={} ", Uid::effective())) && !line.contains("client_pid"), "{line}");
    // It is an operator, too; and the daemon's pid is somebody else's here.
    let ended = Call::new(["stop"]).to(daemon.socket()).run();
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
    assert!(daemon.wait().success());
}

#[test]
fn a_missing_proc_is_named() {
    let bare = |script: &'static str| ["unshare", "--mount", "sh", "-c", script, "sh"];
    let none = bare("mount -t tmpfs none /proc && exec \"$@\"");
    if !can_run(&none) {
        return;
    }
    let remedy = "`mount -t proc proc /proc` mounts";
    let said = refusal(&none);
    assert!(
        said.starts_with("supervisor: cannot start: /proc is not mounted here, ") && said.contains(remedy),
        "{said}"
    );
    let said = refusal(&["unshare", "--pid", "--fork", "--kill-child"]);
    assert_eq!(
        said,
        format!("supervisor: cannot start: /proc is that of another namespace of processes; {remedy} this one's")
    );
    let said = refusal(&bare("mount -t tmpfs none /dev && exec \"$@\""));
    assert_eq!(said, "supervisor: cannot start: cannot open /dev/null: No such file or directory (os error 2)");
}

/// A control group of version 1, until it is dropped.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        // What was in it takes a moment to be gone; what is left harms nobody.
        let _left = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_model_that_does_not_fit_into_a_control_group_of_version_1_is_refused() {
    let root = PathBuf::from("/sys/fs/cgroup/memory");
    let outer = Group(root.join(format!("supervisor-test-{}", std::process::id())));
    let made = fs::create_dir(&outer.0).and_then(|()| fs::write(outer.0.join("memory.limit_in_bytes"), "100M"));
    let inner = Group(outer.0.join("inner"));
    if !root.join("memory.limit_in_bytes").exists() || made.and_then(|()| fs::create_dir(&inner.0)).is_err() {
        skipped("there are no control groups of version 1 that could be made here");
        return;
    }
    // The group around it has the limit, and each of two workers may take 64 MiB.
    let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", inner.0.display());
    let said = refusal(&["sh", "-c", &script, "sh"]);
    assert!(said.contains("it does not fit into memory: ") && said.contains(" of 100.0 MiB are left"), "{said}");
}
