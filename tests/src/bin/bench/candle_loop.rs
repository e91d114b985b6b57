//! Candle's own way to generate, in a process of its own with the environment that a template gets.
//!
//! The loop is that of candle's `quantized` example at `--temperature 0 --repeat-penalty 1`, without its turning tokens into text.
//! The process takes turns with a worker: it runs the loop once for each line that it reads, so only one of them computes.
use crate::Result;
use candle_core::{Device, Tensor, quantized::gguf_file};
use candle_transformers::{
    generation::{LogitsProcessor, Sampling},
    models::quantized_llama::ModelWeights,
};
use ipc::ModelSpec;
use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};
use worker::{chain, engine};

/// Tokens of the prompt.
const PROMPT: usize = 32;
/// A beginning of this is the prompt.
const TEXT: &str = "It is a fine thing to know how long something takes, and a finer one to know why: whoever measures twice, \
    at different times and on different machines, will see the two differ and will ask what else was different that day, too.";

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    file: PathBuf,
    tokens: usize,
}

/// One run of the loop.
#[derive(Debug)]
pub(crate) struct Run {
    /// From the first token to the last.
    pub(crate) took: Duration,
    /// The tokens.
    pub(crate) ids: Vec<u32>,
}

/// The process that runs the loop, as its parent holds it.
#[derive(Debug)]
pub(crate) struct CandleLoop {
    child: Child,
    go: ChildStdin,
    lines: BufReader<ChildStdout>,
    /// The prompt, as a text.
    pub(crate) prompt: String,
}

impl CandleLoop {
    /// Starts it with a template's environment, and waits until it has loaded the file and run once. An answer is to have `tokens`
    /// tokens.
    pub(crate) fn start(file: &Path, tokens: usize, environment: Vec<(OsString, OsString)>) -> Result<CandleLoop> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("candle-loop").arg(file).arg(tokens.to_string()).env_clear().envs(environment);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(go), Some(lines)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("candle's loop has no pipes".into());
        };
        let mut candle = CandleLoop { child, go, lines: BufReader::new(lines), prompt: String::new() };
        candle.prompt = candle.line()?;
        Ok(candle)
    }

    /// Has it run once.
    pub(crate) fn run(&mut self) -> Result<Run> {
        writeln!(self.go, "go")?;
        let line = self.line()?;
        let mut numbers = line.split(' ');
        let nanoseconds = numbers.next().unwrap_or_default().parse()?;
        let ids = numbers.map(str::parse).collect::<std::result::Result<_, _>>()?;
        Ok(Run { took: Duration::from_nanos(nanoseconds), ids })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.lines.read_line(&mut line)? {
            0 => Err("candle's loop has ended".into()),
            _ => Ok(line.trim_end_matches('\n').to_owned()),
        }
    }
}

impl Drop for CandleLoop {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// Lives as the process that runs the loop.
pub(crate) fn run(Arguments { file, tokens }: &Arguments) -> Result<()> {
    let (text, prompt) = prompt(file)?;
    let mut reader = File::open(file)?;
    let content = gguf_file::Content::read(&mut reader)?;
    let mut model = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
    // The first run packs the weights; the template has done so, too.
    generate(&mut model, &prompt, 2)?;
    println!("{text}");
    for line in io::stdin().lock().lines() {
        line?;
        let Run { took, ids } = generate(&mut model, &prompt, *tokens)?;
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        println!("{} {}", took.as_nanos(), ids.join(" "));
    }
    Ok(())
}

/// The prompt as a text and as the ids that a worker makes of it.
fn prompt(file: &Path) -> Result<(&'static str, Vec<u32>)> {
    let path = file.to_string_lossy().into_owned();
    let spec = ModelSpec::new("candle", path);
    // Loading it makes this thread the whole of rayon's pool, as in a worker: the loop does not have to wait for another thread.
    let vocabulary = engine::load(&spec).map_err(|error| chain(&error))?.vocabulary;
    for end in 1..=TEXT.len() {
        let ids = vocabulary.encode(&TEXT[..end], true)?;
        if ids.len() >= PROMPT {
            return Ok((&TEXT[..end], ids));
        }
    }
    Err(format!("the prompt has fewer than {PROMPT} tokens").into())
}

fn generate(model: &mut ModelWeights, prompt: &[u32], tokens: usize) -> Result<Run> {
    let mut processor = LogitsProcessor::from_sampling(0, Sampling::ArgMax);
    let input = Tensor::new(prompt, &Device::Cpu)?.unsqueeze(0)?;
    let logits = model.forward(&input, 0)?.squeeze(0)?;
    let mut next = processor.sample(&logits)?;
    let mut ids = vec![next];
    let began = Instant::now();
    for index in 0..tokens.saturating_sub(1) {
        let input = Tensor::new(&[next], &Device::Cpu)?.unsqueeze(0)?;
        let logits = model.forward(&input, prompt.len() + index)?.squeeze(0)?;
        next = processor.sample(&logits)?;
        ids.push(next);
    }
    Ok(Run { took: began.elapsed(), ids })
}
