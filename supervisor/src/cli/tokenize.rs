//! `supervisor tokenize`: the token ids of a text, by the daemon's model or by a file without a
//! daemon.
use super::{SocketArgument, error::CliError, print, text};
use ipc::{Client, TokenizeRequest};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    socket: SocketArgument,
    /// The model; with only one it need not be named
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    model: Option<String>,
    /// A GGUF file, of which the vocabulary is enough; no daemon is asked
    #[arg(long, value_name = "GGUF")]
    file: Option<PathBuf>,
    /// Read special tokens in the text as such, and add what the file wants before and after a text
    #[arg(long)]
    special: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    /// The text; - reads it from the standard input
    #[arg(required = true, value_name = "TEXT")]
    text: Vec<String>,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), CliError> {
    let ids = match &arguments.file {
        Some(file) => by_file(file, &text(&arguments.text, usize::MAX)?, arguments.special)?,
        None => {
            let text = text(&arguments.text, ipc::MAX_REQUEST)?;
            let socket = arguments.socket.path()?;
            let request = TokenizeRequest { model: arguments.model, text, special: arguments.special };
            Client::connect(&socket)?.tokenize(request)?
        }
    };
    let shown: Vec<String> = ids.iter().map(u32::to_string).collect();
    print(&if arguments.json { format!("[{}]\n", shown.join(",")) } else { format!("{}\n", shown.join(" ")) })
}

fn by_file(file: &Path, text: &str, special: bool) -> Result<Vec<u32>, CliError> {
    let tokenizer = worker::load_tokenizer(file)?;
    Ok(tokenizer.encode(text, special)?)
}
