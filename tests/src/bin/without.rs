//! `without landlock|seccomp COMMAND...`: runs a command on a kernel that seems not to have one of
//! these.
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
    let calls: &[c_long] = match what.as_str() {
        "landlock" => &[libc::SYS_landlock_create_ruleset, libc::SYS_landlock_restrict_self],
        "seccomp" => &[libc::SYS_seccomp],
        _ => return Err(format!("it cannot be without {what}").into()),
    };
    let calls: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let refusal = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let filter: BpfProgram =
        SeccompFilter::new(calls, SeccompAction::Allow, refusal, env::consts::ARCH.try_into()?)?.try_into()?;
    apply_filter(&filter)?;
    Err(Command::new(program).args(rest).exec().into())
}
