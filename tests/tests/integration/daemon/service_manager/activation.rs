//! A client socket that is handed over: it is listened on and left alone, and what waits in it
//! survives a restart.
use integration_tests::{Call, Daemon, LIMIT, Manager, Running, Signal, command, generate, supervisor, until};
use ipc::{Client, GenerateRequest};
use std::{
    fs::{self, File, Permissions},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
    process::Stdio,
    thread,
};

const ECHO: &str = "[[model]]\nname = \"echo\"\npath = \"builtin:echo\"\nworkers = 1\n";
const NAME: &str = "supervisor.sock";

/// A manager with a socket, of which the mode is nobody else's.
fn activating() -> (Manager, std::path::PathBuf) {
    let manager = Manager::new();
    let socket = manager.path(NAME);
    let listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o606)).unwrap();
    (manager.handing_over(NAME, listener), socket)
}

fn identity(path: &Path) -> (u64, u64, u32) {
    let found = fs::metadata(path).unwrap();
    (found.dev(), found.ino(), found.mode() & 0o7777)
}

#[test]
fn the_socket_is_served_and_its_file_is_left_alone() {
    let (manager, socket) = activating();
    let before = identity(&socket);
    let mut daemon = Daemon::managed(&manager, ECHO, Some(&socket));
    daemon.settle();
    assert_eq!(generate(&daemon, GenerateRequest::raw("handed over")).unwrap().text, "handed over");
    assert_eq!(identity(&socket), before);
    assert!(!daemon.folder().join(NAME).exists(), "it binds nothing, although --socket names another");
    let lock = manager.path("supervisor.sock.lock");
    assert!(!lock.exists(), "what is not its own needs no lock");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
    assert_eq!(identity(&socket), before, "the file is the manager's");
}

#[test]
fn who_connects_while_there_is_no_daemon_is_served_by_the_next() {
    let (manager, socket) = activating();
    let mut first = Daemon::managed(&manager, ECHO, Some(&socket));
    manager.until("READY=1");
    first.signal(Signal::SIGKILL);
    first.wait();

    let mut client = Client::connect(&socket).unwrap();
    let second = Daemon::managed(&manager, ECHO, Some(&socket));
    let running = Running::begin(&mut client, GenerateRequest::raw("patient")).unwrap();
    assert_eq!(running.finish().unwrap().text, "patient");
    assert_eq!(second.status().pid, second.pid());
}

#[test]
fn who_connects_while_a_daemon_finishes_is_served_by_the_next() {
    let (manager, socket) = activating();
    let slow = "[[model]]\nname = \"echo\"\npath = \"builtin:echo?token_us=4000\"\nworkers = 1\n";
    let mut first = Daemon::managed(&manager, slow, Some(&socket));
    manager.until("READY=1");
    let mut before = first.client();
    let text = "a long answer ".repeat(30);
    let mut running = Running::begin(&mut before, GenerateRequest::raw(text.as_str())).unwrap();
    assert!(running.read(1).unwrap());
    first.signal(Signal::SIGTERM);
    manager.until("STOPPING=1");
    let mut client = Client::connect(&socket).unwrap();
    thread::scope(|scope| {
        let later = scope.spawn(|| Running::begin(&mut client, GenerateRequest::raw("in the backlog"))?.finish());
        assert_eq!(running.finish().unwrap().text, text);
        assert!(first.wait().success());
        let second = Daemon::managed(&manager, slow, Some(&socket));
        assert_eq!(later.join().unwrap().unwrap().text, "in the backlog");
        assert_eq!(second.model().totals.answered, 1);
    });
}

#[test]
fn a_file_that_is_deleted_is_not_made_again() {
    let (manager, socket) = activating();
    let daemon = Daemon::managed(&manager, ECHO, Some(&socket));
    daemon.settle();
    let mut client = daemon.client();
    fs::remove_file(&socket).unwrap();
    let complaint = "only who has bound the socket can make it";
    until("it complains", LIMIT, || daemon.log().contains(complaint));
    let uptime = client.status().unwrap().uptime_s;
    until("it has looked again", LIMIT, || client.status().unwrap().uptime_s > uptime + 2.5);
    assert!(!socket.exists());
    assert_eq!(daemon.log().matches(complaint).count(), 1, "{}", daemon.log());
}

/// What `supervisor run` says that is handed something by `manager`, which must be one sentence.
#[track_caller]
fn refusal(manager: &Manager) -> String {
    let mut command = command(supervisor());
    command.args(["run", "--model", "echo=builtin:echo", "--socket"]).arg(manager.path("own.sock"));
    let output = manager.wrap(&command).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!manager.path("own.sock").exists());
    said.trim_end().to_owned()
}

#[test]
fn what_there_is_no_use_for_is_refused() {
    let unknown = |name: &str| {
        format!(
            "supervisor: there is no use for the socket {name:?} that was handed over; the client socket needs \
             FileDescriptorName=supervisor.sock, one for HTTP FileDescriptorName=http"
        )
    };
    let listener = |manager: &Manager, name: &str| UnixListener::bind(manager.path(name)).unwrap();
    let manager = Manager::new();
    let one = listener(&manager, "1");
    assert_eq!(refusal(&manager.handing_over("http.sock", one)), unknown("http.sock"));

    let manager = Manager::new();
    let (one, two) = (listener(&manager, "1"), listener(&manager, "2"));
    let both = manager.handing_over(NAME, one).handing_over("other", two);
    assert_eq!(refusal(&both), unknown("other"), "one of them would be a good one");

    let manager = Manager::new();
    let (one, two) = (listener(&manager, "1"), listener(&manager, "2"));
    let said = refusal(&manager.handing_over(NAME, one).handing_over(NAME, two));
    let sentence = "supervisor: two sockets \"supervisor.sock\" were handed over, and there is one client socket; give its unit one \
                    ListenStream=";
    assert_eq!(said, sentence);
}

#[test]
fn what_is_no_client_socket_is_refused() {
    let sentence = "supervisor: what was handed over as \"supervisor.sock\" is no unix stream socket that listens on a path; give its \
                    unit a path as ListenStream=";
    let hands_over = |descriptor: std::os::fd::OwnedFd| refusal(&Manager::new().handing_over(NAME, descriptor));
    let folder = tempfile::tempdir().unwrap();
    let datagram = UnixDatagram::bind(folder.path().join("datagram")).unwrap();
    let nameless = {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("supervisor-test-{}", std::process::id());
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap()
    };
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = UnixStream::pair().unwrap().0;
    for descriptor in
        [File::open("/dev/null").unwrap().into(), datagram.into(), nameless.into(), tcp.into(), connected.into()]
    {
        assert_eq!(hands_over(descriptor), sentence);
    }
}

#[test]
fn what_the_environment_says_is_checked() {
    let cases = [
        ("1", "one:two", "invalid LISTEN_FDNAMES"),
        ("some", NAME, "invalid LISTEN_FDS"),
        ("4294967295", NAME, "fd count overflowed"),
        ("3", "a:b:c", "Bad file descriptor (os error 9)"),
    ];
    for (count, names, reason) in cases {
        // Nothing but 3 is open.
        let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec \"$0\" run --model echo=builtin:echo";
        let mut command = command("sh");
        command.args(["-c", script]).arg(supervisor()).env("LISTEN_FDS", count).env("LISTEN_FDNAMES", names);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let sentence = format!("supervisor: cannot take over the sockets that LISTEN_FDS announces: {reason}\n");
        assert_eq!((output.status.code(), said), (Some(2), sentence));
    }
}

#[test]
fn what_is_announced_to_another_process_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join(NAME);
    let mut command = command(supervisor());
    command.args(["run", "--model", "echo=builtin:echo", "--socket"]).arg(&socket);
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "7").env("LISTEN_FDNAMES", "x").stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    until("it serves a socket of its own", LIMIT, || {
        Client::connect(&socket).and_then(|mut client| client.status()).is_ok_and(|status| status.pid == child.id())
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_socket_that_somebody_listens_on_is_not_stolen() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join(NAME);
    let listener = UnixListener::bind(&socket).unwrap();
    let before = identity(&socket);
    for _ in 0..2 {
        let ended = Call::new(["run", "--model", "echo=builtin:echo"]).to(&socket).run();
        let sentence = format!(
            "supervisor: something listens on {} already, a socket unit of systemd maybe; stop it first or choose another --socket",
            socket.display()
        );
        assert_eq!((ended.code(), ended.stderr.lines().last()), (1, Some(sentence.as_str())), "{ended:?}");
        assert_eq!(identity(&socket), before);
    }
    drop(listener);
    let daemon = Call::new(["run", "--model", "echo=builtin:echo"]).to(&socket).start();
    until("what nobody listens on is replaced", LIMIT, || {
        Client::connect(&socket).and_then(|mut client| client.status()).is_ok_and(|status| status.pid == daemon.pid())
    });
}
