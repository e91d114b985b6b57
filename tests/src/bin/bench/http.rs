//! What HTTP adds to a request: the echo engine asked over the local socket and over HTTP, in turns;
//! and how many requests a second the front takes.
use crate::{
    Result,
    format::{duration, heading, reach},
    overhead::{CLIENTS, ask},
    sample::Sample,
    server::{Server, Serving},
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

/// What HTTP may add to half of all requests.
const REACH: Duration = Duration::from_micros(100);
/// What the front may take of memory.
const MEMORY: u64 = 8 << 20;
const TURNS: usize = 20;
const REQUESTS: usize = 500;

/// A connection that is kept, and asked for one token at a time.
struct Http(BufReader<TcpStream>);

impl Http {
    fn connect(address: &str) -> Result<Http> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Http(BufReader::new(stream)))
    }

    /// The status of one answer, which is read whole.
    fn ask(&mut self) -> Result<u16> {
        const BODY: &str = r#"{"prompt":"x","max_tokens":1}"#;
        let head =
            format!("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", BODY.len());
        self.0.get_mut().write_all(format!("{head}{BODY}").as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no status")?;
        let mut length = 0;
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse()?,
                Some(_) => {}
                None => break,
            }
        }
        self.0.read_exact(&mut vec![0; length])?;
        Ok(status)
    }
}

/// Measures round trips, then requests per second.
pub(crate) fn measure(seconds: Duration) -> Result<()> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let listen = "[http]\nlisten = [\"127.0.0.1:0\"]\n";
    let server = Server::start(Serving { isolation: "worker", also: listen, ..Serving::new("builtin:echo", cores) })?;
    let address = || -> Result<String> {
        let http = server.client()?.status()?.http.ok_or("there is no front")?;
        Ok(http.listen.first().ok_or("the front does not listen")?.clone())
    };
    let address = address()?;
    let (mut client, mut http) = (server.client()?, Http::connect(&address)?);
    let (mut local, mut over) = (Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        for _ in 0..REQUESTS {
            let began = Instant::now();
            ask(&mut client)?;
            local.push(began.elapsed());
        }
        for _ in 0..REQUESTS {
            let began = Instant::now();
            if http.ask()? != 200 {
                return Err("a request was refused".into());
            }
            over.push(began.elapsed());
        }
        if turn == 0 {
            // Nothing is warm yet.
            local.clear();
            over.clear();
        }
    }
    let (local, over) = (Sample::new(local).ok_or("no round trips")?, Sample::new(over).ok_or("no round trips")?);
    heading(
        "HTTP: the echo engine, one token, one client on a kept connection",
        &["way", "requests", "p50", "p99", "added to p50", "reach"],
    );
    let added = over.median().saturating_sub(local.median());
    for (way, sample, added) in [("local socket", &local, None), ("HTTP", &over, Some(added))] {
        println!(
            "| {way} | {} | {} | {} | {} | {} |",
            sample.count(),
            duration(sample.median()),
            duration(sample.percentile(99)),
            added.map_or("-".to_owned(), duration),
            added.map_or("-".to_owned(), |added| reach(&format!("at most {} added", duration(REACH)), added <= REACH)),
        );
    }
    heading(
        "HTTP: requests per second, from clients that keep their connections",
        &["clients", "requests / s", "p50", "p99", "refused"],
    );
    for clients in [10, CLIENTS, 64] {
        let (times, refused) = flood(&address, clients, seconds)?;
        let times = Sample::new(times).ok_or("nothing was answered")?;
        println!(
            "| {clients} | {:.0} | {} | {} | {refused} |",
            times.count() as f64 / seconds.as_secs_f64(),
            duration(times.median()),
            duration(times.percentile(99)),
        );
    }
    let pid = server.client()?.status()?.http.and_then(|http| http.pid).ok_or("there is no front")?;
    let memory = proportional(pid)?;
    let words = format!("{:.1} MB", memory as f64 / 1e6);
    println!("\nThe front takes {words} of memory by then ({}).", reach("at most 8 MB", memory <= MEMORY));
    Ok(())
}

/// Keeps clients asking. Returns how long each answer took, and how many were refused.
fn flood(address: &str, clients: usize, length: Duration) -> Result<(Vec<Duration>, usize)> {
    const WARM_UP: Duration = Duration::from_millis(500);
    let began = Instant::now() + WARM_UP;
    let asked = thread::scope(|scope| {
        let ask = || -> std::result::Result<(Vec<Duration>, usize), String> {
            let mut http = Http::connect(address).map_err(|error| error.to_string())?;
            let (mut times, mut refused) = (Vec::new(), 0);
            loop {
                let asked = Instant::now();
                let status = http.ask().map_err(|error| error.to_string())?;
                match Instant::now() {
                    now if now >= began + length => return Ok((times, refused)),
                    now if now >= began && status == 200 => times.push(now - asked),
                    now if now >= began => refused += 1,
                    _ => {}
                }
            }
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a client panicked".to_owned())?).collect::<Vec<_>>()
    });
    let mut all = (Vec::new(), 0);
    for one in asked {
        let (times, refused) = one?;
        all.0.extend(times);
        all.1 += refused;
    }
    Ok(all)
}

/// The process's proportional share of memory, in bytes.
fn proportional(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(system::proc::bytes(&text, "Pss:").ok_or("it has no Pss")?)
}
