//! A client that speaks HTTP by hand, so that it can also speak it wrongly.
use crate::{Daemon, LIMIT};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

/// Where a daemon serves HTTP.
#[derive(Clone, Debug)]
pub struct Http {
    address: String,
}

/// An answer.
#[derive(Debug)]
pub struct HttpReply {
    /// Its status.
    pub status: u16,
    /// Its headers, with names in lowercase.
    pub headers: HashMap<String, String>,
    /// Its body, put together if it came in chunks.
    pub body: String,
}

impl HttpReply {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `data:` of each event of a stream.
    pub fn events(&self) -> Vec<String> {
        self.body.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }

    /// The error's message.
    #[track_caller]
    pub fn error(&self) -> String {
        let json = self.json();
        json["error"]["message"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

impl Http {
    /// The first network socket at which the daemon serves HTTP.
    #[track_caller]
    pub fn of(daemon: &Daemon) -> Http {
        let status = daemon.until("the front listens", |status| {
            status.http.as_ref().is_some_and(|http| http.pid.is_some() && !http.listen.is_empty())
        });
        let listen = status.http.map(|http| http.listen).unwrap_or_default();
        let address = listen.iter().find(|place| !place.starts_with("unix:")).expect("a network socket").clone();
        Http { address }
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("somebody listens");
        stream.set_read_timeout(Some(LIMIT)).expect("it is a socket");
        stream
    }

    /// Asks for a path.
    pub fn get(&self, path: &str) -> HttpReply {
        self.ask("GET", path, &[], "")
    }

    /// Sends JSON.
    pub fn post(&self, path: &str, body: &Value) -> HttpReply {
        self.ask("POST", path, &[], &body.to_string())
    }

    /// Asks with these headers.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> HttpReply {
        let mut stream = self.begin(method, path, headers, body);
        read_reply(&mut BufReader::new(&mut stream))
    }

    /// Sends a request and reads nothing.
    pub fn begin(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let mut stream = self.connect();
        let host = if headers.iter().any(|(name, _)| *name == "Host") { "" } else { "Host: localhost\r\n" };
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\n{host}{headers}Content-Length: {length}\r\n\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).expect("it is taken");
        stream
    }

    /// Sends bytes, and all that comes back until the other side closes the connection.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may close before all is sent.
        let _refused = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// A chat of one message.
pub fn chat(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0})
}

/// Reads one answer; such as say that it is still to come are skipped.
#[track_caller]
pub fn read_reply(stream: &mut impl BufRead) -> HttpReply {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a line comes");
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("no status: {line:?}"));
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).expect("a line comes");
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').expect("a header has a colon");
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        if (100..200).contains(&status) {
            continue;
        }
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
            loop {
                let mut size = String::new();
                stream.read_line(&mut size).expect("a size comes");
                let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
                let mut chunk = vec![0; size + 2];
                if stream.read_exact(&mut chunk).is_err() || size == 0 {
                    break;
                }
                body.extend_from_slice(&chunk[..size]);
            }
        } else if let Some(length) = headers.get("content-length").and_then(|length| length.parse().ok()) {
            body = vec![0; length];
            stream.read_exact(&mut body).expect("the body comes");
        }
        return HttpReply { status, headers, body: String::from_utf8_lossy(&body).into_owned() };
    }
}
