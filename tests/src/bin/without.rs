//! `without WHAT[=EPERM] COMMAND...`: runs a command on a kernel that seems not to have something:
//! `landlock`, `seccomp`, one of a few system calls by its name, or `newer-than-5.4`, which is all
//! that Linux has had since. With `=EPERM` it is denied, as profiles of containers do it.
use libc::c_long;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use std::{
    collections::BTreeMap,
    env,
    error::Error,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Err(error) = run(&arguments);
    eprintln!("without: {error}");
    ExitCode::FAILURE
}

/// Becomes the command.
fn run(arguments: &[String]) -> Result<std::convert::Infallible, Box<dyn Error>> {
    let [what, program, rest @ ..] = arguments else { return Err("what is missing, and which command?".into()) };
    let (what, error) = what.strip_suffix("=EPERM").map_or((what.as_str(), libc::ENOSYS), |what| (what, libc::EPERM));
    let calls: Vec<c_long> = match what {
        "landlock" => vec![libc::SYS_landlock_create_ruleset, libc::SYS_landlock_restrict_self],
        "seccomp" => vec![libc::SYS_seccomp],
        "close_range" => vec![libc::SYS_close_range],
        "memfd_create" => vec![libc::SYS_memfd_create],
        "pidfd_open" => vec![libc::SYS_pidfd_open],
        "pidfd_send_signal" => vec![libc::SYS_pidfd_send_signal],
        "waitid" => vec![libc::SYS_waitid],
        "clone3" => vec![libc::SYS_clone3],
        // Calls are numbered in the order in which they came, on all machines alike since 5.1;
        // `pidfd_open` and `clone3` are the last ones before.
        "newer-than-5.4" => (libc::SYS_close_range..600).collect(),
        _ => return Err(format!("it cannot be without {what}").into()),
    };
    let calls: BTreeMap<_, _> = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let refusal = SeccompAction::Errno(error.unsigned_abs());
    let filter: BpfProgram =
        SeccompFilter::new(calls, SeccompAction::Allow, refusal, env::consts::ARCH.try_into()?)?.try_into()?;
    apply_filter(&filter)?;
    Err(Command::new(program).args(rest).exec().into())
}
