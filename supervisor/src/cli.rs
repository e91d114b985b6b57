//! The command line: what can be typed, and what an error looks like. Each command has its own
//! file, but for those that only tell the daemon something (`control.rs`).

mod control;
mod demo;
mod embed;
mod error;
mod generate;
mod run;
mod status;
mod table;
mod template;
mod tokenize;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use error::CliError;
use std::{
    io::{self, Read, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};
pub(crate) use table::render as page;

/// Serves language models from isolated, single-request worker processes.
#[derive(Debug, Parser)]
#[command(name = "supervisor", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon, in the foreground.
    Run(run::Arguments),
    /// Show the whole system at work: eight requests on two workers, and a kill.
    Demo(demo::Arguments),
    /// Show the workers of the running daemon.
    Status(status::Arguments),
    /// Answer one prompt, streamed to the standard output.
    Generate(generate::Arguments),
    /// Print the token ids of a text.
    Tokenize(tokenize::Arguments),
    /// Turn texts into vectors, printed as they come.
    Embed(embed::Arguments),
    /// Have the daemon read its configuration again; all of it comes into force, or nothing.
    Reload(control::Reload),
    /// Have the daemon finish what was begun and refuse all else, and wait until nothing runs.
    Drain(control::Drain),
    /// Have the daemon finish what was admitted and end, and wait for its end.
    ///
    /// Where systemd holds the socket, the next client, `supervisor status` too, starts another
    /// daemon; `systemctl stop supervisor.socket supervisor.service` stops both.
    Stop(control::Stop),
    /// Replace workers by fresh ones, each when it has nothing to do.
    Restart(control::Restart),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Load a model and fork workers; the daemon starts this itself.
    #[command(hide = true)]
    Template(template::Arguments),
    /// Speak HTTP; the daemon starts this itself.
    #[command(hide = true)]
    Front(template::Arguments),
}

/// The socket of the daemon that a command talks to.
#[derive(Debug, clap::Args)]
struct SocketArgument {
    /// The daemon's socket [default: /run/supervisor/supervisor.sock, or the user's own]
    #[arg(long, env = "SUPERVISOR_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl SocketArgument {
    fn path(&self) -> Result<PathBuf, CliError> {
        let named = self.socket.clone().filter(|path| !path.as_os_str().is_empty());
        named.map_or_else(|| Ok(ipc::default_socket()?), Ok)
    }
}

/// What can be typed, for the manual and the completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// The whole program.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Generate(arguments) => generate::run(arguments),
        Command::Tokenize(arguments) => tokenize::run(arguments),
        Command::Embed(arguments) => embed::run(arguments),
        Command::Reload(arguments) => control::reload(arguments),
        Command::Drain(arguments) => control::drain(arguments),
        Command::Stop(arguments) => control::stop(arguments),
        Command::Restart(arguments) => control::restart(arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "supervisor", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Template(arguments) => return template::run(&arguments),
        Command::Front(arguments) => return front::main(arguments.supervisor),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print();
            error.exit_code()
        }
    }
}

/// The words of the command line, or for `-` all of the standard input. Of a text that has more
/// than `most` bytes only enough is read to refuse it.
fn text(words: &[String], most: usize) -> Result<String, CliError> {
    if words != ["-"] {
        return Ok(words.join(" "));
    }
    let mut bytes = Vec::new();
    io::stdin().lock().take((most as u64).saturating_add(1)).read_to_end(&mut bytes).map_err(CliError::Input)?;
    if bytes.len() > most {
        // Where it was cut there may be half a character.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|_| CliError::NotText)
}

/// A prompt: the words of the command line, or for `-` the standard input as whoever wrote it meant
/// it, which is without the end of its last line and the mark that some editors begin a file with.
fn prompt(words: &[String], most: usize) -> Result<String, CliError> {
    let text = text(words, most)?;
    Ok(if words == ["-"] { as_meant(&text).to_owned() } else { text })
}

/// A text without a byte order mark before it and without one end of line behind it.
fn as_meant(text: &str) -> &str {
    let text = without_mark(text);
    text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text))
}

/// A text without a byte order mark before it.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Writes all of `text` to the standard output.
fn print(text: &str) -> Result<(), CliError> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(CliError::Output)
}

/// An interrupted program says so with its exit status.
fn exit_when_interrupted() -> Result<(), CliError> {
    const INTERRUPTED: i32 = 130;
    let always = Arc::new(AtomicBool::new(true));
    signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGINT, INTERRUPTED, always)
        .map(drop)
        .map_err(CliError::Signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_piped_has_an_end_of_line_and_maybe_a_mark() {
        for text in ["a b", "a b\n", "a b\r\n", "\u{feff}a b", "\u{feff}a b\r\n"] {
            assert_eq!(as_meant(text), "a b", "{text:?}");
        }
        assert_eq!(as_meant("a\n\n"), "a\n");
        assert_eq!(as_meant("a\r\n\r\n"), "a\r\n");
        assert_eq!(as_meant(" a\r"), " a\r");
        assert_eq!(as_meant("\u{feff}\u{feff}a"), "\u{feff}a");
        assert_eq!((as_meant("\n"), as_meant("\r\n"), as_meant("")), ("", "", ""));
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
