//! The status as people read it: the page that `supervisor status` prints.
//!
//! It is a pure function of the status document. Everything in that document that came from
//! elsewhere (a worker's stderr, an error, a name, a path) is escaped, so that none of it can drive
//! the terminal or pass for a line of the page. It has no colours and does not look at the
//! terminal: the caller knows how wide that is.
#[cfg(test)]
mod tests;

use bytesize::ByteSize;
use ipc::status::{Crash, HttpStatus, ModelStatus, Status, TemplateStatus, Totals, WorkerStatus};
use std::fmt::Display;
use system::foreign_text::{Escaped, shorten};

const HEADS: [&str; 12] =
    ["SLOT", "GEN", "PID", "STATE", "REQUEST", "PHASE", "TOKENS", "TOK/S", "THREADS", "PRIVATE", "AGE", "SANDBOX"];
/// The columns of words, which begin at the left; numbers end at the right.
const WORDS: [usize; 4] = [3, 4, 5, SANDBOX];
const SANDBOX: usize = 11;
/// The columns that a narrow page goes without, the first one first: SANDBOX, GEN, THREADS, PHASE,
/// AGE.
const SPARED: [usize; 5] = [SANDBOX, 1, 8, 5, 10];
const GAP: usize = 2;
/// Labels are padded to this, and what does not fit a line goes on under its beginning.
const INDENT: usize = 13;
/// A longer text is cut.
const LONGEST_TEXT: usize = 500;

/// The page for `status`, at most `width` columns wide where that is possible. It ends in a
/// newline.
pub(crate) fn render(status: &Status, width: Option<usize>) -> String {
    let mut page = Page { text: String::new(), width };
    let cores = if status.cores == 1 { "core" } else { "cores" };
    let (version, up) = (escaped(&status.version), duration(status.uptime_s));
    let mut title = format!("supervisor {version}, pid {}, up {up}, {} {cores}", status.pid, status.cores);
    if !matches!(status.state.as_str(), "" | "serving") {
        title.push_str(&format!(", {}", escaped(&status.state)));
    }
    page.paragraph("", 2, &title);
    if let Some(error) = &status.reload_error {
        page.paragraph("", 2, &format!("the last reload has changed nothing: {}", escaped(error)));
    }
    if let Some(http) = &status.http {
        page.http(http);
    }
    for model in &status.models {
        page.line("");
        page.model(model);
    }
    page.text
}

struct Page {
    text: String,
    width: Option<usize>,
}

impl Page {
    fn http(&mut self, http: &HttpStatus) {
        let places: Vec<_> = http.listen.iter().map(|place| escaped(place)).collect();
        let count = |number: u64, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let words = match http.pid {
            Some(pid) if !places.is_empty() => {
                let (open, asked) = (count(http.connections, "connection"), count(http.requests, "request"));
                format!("HTTP at {}, pid {pid}, {open}, {asked}", places.join(", "))
            }
            _ => "HTTP: nobody listens".to_owned(),
        };
        self.paragraph("", 2, &words);
        if let Some(crash) = &http.last_crash {
            self.crash(crash);
        }
    }

    fn model(&mut self, model: &ModelStatus) {
        let mut title = format!("{}: {}", escaped(&model.name), escaped(&model.state));
        if let Some(seconds) = model.retry_in_s {
            title.push_str(&format!(", next try in {} at the earliest", duration(seconds)));
        }
        self.paragraph("", 2, &title);
        if let Some(error) = &model.error {
            self.labelled("error", &escaped(error));
        }
        let mut about = vec![escaped(&model.path)];
        about.extend(model.architecture.as_deref().map(escaped));
        about.push(escaped(&model.kind));
        about.extend(model.context.map(|tokens| format!("{tokens} tokens of context")));
        self.labelled("model", &about.join(", "));
        if let Some(template) = &model.template {
            self.labelled("template", &template_words(template));
        }
        if let Some(words) = memory_words(model) {
            self.labelled("memory", &words);
        }
        let mut queue = format!("{}/{}", model.queue.length, model.queue.limit);
        if model.queue.length > 0 {
            queue.push_str(&format!(", the oldest for {}", duration(model.queue.oldest_s)));
        }
        self.labelled("queue", &queue);
        self.labelled("requests", &request_words(&model.totals));
        self.labelled("workers", &worker_words(model));
        // Of a model that is not there, each slot would say the same.
        if model.state == "warm" || model.workers.iter().any(|worker| worker.pid.is_some()) {
            self.workers(&model.workers);
        }
        if let Some(crash) = &model.last_crash {
            self.crash(crash);
        }
    }

    fn workers(&mut self, workers: &[WorkerStatus]) {
        if workers.is_empty() {
            return;
        }
        let mut rows = vec![HEADS.map(str::to_string)];
        rows.extend(workers.iter().map(cells));
        let widths: Vec<usize> = (0..HEADS.len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut shown: Vec<usize> = (0..HEADS.len()).collect();
        let mut hidden = Vec::new();
        for column in SPARED {
            let needed = shown.iter().map(|column| GAP + widths[*column]).sum::<usize>();
            if self.width.is_none_or(|width| needed <= width) {
                break;
            }
            shown.retain(|other| *other != column);
            hidden.push(column);
        }
        if hidden.contains(&SANDBOX) {
            let mut sandboxes: Vec<_> = workers.iter().filter_map(|worker| worker.sandbox.as_deref()).collect();
            sandboxes.sort_unstable();
            sandboxes.dedup();
            if !sandboxes.is_empty() {
                self.labelled("sandbox", &escaped(&sandboxes.join(", ")));
            }
        }
        self.line("");
        for row in &rows {
            let mut line = String::new();
            for column in &shown {
                let (cell, width) = (&row[*column], widths[*column]);
                line.push_str(&" ".repeat(GAP));
                if WORDS.contains(column) {
                    line.push_str(&format!("{cell:<width$}"));
                } else {
                    line.push_str(&format!("{cell:>width$}"));
                }
            }
            self.line(&line);
        }
        let missing: Vec<_> = hidden.iter().filter(|column| **column != SANDBOX).map(|column| HEADS[*column]).collect();
        if !missing.is_empty() {
            self.paragraph("  ", 2, &format!("(too narrow for {}; --json has everything)", missing.join(", ")));
        }
    }

    fn crash(&mut self, crash: &Crash) {
        let process = match crash.slot {
            Some(slot) => format!("worker in slot {slot}, pid {}", crash.pid),
            None => format!("template, pid {}", crash.pid),
        };
        let mut words = format!("{process}: {}", escaped(&crash.cause));
        if let Some(request) = &crash.request {
            words.push_str(&format!(", serving {}", escaped(request)));
        }
        words.push_str(&format!(", at {}", escaped(&crash.at)));
        self.line("");
        self.labelled("last crash", &words);
        for line in &crash.stderr {
            self.line(&format!("    | {}", escaped(line)));
        }
    }

    fn labelled(&mut self, label: &str, words: &str) {
        self.paragraph(&format!("{:<INDENT$}", format!("  {label}")), INDENT, words);
    }

    /// Writes the words after `head`, and those that do not fit on further lines with this indent.
    /// No word is split.
    fn paragraph(&mut self, head: &str, indent: usize, words: &str) {
        let width = self.width.unwrap_or(usize::MAX);
        let mut line = head.to_string();
        let mut bare = true;
        for word in words.split(' ') {
            if !bare && line.chars().count() + 1 + word.chars().count() > width {
                self.line(&line);
                line = " ".repeat(indent);
                bare = true;
            }
            if !bare {
                line.push(' ');
            }
            line.push_str(word);
            bare = false;
        }
        self.line(&line);
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }
}

fn template_words(template: &TemplateStatus) -> String {
    let mut words = vec![format!("pid {}", template.pid)];
    words.push(template.load_s.map_or("loading".to_string(), |seconds| format!("loaded in {}", duration(seconds))));
    words.extend(template.pss_bytes.map(size));
    if template.generation > 1 {
        words.push(format!("generation {}", template.generation));
    }
    words.join(", ")
}

/// What a model's processes take, against its files; nothing before both are known.
fn memory_words(model: &ModelStatus) -> Option<String> {
    let files = model.weights_bytes.filter(|bytes| *bytes > 0)?;
    let template = model.template.as_ref()?.pss_bytes?;
    let sum = |of: fn(&WorkerStatus) -> Option<u64>| model.workers.iter().filter_map(of).fold(0, u64::saturating_add);
    let all = template.saturating_add(sum(|worker| worker.pss_bytes));
    let times = all as f64 / files as f64;
    let own = sum(|worker| worker.private_bytes);
    Some(format!(
        "{} of files, {} in all processes ({times:.2} times that), {} of workers alone",
        size(files),
        size(all),
        size(own)
    ))
}

fn request_words(totals: &Totals) -> String {
    let counts = [
        (totals.accepted, "accepted"),
        (totals.answered, "answered"),
        (totals.refused, "refused"),
        (totals.failed, "failed"),
        (totals.cancelled, "cancelled"),
        (totals.timed_out, "timed out"),
        (totals.replayed, "replayed"),
        (totals.resumed, "resumed"),
    ];
    let words: Vec<_> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if words.is_empty() { "none yet".to_string() } else { words.join(", ") }
}

fn worker_words(model: &ModelStatus) -> String {
    let mut words = match model.isolation.as_str() {
        "request" => "a fresh process for each request".to_string(),
        "worker" => "a process for many requests".to_string(),
        other => escaped(other),
    };
    for (count, word) in [(model.totals.worker_exits, "ended"), (model.totals.worker_crashes, "crashed")] {
        if count > 0 {
            words.push_str(&format!(", {count} {word}"));
        }
    }
    words
}

fn cells(worker: &WorkerStatus) -> [String; HEADS.len()] {
    // What a worker has computed and how old it is says nothing while it has no request or no
    // process.
    let serving = worker.request.is_some();
    let lives = worker.pid.is_some();
    let prompt = worker.phase.as_deref() == Some("prompt");
    let tokens = if prompt { worker.prompt_tokens } else { worker.tokens };
    let rate = worker.tokens_per_s.map(|rate| format!("{rate:.1}"));
    [
        worker.slot.to_string(),
        worker.generation.to_string(),
        or_dash(worker.pid),
        escaped(&worker.state),
        or_dash(worker.request.as_deref().map(escaped)),
        or_dash(worker.phase.as_deref().map(escaped)),
        or_dash(serving.then_some(tokens)),
        or_dash(rate.filter(|_| serving)),
        or_dash(lives.then_some(worker.threads)),
        or_dash(worker.private_bytes.map(size)),
        or_dash(lives.then(|| duration(worker.age_s))),
        or_dash(worker.sandbox.as_deref().map(escaped)),
    ]
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or("-".to_string(), |value| value.to_string())
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().si().to_string()
}

/// Seconds, cut and never rounded up, so that no minute has 60 of them.
fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86400);
    if whole < 10 {
        format!("{:.1} s", (seconds.max(0.0) * 10.0).floor() / 10.0)
    } else if minutes == 0 {
        format!("{whole} s")
    } else if hours == 0 {
        format!("{minutes} m {:02} s", whole % 60)
    } else if days == 0 {
        format!("{hours} h {:02} m", minutes % 60)
    } else {
        format!("{days} d {:02} h", hours % 24)
    }
}

/// The text, not too long, with everything that is not plainly visible written out as in a string
/// literal.
fn escaped(text: &str) -> String {
    Escaped(&shorten(text, LONGEST_TEXT)).to_string()
}
