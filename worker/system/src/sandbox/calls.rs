//! Which system calls a role leaves, as filters for the kernel.
//!
//! Three filters are stacked; of their verdicts the kernel takes the strictest. The last one lists
//! what a role may do and answers all else with EPERM: a library that tries something new is told
//! so and goes on without it, as it would in any sandbox. What no library tries by mistake (to run
//! a program, to reach into another process, to load code into the kernel) ends the process,
//! because whoever tries it has taken it over. And `clone3` is said not to exist, whereupon C
//! libraries use `clone`, whose flags a filter can see.
//!
//! There is no call here that takes a path, makes a socket or sends a signal, not even to the
//! process itself: in a template such a signal could be meant for the supervisor. So `abort` ends
//! by the trap that it has for that case, as SIGSEGV on x86 and SIGTRAP on ARM.
use super::Role;
use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// What everybody does: memory, threads, time, and what is open.
const BOTH: &[c_long] = &[
    // Its sockets, files and stderr.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_ppoll,
    libc::SYS_close,
    // Memory; see `conditions` for what would make it executable or escape the limits.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    // Threads. `clone3` is refused by a filter of its own, and this one must not say otherwise.
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // How it takes signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// What a template does besides, and a worker before it is confined itself: to fork, and to prepare
/// a process just forked.
const TEMPLATE: &[c_long] = &[
    libc::SYS_pread64,
    libc::SYS_getdents64,
    libc::SYS_wait4,
    libc::SYS_getppid,
    libc::SYS_setpgid,
    libc::SYS_close_range,
    libc::SYS_dup3,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
];

/// What the front does besides: it accepts clients and waits for many sockets at once. It makes none,
/// and none of them may begin to block.
const FRONT: &[c_long] = &[
    libc::SYS_accept4,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_geteuid,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];

/// What nobody does by mistake.
const FATAL: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_unshare,
];

/// The filters of both roles, in the order in which they are installed before a role's own.
pub(super) fn filters_of_both() -> Result<[BpfProgram; 2], BackendError> {
    Ok([
        compile(plain(&[libc::SYS_clone3]), SeccompAction::Allow, errno(libc::ENOSYS))?,
        compile(plain(FATAL), SeccompAction::Allow, SeccompAction::KillProcess)?,
    ])
}

/// The filter that lists what a role may do.
pub(super) fn filter(role: Role) -> Result<BpfProgram, BackendError> {
    let mut allowed = plain(BOTH);
    match role {
        Role::Template => allowed.extend(plain(TEMPLATE)),
        Role::Front => allowed.extend(plain(FRONT)),
        Role::Worker => {}
    }
    allowed.extend(conditions(role)?);
    compile(allowed, errno(libc::EPERM), SeccompAction::Allow)
}

fn plain(calls: &[c_long]) -> BTreeMap<c_long, Vec<SeccompRule>> {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

fn errno(number: i32) -> SeccompAction {
    SeccompAction::Errno(number.unsigned_abs())
}

fn compile(
    calls: BTreeMap<c_long, Vec<SeccompRule>>,
    others: SeccompAction,
    these: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let machine: TargetArch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(calls, others, these, machine)?.try_into()
}

/// The calls that are allowed with some arguments only.
fn conditions(role: Role) -> Result<BTreeMap<c_long, Vec<SeccompRule>>, BackendError> {
    let is = |argument, value: i32| condition(argument, SeccompCmpOp::Eq, value);
    // All bits of `mask` are as they are in `value`.
    let masked = |argument, mask: i32, value: i32| {
        condition(argument, SeccompCmpOp::MaskedEq(u64::from(mask.cast_unsigned())), value)
    };
    let one_of = |argument, values: &[i32]| {
        values.iter().map(|value| SeccompRule::new(vec![is(argument, *value)?])).collect::<Result<Vec<_>, _>>()
    };
    let only = |condition: Result<SeccompCondition, BackendError>| Ok(vec![SeccompRule::new(vec![condition?])?]);
    let not_executable = || masked(2, libc::PROT_EXEC, 0);
    let mapped = |but: i32| SeccompRule::new(vec![not_executable()?, masked(3, but | libc::MAP_GROWSDOWN, 0)?]);
    let mut rules = BTreeMap::from([
        // What is of no file is not shared and no stack: the limit of private memory counts
        // neither.
        (libc::SYS_mmap, vec![mapped(libc::MAP_ANONYMOUS)?, mapped(libc::MAP_SHARED)?]),
        (libc::SYS_mprotect, only(not_executable())?),
        // All advice but the two that let root break the machine's memory.
        (libc::SYS_madvise, only(condition(2, SeccompCmpOp::Lt, libc::MADV_HWPOISON))?),
        // Others would have the kernel send signals.
        (libc::SYS_fcntl, one_of(1, &[libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_GETFL, libc::F_GET_SEALS])?),
    ]);
    let names = [libc::PR_SET_NAME, libc::PR_SET_VMA];
    match role {
        Role::Worker => {
            let thread = libc::CLONE_THREAD | libc::CLONE_VM;
            rules.insert(libc::SYS_clone, only(masked(0, thread | NAMESPACES, thread))?);
            rules.insert(libc::SYS_prctl, one_of(0, &names)?);
        }
        Role::Front => {
            rules.insert(libc::SYS_prctl, one_of(0, &names)?);
            let option = |level, name| SeccompRule::new(vec![is(1, level)?, is(2, name)?]);
            let asked = [option(libc::SOL_SOCKET, libc::SO_PEERCRED)?, option(libc::SOL_SOCKET, libc::SO_ERROR)?];
            rules.insert(libc::SYS_getsockopt, asked.to_vec());
            rules.insert(libc::SYS_setsockopt, vec![option(libc::IPPROTO_TCP, libc::TCP_NODELAY)?]);
        }
        Role::Template => {
            rules.insert(libc::SYS_clone, only(masked(0, NAMESPACES, 0))?);
            let ties = [libc::PR_SET_PDEATHSIG, libc::PR_SET_DUMPABLE, libc::PR_SET_NO_NEW_PRIVS];
            rules.insert(libc::SYS_prctl, one_of(0, &[&names[..], &ties].concat())?);
            rules.insert(libc::SYS_prlimit64, only(is(0, 0))?);
            let plain_filter = vec![is(0, SET_MODE_FILTER)?, is(1, 0)?];
            rules.insert(libc::SYS_seccomp, vec![SeccompRule::new(plain_filter)?]);
        }
    }
    Ok(rules)
}

fn condition(argument: u8, operator: SeccompCmpOp, value: i32) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, u64::from(value.cast_unsigned()))
}

/// The flags of `clone` that give a process a world of its own, and with it rights in it.
const NAMESPACES: i32 = libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS;

/// The operation of `seccomp` that adds a filter.
const SET_MODE_FILTER: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_filters_for_both_machines() {
        let own = [Role::Template, Role::Worker, Role::Front].map(|role| filter(role).unwrap());
        for filter in filters_of_both().unwrap().iter().chain(&own) {
            assert!(filter.len() < 4096, "the kernel takes no longer ones");
        }
        assert!(TargetArch::try_from("aarch64").is_ok() && TargetArch::try_from("x86_64").is_ok());
    }

    #[test]
    fn what_is_fatal_is_not_allowed() {
        for call in FATAL {
            assert!([BOTH, TEMPLATE, FRONT].iter().all(|calls| !calls.contains(call)), "{call}");
            for role in [Role::Template, Role::Worker, Role::Front] {
                assert!(!conditions(role).unwrap().contains_key(call), "{call}");
            }
        }
    }
}
