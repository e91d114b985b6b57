//! How soon an answer goes on when its worker is killed behind a long prompt: from `kill -9` to the
//! start of the next token.
use crate::{
    Model, Result,
    format::{duration, heading, reach},
    sample::Sample,
    server::{Server, Serving},
};
use integration_tests::{Signal, process};
use ipc::{GenerateRequest, Response, TokenizeRequest};
use std::time::{Duration, Instant};

/// Tokens of the prompt, about.
const PROMPT: usize = 1_500;
/// Tokens before the kill, and after it.
const TOKENS: u32 = 8;
const REACH: Duration = Duration::from_millis(100);

/// Measures the large models; a small one computes such a prompt in no time.
pub(crate) fn measure(models: &[Model]) -> Result<()> {
    const TURNS: usize = 5;
    heading(
        &format!("Going on with an answer after kill -9, behind a prompt of about {PROMPT} tokens, {TURNS} turns"),
        &["model", "prompt", "kill to the next token's start, median (most)", "same text", "reach"],
    );
    for model in models.iter().filter(|model| model.is_large) {
        let path = model.file.to_string_lossy();
        let server = Server::start(Serving::new(&path, 1))?;
        let text = prompt(&server)?;
        server.settle()?;
        let whole = answer(&server, &text, false)?;
        let mut delays = Vec::new();
        let mut same = true;
        for _ in 0..TURNS {
            server.settle()?;
            let killed = answer(&server, &text, true)?;
            same &= killed.ids == whole.ids;
            delays.push(killed.delay);
        }
        let delays = Sample::new(delays).ok_or("no turn")?;
        println!(
            "| {} | {} | {} ({}) | {} | {} |",
            model.name,
            whole.prompt,
            duration(delays.median()),
            duration(delays.range().1),
            if same { "yes" } else { "NO" },
            reach("below 100 ms", delays.median() < REACH && same),
        );
    }
    Ok(())
}

/// A text of so many tokens.
fn prompt(server: &Server) -> Result<String> {
    const WORDS: usize = 100;
    let text = "word ".repeat(WORDS);
    let tokens = server.client()?.tokenize(TokenizeRequest { model: None, text, special: false })?.len();
    Ok("word ".repeat(PROMPT * WORDS / tokens.max(1)))
}

struct Answer {
    ids: Vec<u32>,
    prompt: u32,
    delay: Duration,
}

/// One answer, whose worker is killed in the middle if `kill` says so.
fn answer(server: &Server, text: &str, kill: bool) -> Result<Answer> {
    let mut request = GenerateRequest::raw(text);
    request.max_tokens = Some(2 * TOKENS);
    request.ignore_end = true;
    let mut client = server.client()?;
    let (mut ids, mut gaps) = (Vec::new(), Vec::new());
    let (mut killed, mut delay, mut last) = (None, Duration::ZERO, Instant::now());
    for response in client.generate(request)? {
        match response? {
            Response::Piece { token, .. } => {
                ids.push(token);
                if let Some(killed) = killed.take() {
                    delay = Instant::now() - killed;
                } else if ids.len() > 1 {
                    gaps.push(last.elapsed());
                }
                last = Instant::now();
                if kill && ids.len() == TOKENS as usize {
                    let busy = server.client()?.status()?.models.into_iter().flat_map(|model| model.workers);
                    let pid = busy.filter(|worker| worker.state == "busy").find_map(|worker| worker.pid);
                    process::kill(pid.ok_or("no worker is busy")?, Signal::SIGKILL);
                    killed = Some(Instant::now());
                }
            }
            Response::Done(done) => {
                // What is waited for is the next token; it starts one token earlier.
                let token = Sample::new(gaps).ok_or("no token")?.median();
                return Ok(Answer { ids, prompt: done.prompt_tokens, delay: delay.saturating_sub(token) });
            }
            _ => {}
        }
    }
    Err("the answer has no end".into())
}
