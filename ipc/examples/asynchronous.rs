//! A tokio client: two texts at the same time, on a connection each, and vectors if a model makes
//! them.
//!
//! `cargo run -p ipc --features client,tokio --example asynchronous -- "Spell cloud." "Spell
//! rain."` asks the daemon at the usual socket, or at the one that `SUPERVISOR_SOCKET` names.
use ipc::{AsyncClient, ClientError, EmbedRequest, GenerateRequest, Response, TextRole};
use std::{env, error::Error, path::Path};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut prompts = env::args().skip(1);
    let first = prompts.next().unwrap_or_else(|| "Spell cloud.".to_owned());
    let second = prompts.next().unwrap_or_else(|| "Spell rain.".to_owned());
    let socket = ipc::default_socket()?;

    let (first, second) = tokio::try_join!(generate(&socket, first), generate(&socket, second))?;
    println!("{first}\n{second}");

    let status = AsyncClient::connect(&socket).await?.status().await?;
    for model in status.models.iter().filter(|model| model.kind == "embed") {
        let length = embed(&socket, &model.name, "The weather is lovely today.").await?;
        println!("{}: a vector of {length} numbers", model.name);
    }
    Ok(())
}

/// The whole answer to a conversation of one message.
async fn generate(socket: &Path, prompt: String) -> Result<String, ClientError> {
    let mut client = AsyncClient::connect(socket).await?;
    let request = GenerateRequest { max_tokens: Some(64), ..GenerateRequest::chat(prompt) };
    let mut answer = client.generate(request).await?;
    let mut text = String::new();
    while let Some(response) = answer.next().await {
        match response? {
            Response::Piece { text: piece, .. } => text.push_str(&piece),
            Response::Done(done) => text.push_str(&done.text),
            _ => {}
        }
    }
    Ok(text)
}

/// The length of a text's vector.
async fn embed(socket: &Path, model: &str, text: &str) -> Result<usize, ClientError> {
    let mut client = AsyncClient::connect(socket).await?;
    let request = EmbedRequest { model: Some(model.to_owned()), texts: vec![text.to_owned()], role: TextRole::Plain };
    let mut answer = client.embed(request).await?;
    let mut length = 0;
    while let Some(response) = answer.next().await {
        if let Response::Vectors { vectors, .. } = response? {
            length = vectors.first().map_or(0, Vec::len);
        }
    }
    Ok(length)
}
