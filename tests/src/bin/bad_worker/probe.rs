//! What a process can still do: it tries, and says on its stderr what came of it.
use crate::mapping::map;
use memmap2::MmapMut;
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags},
        prctl, ptrace,
        resource::{Resource, setrlimit},
        signal::{Signal, kill},
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, socket, socketpair},
        wait::waitpid,
    },
    unistd::{Pid, chdir, daemon, execv, getpid, getppid, pipe},
};
use std::{
    fs::{self, File},
    io,
    net::{TcpListener, TcpStream},
    os::fd::RawFd,
    process::Command,
    thread,
};
use system::exit_now;

/// Tries what an action of this name says, and ends this process. Returns if the action is not one
/// of these.
pub(crate) fn probe(action: &str) {
    match action {
        "probe" => both(),
        "probe-worker" => worker_only(),
        "probe-paths" => {
            report("open", File::open("/dev/null"));
            report("list", fs::read_dir("/"));
            report("bind-tcp", TcpListener::bind("127.0.0.1:0"));
            report("connect-tcp", TcpStream::connect("127.0.0.1:1"));
            report("signal", kill(getppid(), None));
        }
        // These are not refused, they end the process.
        "exec" => report("exec", execv(c"/bin/true", &[c"/bin/true"])),
        "trace" => report("trace", ptrace::attach(getppid())),
        "unshare" => report("unshare", unshare(CloneFlags::CLONE_NEWUSER)),
        _ => return,
    }
    exit_now(7)
}

/// What neither a template nor a worker may do.
fn both() {
    report("open", File::open("/dev/null"));
    report("open-own", File::open("/proc/self/status"));
    report("create", File::create("/tmp/created-by-a-worker"));
    report("stat", fs::metadata("/"));
    report("list", fs::read_dir("/"));
    report("mkdir", fs::create_dir("/tmp/made-by-a-worker"));
    report("remove", fs::remove_file("/nothing-of-this-name/file"));
    report("chdir", chdir("/tmp"));
    let stream = (SockType::Stream, SockFlag::empty());
    report("socket", socket(AddressFamily::Unix, stream.0, stream.1, None));
    report("socket-inet", TcpStream::connect("127.0.0.1:1"));
    report("socketpair", socketpair(AddressFamily::Unix, stream.0, None, stream.1));
    report("connect", UnixAddr::new("/tmp/socket").and_then(|address| connect(0, &address)));
    report("kill", kill(getppid(), None));
    report("kill-own", kill(getpid(), None));
    report("kill-all", kill(Pid::from_raw(-1), None));
    report("memfd", memfd_create("memory", MFdFlags::empty()));
    // Code that it was sent must stay data.
    report("executable", MmapMut::map_anon(1).and_then(MmapMut::make_exec));
    // Memory that no limit of private memory counts.
    let writable = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let stack = || map(1, writable, MapFlags::MAP_PRIVATE | MapFlags::MAP_GROWSDOWN);
    report("uncounted", map(1, writable, MapFlags::MAP_SHARED).or_else(|_| stack()));
    report("core", setrlimit(Resource::RLIMIT_CORE, 1, 1));
    report_descriptors();
}

/// What only a template may do, and what a worker may.
fn worker_only() {
    report("fork", daemon(true, true));
    report("spawn", Command::new("/bin/true").spawn());
    report("wait", waitpid(None, None));
    report("pipe", pipe());
    report("inspect", prctl::set_dumpable(true));
    report("untie", prctl::set_pdeathsig(None::<Signal>));
    // To read it would take page tables, which nothing counts.
    report("addresses", map(100 << 30, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE));
    report("thread", thread::Builder::new().spawn(|| ()).map(|thread| thread.join().is_ok()));
    report("memory", Vec::<u8>::new().try_reserve_exact(1 << 20).map_err(|_| Errno::ENOMEM));
}

fn report<T, E: Into<io::Error>>(what: &str, result: Result<T, E>) {
    let said = match result.map_err(Into::into) {
        Ok(_) => "allowed".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(number) => format!("{:?}", Errno::from_raw(number)),
            None => error.to_string(),
        },
    };
    eprintln!("{what}: {said}");
}

/// Which descriptors there are, as far as a call that only sockets know tells.
fn report_descriptors() {
    const MOST: RawFd = 1024;
    let (mut files, mut sockets) = (Vec::new(), 0);
    for number in 0..MOST {
        match recv(number, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EBADF) => {}
            Err(Errno::ENOTSOCK) => files.push(number),
            _ => sockets += 1,
        }
    }
    eprintln!("descriptors: files {files:?}, sockets {sockets}");
}
