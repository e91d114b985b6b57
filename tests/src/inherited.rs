//! What the processes that tests start inherit: the same, whoever has started the tests.
//!
//! Under `nohup`, in the background of a script, by a service manager or by hand, a process has
//! other signals that it ignores, another file mode mask, other limits and another environment.
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
    stat::{Mode, umask},
};
use std::{
    env,
    ffi::OsStr,
    fs,
    process::Command,
    sync::{Arc, Once, atomic::AtomicBool},
};

/// All that a child has of this process's environment: where programs and temporary files are.
const PASSED_ON: [&str; 2] = ["PATH", "TMPDIR"];
/// Descriptors that this process and its children may open at least, if that is allowed.
const DESCRIPTORS: u64 = 1024;

/// A command that inherits nothing by which it could tell who has started the tests.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    static SETTLED: Once = Once::new();
    SETTLED.call_once(settle);
    let mut command = Command::new(program);
    command.env_clear();
    command.envs(PASSED_ON.iter().filter_map(|name| Some((name, env::var_os(name)?))));
    command
}

/// Gives this process what its children are to inherit.
fn settle() {
    umask(Mode::from_bits_truncate(0o022));
    let limit = |resource, wanted: &dyn Fn(u64) -> u64| {
        let set = getrlimit(resource).and_then(|(now, most)| setrlimit(resource, wanted(now).min(most), most));
        set.unwrap_or_else(|error| panic!("cannot set a limit: {error}"));
    };
    limit(Resource::RLIMIT_NOFILE, &|now| now.max(DESCRIPTORS));
    // Whoever is to crash leaves no file.
    limit(Resource::RLIMIT_CORE, &|_| 0);
    handle_what_is_ignored();
}

/// Handles the signals that this process was told to ignore, by doing nothing. A program that is
/// executed inherits what is ignored, and not what is handled.
fn handle_what_is_ignored() {
    let mask = ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    for signal in Signal::iterator() {
        let number = signal as i32;
        let is_ignored = mask & (1 << (number - 1)) != 0;
        // The standard library ignores the last one and sees to it itself.
        if is_ignored && !signal_hook::consts::FORBIDDEN.contains(&number) && signal != Signal::SIGPIPE {
            let handled = signal_hook::flag::register(number, Arc::new(AtomicBool::new(false)));
            handled.unwrap_or_else(|error| panic!("cannot handle {signal}: {error}"));
        }
    }
}

/// A bit for each signal that a process ignores, by its status in `/proc`.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.unwrap_or_else(|| panic!("it is not said what is ignored: {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::own_process;

    #[test]
    fn a_child_inherits_nothing_of_who_has_started_the_tests() {
        const CHANGED: &str = "trap '' HUP INT QUIT TERM USR1; umask 077; ulimit -c unlimited; ulimit -S -n 64; \
                               export COLUMNS=7 LANG=x SUPERVISOR_SOCKET=/nowhere; exec \"$0\" \"$@\"";
        const SHOWN: &str = "grep SigIgn: /proc/self/status; umask; ulimit -c; ulimit -n; env";
        if !own_process::is_this() {
            own_process::run(|executable| {
                let mut shell = Command::new("sh");
                shell.args(["-c", CHANGED]).arg(executable);
                shell
            });
            return;
        }
        let output = command("sh").args(["-c", SHOWN]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        // What lies above is real-time signals, which nobody here sends.
        assert_eq!(ignored(lines[0]) & 0x7FFF_FFFF, 0, "{said}");
        assert_eq!(lines[1..3], ["0022", "0"], "{said}");
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(lines[3].parse(), Ok(DESCRIPTORS.min(most)), "{said}");
        // A shell has some of its own.
        let names = lines[4..].iter().map(|line| line.split('=').next().unwrap_or(line));
        let names: Vec<&str> = names.filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name)).collect();
        assert!(names.contains(&"PATH") && names.iter().all(|name| PASSED_ON.contains(name)), "{said}");
    }
}
