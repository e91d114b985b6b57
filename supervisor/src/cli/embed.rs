//! `supervisor embed`: vectors of texts, printed as they come.
//!
//! Many texts are several requests, one after another: the daemon splits each between its workers.
use super::{SocketArgument, error::CliError, exit_when_interrupted, print, without_mark};
use clap::ValueEnum;
use ipc::{Client, ClientError, EmbedRequest, Embedded, MAX_REQUEST, Response, TextRole, json_length};
use serde::Serialize;
use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write as _},
    mem,
};

/// Most texts of a request.
const TEXTS: usize = 2048;
/// Bytes of texts in JSON that a request has at most; one text may have more.
const BYTES: usize = MAX_REQUEST / 4;
/// Bytes of lines that are read ahead. The last line of a request comes from there and may take six
/// times as much in JSON, so a request has `BYTES` and six times this at most.
const AHEAD: usize = MAX_REQUEST / 32;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    socket: SocketArgument,
    /// The model; with only one that embeds it need not be named
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// How vectors are printed
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// The texts are to search with: put the model's prefix for queries before each
    #[arg(long)]
    query: bool,
    /// The texts are to be found: put the model's prefix for documents before each
    #[arg(long, conflicts_with = "query")]
    document: bool,
    /// The texts, one each; - reads them from the standard input, one on each line
    #[arg(required = true, value_name = "TEXT")]
    texts: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// An object on each line, named as in OpenAI's API
    Jsonl,
    /// The length and the first numbers of each vector
    Head,
    /// Nothing but how many there were, on stderr
    None,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), CliError> {
    exit_when_interrupted()?;
    let socket = arguments.socket.path()?;
    let role = match (arguments.query, arguments.document) {
        (true, _) => TextRole::Query,
        (_, true) => TextRole::Document,
        _ => TextRole::Plain,
    };
    let mut client = Client::connect(&socket)?;
    let mut output = Output { format: arguments.format, texts: 0, tokens: 0 };
    let model = arguments.model;
    let mut embed = |texts| output.embed(&mut client, EmbedRequest { model: model.clone(), texts, role });
    if arguments.texts == ["-"] {
        let mut lines = BufReader::with_capacity(AHEAD, io::stdin().lock());
        let mut is_first = true;
        while let Some(mut texts) = batch(&mut lines)? {
            if let Some(text) = texts.first_mut().filter(|_| mem::take(&mut is_first)) {
                *text = without_mark(text).to_owned();
            }
            embed(texts)?;
        }
    } else {
        for texts in batches(arguments.texts) {
            embed(texts)?;
        }
    }
    output.finish()
}

/// Prints vectors, and counts.
struct Output {
    format: Format,
    texts: u64,
    tokens: u64,
}

/// A vector, as OpenAI's API calls it.
#[derive(Serialize)]
struct Embedding<'a> {
    object: &'static str,
    index: u64,
    embedding: &'a [f32],
}

impl Output {
    /// Sends one request and prints its vectors as they come.
    fn embed(&mut self, client: &mut Client, request: EmbedRequest) -> Result<(), CliError> {
        let (before, expected) = (self.texts, request.texts.len() as u64);
        for response in client.embed(request)? {
            let found = self.texts - before;
            match response? {
                Response::Accepted { .. } => {}
                Response::Vectors { first, vectors } if u64::from(first) == found => self.add(&vectors)?,
                Response::Embedded(Embedded { tokens, .. }) if found == expected => {
                    self.tokens += tokens;
                    return Ok(());
                }
                _ => return Err(ClientError::Nonsense.into()),
            }
        }
        Err(ClientError::Closed.into())
    }

    fn add(&mut self, vectors: &[Vec<f32>]) -> Result<(), CliError> {
        let mut text = String::new();
        for vector in vectors {
            let index = self.texts;
            self.texts += 1;
            match self.format {
                Format::Jsonl => {
                    let line = serde_json::to_string(&Embedding { object: "embedding", index, embedding: vector });
                    text.push_str(&line.map_err(|error| CliError::Output(error.into()))?);
                    text.push('\n');
                }
                Format::Head => text.push_str(&head(index, vector)),
                Format::None => {}
            }
        }
        if text.is_empty() { Ok(()) } else { print(&text) }
    }

    fn finish(&self) -> Result<(), CliError> {
        if self.format != Format::None {
            return Ok(());
        }
        let plural = |count: u64, word| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let (texts, tokens) = (plural(self.texts, "text"), plural(self.tokens, "token"));
        // The exit status says that all are done, if nobody reads this.
        let _unread = writeln!(io::stderr(), "{texts}, {tokens}");
        Ok(())
    }
}

/// A vector in a line for people.
fn head(index: u64, vector: &[f32]) -> String {
    const SHOWN: usize = 6;
    let length = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt();
    let mut line = format!("{index}: length {length:.4}, {} numbers:", vector.len());
    for value in vector.iter().take(SHOWN) {
        // Writing to a string cannot fail.
        let _written = write!(line, " {value:.4}");
    }
    line + if vector.len() > SHOWN { " ...\n" } else { "\n" }
}

/// The texts in requests of a size that the daemon takes.
fn batches(texts: Vec<String>) -> Vec<Vec<String>> {
    let (mut batches, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    for text in texts {
        let more = json_length(&text);
        if batch.len() == TEXTS || !batch.is_empty() && bytes + more > BYTES {
            batches.push(mem::take(&mut batch));
            bytes = 0;
        }
        bytes += more;
        batch.push(text);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// The next lines, as many as are there already and go into a request, and at least one; `None` at
/// the end.
fn batch(lines: &mut BufReader<impl Read>) -> Result<Option<Vec<String>>, CliError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.is_empty() || lines.buffer().contains(&b'\n') && batch.len() < TEXTS && bytes < BYTES {
        let mut line = Vec::new();
        // One byte more than a request may have is enough to refuse it.
        lines.take(MAX_REQUEST as u64 + 1).read_until(b'\n', &mut line).map_err(CliError::Input)?;
        if line.is_empty() {
            break;
        }
        let line = line.strip_suffix(b"\n").map_or(&*line, |line| line.strip_suffix(b"\r").unwrap_or(line));
        let text = String::from_utf8(line.to_vec()).map_err(|_| CliError::NotText)?;
        bytes += json_length(&text);
        batch.push(text);
    }
    Ok((!batch.is_empty()).then_some(batch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc::Request;

    fn read(input: &[u8], capacity: usize) -> Vec<Vec<String>> {
        let mut lines = BufReader::with_capacity(capacity, input);
        std::iter::from_fn(|| batch(&mut lines).unwrap()).collect()
    }

    #[test]
    fn each_line_is_a_text() {
        assert_eq!(read(b"", 100), [[""; 0]; 0]);
        assert_eq!(read(b"one\ntwo\n", 100), [["one", "two"]]);
        assert_eq!(read(b"one\r\n\n two ", 100), [vec!["one", ""], vec![" two "]]);
        assert_eq!(read(b"\n", 100), [[""]]);
        // What does not fit into the buffer is read all the same.
        assert_eq!(read(b"a long line\nb\n", 4).concat(), ["a long line", "b"]);
        assert!(matches!(batch(&mut BufReader::new(&b"\xff\n"[..])), Err(CliError::NotText)));
    }

    #[test]
    fn requests_are_neither_too_large_nor_empty() {
        let many = "a\n".repeat(TEXTS + 1);
        let sizes: Vec<usize> = read(many.as_bytes(), 1 << 20).iter().map(Vec::len).collect();
        assert_eq!(sizes, [TEXTS, 1]);
        let sizes: Vec<usize> = batches(vec!["a".into(); TEXTS * 2]).iter().map(Vec::len).collect();
        assert_eq!(sizes, [TEXTS, TEXTS]);
        let sizes: Vec<usize> = batches(vec!["a".repeat(BYTES); 3]).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 1, 1]);
        // What is written in six bytes counts for six.
        let control = "\u{1}".repeat(1000);
        let lines = format!("{control}\n").repeat(TEXTS);
        for batches in [batches(vec![control; TEXTS]), read(lines.as_bytes(), AHEAD)] {
            assert!(batches.len() > 1);
            for texts in batches {
                let request = Request::Embed(Box::new(EmbedRequest { model: None, texts, role: TextRole::Document }));
                assert!(ipc::encode(&request).unwrap().len() <= MAX_REQUEST);
            }
        }
    }

    #[test]
    fn a_vector_is_shown_by_its_beginning() {
        assert_eq!(head(3, &[0.6, -0.8]), "3: length 1.0000, 2 numbers: 0.6000 -0.8000\n");
        assert_eq!(head(0, &[0.0; 7]), "0: length 0.0000, 7 numbers:".to_owned() + &" 0.0000".repeat(6) + " ...\n");
    }
}
