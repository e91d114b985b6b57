//! What goes wrong at the command line, and the exit status that says so.
use crate::{
    config::ConfigError,
    daemon::{ActivationError, ExaminationError},
    log::LogError,
    shortage::ThreadError,
};
use ipc::{ClientError, FailureKind};
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};
use thiserror::Error;
use worker::{EncodeError, LoadTokenizerError};

/// Why a command did not do what it was asked to.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What a service manager handed over cannot be used.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// It cannot be made to end with the process that has started it.
    #[error("cannot have this process told when its parent ends")]
    Tie(#[source] io::Error),
    /// The process that has started it has ended already.
    #[error("the process that has started this one has ended")]
    Orphaned,
    /// The log cannot be written.
    #[error("cannot start the log")]
    Log(#[source] LogError),
    /// A thread cannot be had.
    #[error(transparent)]
    Thread(ThreadError),
    /// A template cannot be started, so that nobody knows whether its model can be loaded.
    #[error("cannot look whether the models can be loaded")]
    Examination(#[source] ExaminationError),
    /// The configuration is valid, but models in it cannot be loaded.
    #[error("the configuration is valid, but not all of its models can be loaded: {0}")]
    Refused(String),
    /// The daemon cannot run, and its log says why.
    #[error("the log says why")]
    Told,
    /// The daemon did not answer, or says why not.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The standard input cannot be read.
    #[error("cannot read the standard input")]
    Input(#[source] io::Error),
    /// The standard input is no text.
    #[error("the standard input is not valid UTF-8")]
    NotText,
    /// What is given as a conversation is none.
    #[error("--messages takes a JSON list of messages like {}", r#"{"role": "user", "content": "Hello"}"#)]
    Messages(#[source] serde_json::Error),
    /// The standard output cannot be written.
    #[error("cannot write to the standard output")]
    Output(#[source] io::Error),
    /// The demonstration's folder or daemon cannot be made.
    #[error("cannot {0}")]
    Demo(&'static str, #[source] io::Error),
    /// The demonstration's daemon did not become ready.
    #[error("the demonstration's daemon did not start; the last that it said: {0}")]
    DemoDaemon(String),
    /// The demonstration's answers are not all right.
    #[error("{0}")]
    DemoFailed(String),
    /// A signal has ended the demonstration; the number is the exit status that says so.
    #[error("interrupted")]
    Interrupted(u8),
    /// A signal cannot be caught.
    #[error("cannot catch a signal")]
    Signal(#[source] io::Error),
    /// The file that was named has no tokenizer that can be used.
    #[error(transparent)]
    Load(#[from] LoadTokenizerError),
    /// The file's tokenizer fails on the text.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The configuration asks for what the kernel does not have.
    #[error(
        "this kernel has no Landlock, and the configuration says sandbox = \"require-landlock\"; sandbox = \"on\" does with seccomp alone"
    )]
    NoLandlock,
    /// A file that was named cannot be used.
    #[error("there is no executable {0}")]
    NoExecutable(PathBuf),
}

impl CliError {
    /// Prints it, with its causes, as one line on stderr. A reader of our output who has seen
    /// enough is no error to speak of.
    pub(crate) fn print(&self) {
        const ADVICE: &str =
            "Start one with `supervisor run`, or name its socket with --socket or SUPERVISOR_SOCKET.\n";
        if self.is_broken_pipe() || matches!(self, CliError::Told | CliError::Interrupted(_)) {
            return;
        }
        let advice = if let CliError::Client(ClientError::NoDaemon { .. }) = self { ADVICE } else { "" };
        let again = self.retry_after().map(|seconds| format!("; try again in {seconds} s")).unwrap_or_default();
        // The exit status says it too, if nobody reads this.
        let _unread = write!(io::stderr(), "supervisor: {}{again}\n{advice}", system::foreign_text::chain(self));
    }

    /// After how many seconds it may be worth trying again, if the daemon says so.
    fn retry_after(&self) -> Option<u64> {
        let CliError::Client(ClientError::Failed(failure)) = self else { return None };
        failure.retry_after_ms.filter(|wait| *wait > 0).map(|wait| wait.div_ceil(1000))
    }

    /// 1 failed, 2 wrong usage or configuration, 3 no daemon, 4 busy or draining.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            CliError::Activation(_)
            | CliError::Config(_)
            | CliError::NotText
            | CliError::Messages(_)
            | CliError::NoExecutable(_)
            | CliError::NoLandlock
            | CliError::Load(_) => 2,
            CliError::Client(ClientError::NoDaemon { .. } | ClientError::NoSocket) => 3,
            CliError::Interrupted(status) => *status,
            CliError::Client(ClientError::Failed(failure)) => match failure.kind {
                FailureKind::Busy | FailureKind::Draining => 4,
                FailureKind::BadRequest | FailureKind::UnknownModel | FailureKind::TooLong => 2,
                _ => 1,
            },
            _ => 1,
        })
    }

    fn is_broken_pipe(&self) -> bool {
        matches!(self, CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
