//! A blocking client: one text, piece by piece, and what the daemon runs.
//!
//! `cargo run -p ipc --features client --example blocking -- "Spell cloud."` asks the daemon at the
//! usual socket, or at the one that `SUPERVISOR_SOCKET` names.
use ipc::{Client, GenerateRequest, Response};
use std::{
    env,
    error::Error,
    io::{self, Write},
};

fn main() -> Result<(), Box<dyn Error>> {
    let prompt = env::args().nth(1).unwrap_or_else(|| "Spell cloud.".to_owned());
    let mut client = Client::connect(&ipc::default_socket()?)?;

    let request = GenerateRequest { max_tokens: Some(64), ..GenerateRequest::chat(prompt) };
    for response in client.generate(request)? {
        match response? {
            Response::Piece { text, .. } => {
                print!("{text}");
                io::stdout().flush()?;
            }
            // Text that was held back, as it might have been the beginning of a stop string.
            Response::Done(done) => println!("{}", done.text),
            _ => {}
        }
    }

    // The answer has been read to its end, so the connection is free for the next request.
    let status = client.status()?;
    for model in &status.models {
        println!("{}: {}", model.name, model.state);
    }
    Ok(())
}
