//! Who owns the socket, and what lies where it should be.
use super::{echo, serves};
use integration_tests::{Call, Called, Daemon, LIMIT, Running, Signal, command, copy_of_supervisor, until};
use ipc::{Client, GenerateRequest};
use nix::unistd::Uid;
use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
};

const RUN: [&str; 3] = ["run", "--model", "echo=builtin:echo"];

/// A daemon on this socket, once it answers.
fn listening(socket: &Path) -> Called {
    let daemon = Call::new(RUN).to(socket).start();
    let pid = daemon.pid();
    until("the daemon answers", LIMIT, || {
        Client::connect(socket).and_then(|mut client| client.status()).is_ok_and(|status| status.pid == pid)
    });
    daemon
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused() {
    let daemon = echo("token_us=1000");
    let mut client = daemon.client();
    let running = Running::begin(&mut client, GenerateRequest::raw("undisturbed by the second")).unwrap();
    let ended = Call::new(RUN).to(daemon.socket()).run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (1, ""), "{ended:?}");
    let last = ended.stderr.lines().last().unwrap();
    let (pid, socket) = (daemon.pid(), daemon.socket().display());
    assert!(last.starts_with(&format!("supervisor: another daemon (pid {pid}) already serves {socket};")), "{last}");
    assert_eq!(running.finish().unwrap().text, "undisturbed by the second");
    assert_eq!(daemon.status().pid, pid);
    serves(&daemon);
}

#[test]
fn what_a_killed_daemon_left_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("deep/down/supervisor.sock");
    let killed = listening(&socket);
    killed.signal(Signal::SIGKILL);
    assert_eq!(killed.wait().code(), 137);
    let lock = folder.path().join("deep/down/supervisor.sock.lock");
    assert!(socket.exists() && lock.exists(), "a killed daemon cannot tidy up");

    let daemon = listening(&socket);
    assert_eq!(fs::read_to_string(&lock).unwrap().trim(), daemon.pid().to_string());
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o7777, 0o660);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait().code(), 0);
    assert!(!socket.exists(), "the socket file is left");
}

#[test]
fn a_stale_socket_of_anybody_else_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("supervisor.sock");
    drop(UnixListener::bind(&socket).unwrap());
    fs::write(folder.path().join("supervisor.sock.lock"), "this is no pid\n").unwrap();
    listening(&socket);
}

#[test]
fn what_is_no_socket_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let (file, directory) = (folder.path().join("file"), folder.path().join("directory"));
    fs::write(&file, "precious").unwrap();
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("inside"), "precious").unwrap();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    drop(UnixListener::bind(&target).unwrap());
    std::os::unix::fs::symlink(&target, &link).unwrap();
    for path in [&file, &directory, &link] {
        let ended = Call::new(RUN).to(path).run();
        assert_eq!(ended.code(), 1, "{ended:?}");
        let expected = format!("supervisor: {} is there already and is no socket", path.display());
        assert_eq!(ended.stderr.lines().last(), Some(expected.as_str()));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert_eq!(fs::read_to_string(directory.join("inside")).unwrap(), "precious");
    assert_eq!(fs::read_link(&link).unwrap(), target);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let ended = Call::new(RUN).to(&file.join("supervisor.sock")).run();
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert!(ended.stderr.lines().last().unwrap().starts_with("supervisor: cannot make the folder"), "{ended:?}");
}

#[test]
fn a_deleted_socket_file_is_bound_again() {
    let daemon = echo("");
    let mut before = daemon.client();
    fs::remove_file(daemon.socket()).unwrap();
    until("the socket file is there again", LIMIT, || daemon.socket().exists());
    // Whoever was connected stays so.
    assert_eq!(before.status().unwrap().pid, daemon.pid());
    serves(&daemon);
}

/// Who connects as which user with which groups, the first of which is its own, and the exit status
/// of the client.
struct Peer(u32, &'static [u32], i32);

#[test]
fn only_those_who_may_are_served() {
    const NOBODY: u32 = 65534;
    if !Uid::effective().is_root() {
        eprintln!("not tried: only root can be somebody else");
        return;
    }
    // The socket's file lets the group in, and so does the daemon if nobody is named.
    let many: &[u32] = &const {
        let (mut groups, mut at) = ([0; 100], 0);
        while at < 99 {
            groups[at] = 70_000 + at as u32;
            at += 1;
        }
        groups
    };
    let everybody = [
        Peer(0, &[0], 0),
        Peer(NOBODY, &[0], 0),
        Peer(NOBODY, &[NOBODY], 1),
        Peer(NOBODY, &[NOBODY, 7, 0], 0),
        Peer(NOBODY, many, 0),
        Peer(NOBODY, &[NOBODY, 7], 1),
    ];
    peers("[]", &everybody);
    peers("[65534]", &[Peer(0, &[0], 0), Peer(NOBODY, &[0], 0), Peer(1, &[0], 1), Peer(1, &[1, 0], 1)]);
    peers("[1]", &[Peer(0, &[0], 0), Peer(NOBODY, &[0], 1), Peer(1, &[0], 0), Peer(1, &[1, 0], 0)]);
}

fn peers(allowed: &str, peers: &[Peer]) {
    let model = "[[model]]\nname = \"echo\"\npath = \"builtin:echo\"\nworkers = 1\n";
    let daemon = Daemon::start(&format!("[supervisor]\nallow_users = {allowed}\n{model}"));
    // Others may come as far as the socket and the executable.
    fs::set_permissions(daemon.folder(), Permissions::from_mode(0o711)).unwrap();
    let executable = copy_of_supervisor(daemon.folder());
    for Peer(user, groups, code) in peers {
        let [group, others @ ..] = groups else { panic!("a process has a group") };
        let names = |groups: &[u32]| groups.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        // The standard library cannot give a child more than one group yet.
        let mut call = command("setpriv");
        call.args(["--reuid", &user.to_string(), "--regid", &group.to_string()]);
        if others.is_empty() {
            call.arg("--clear-groups")
        } else {
            call.args(["--groups", &names(others)])
        };
        call.arg(&executable).args(["generate", "x", "--socket"]).arg(daemon.socket()).current_dir("/");
        let output = call.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(*code), "{user}:{groups:?} with {allowed}: {said}");
        if *code == 0 {
            assert_eq!(output.stdout, b"x\n");
        } else {
            assert!(said.contains("Permission denied") || said.contains("allow_users"), "{said}");
        }
    }
}
