//! `supervisor generate`: one answer, streamed to the standard output.
use super::{SocketArgument, error::CliError, exit_when_interrupted, print, prompt};
use ipc::{ChatMessage, Client, ClientError, Done, GenerateRequest, Prompt, Response, Role, Sampling};
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    socket: SocketArgument,
    /// The model; with only one it need not be named
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Most tokens of the answer [default: as many as the context holds]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_tokens: Option<u32>,
    /// Divides the logits; 0 takes the likeliest token always
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f32,
    /// Only the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f32,
    /// Only the likeliest K tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0, allow_negative_numbers = true)]
    top_k: u32,
    /// Only tokens of at least this share of the likeliest one's probability; 0 for all
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f32,
    /// The seed of sampling [default: a new one]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    seed: Option<u64>,
    /// Makes tokens among the last 64 less likely; 1 for no penalty
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    repeat_penalty: f32,
    /// Makes tokens less likely for each time they were generated
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// Makes tokens that were generated less likely
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// End the answer before this text; may be given more than once
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// What the chat template is told, as enable_thinking=false; a value that is no JSON is a text
    #[arg(long = "template-var", value_name = "NAME=VALUE", value_parser = template_var, conflicts_with = "raw")]
    template_vars: Vec<(String, Value)>,
    /// The prompt is a conversation: a JSON list of messages in OpenAI's shape
    #[arg(long, conflicts_with_all = ["raw", "system"])]
    messages: bool,
    /// Continue the prompt as it is, without the model's chat template
    #[arg(long)]
    raw: bool,
    /// Print one JSON object when the answer is complete
    #[arg(long)]
    json: bool,
    /// The prompt; - reads it from the standard input, without its last end of line
    #[arg(required = true, value_name = "PROMPT")]
    prompt: Vec<String>,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), CliError> {
    exit_when_interrupted()?;
    let text = prompt(&arguments.prompt, ipc::MAX_REQUEST)?;
    let socket = arguments.socket.path()?;
    let json = arguments.json;
    let request = arguments.request(text)?;
    let mut client = Client::connect(&socket)?;
    let mut output = Output { text: String::new(), streamed: !json };
    let mut named = None;
    for response in client.generate(request)? {
        match response? {
            Response::Accepted { request, model } => named = Some((request, model)),
            Response::Piece { text, .. } => output.add(&text)?,
            Response::Done(done) => {
                output.add(&done.text)?;
                let (id, model) = named.take().ok_or(ClientError::Nonsense)?;
                return output.finish(|text| {
                    let Done { finish, prompt_tokens, completion_tokens, attempts, seed, .. } = done;
                    json!({
                        "id": id.to_string(), "model": model, "text": text, "finish_reason": finish, "seed": seed,
                        "attempts": attempts,
                        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
                            "total_tokens": u64::from(prompt_tokens) + u64::from(completion_tokens)},
                        "timing": {"wait_s": seconds(done.wait_us), "first_piece_s": seconds(done.first_piece_us),
                            "last_piece_s": done.last_piece_us.map(seconds), "total_s": seconds(done.total_us)},
                    })
                });
            }
            _ => return Err(ClientError::Nonsense.into()),
        }
    }
    Err(ClientError::Closed.into())
}

impl Arguments {
    fn request(self, text: String) -> Result<GenerateRequest, CliError> {
        let prompt = if self.raw {
            Prompt::Raw(text)
        } else if self.messages {
            Prompt::Chat(messages(&text)?)
        } else {
            let system = self.system.map(|system| ChatMessage::new(Role::System, system));
            Prompt::Chat(system.into_iter().chain([ChatMessage::new(Role::User, text)]).collect())
        };
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            seed: self.seed,
            repeat_penalty: self.repeat_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
        };
        Ok(GenerateRequest {
            model: self.model,
            max_tokens: self.max_tokens,
            sampling,
            stop: self.stop,
            template_vars: self.template_vars.into_iter().collect(),
            ..GenerateRequest::new(prompt)
        })
    }
}

/// A variable and its value.
fn template_var(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("it must be NAME=VALUE")?;
    if let Some(json) =
        [("True", "true"), ("False", "false"), ("None", "null")].into_iter().find(|(python, _)| *python == value)
    {
        let (python, json) = json;
        return Err(format!("values are JSON: write {json}, or '\"{python}\"' for the text"));
    }
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

/// The messages of a JSON list, or of an object as it is sent to OpenAI's API.
fn messages(text: &str) -> Result<Vec<ChatMessage>, CliError> {
    /// What an object may hold: all else would be dropped without a word.
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Conversation {
        messages: Value,
    }
    let given: Value = serde_json::from_str(text).map_err(CliError::Messages)?;
    let messages = match given {
        Value::Object(_) => serde_json::from_value::<Conversation>(given).map_err(CliError::Messages)?.messages,
        list => list,
    };
    let request: GenerateRequest =
        serde_json::from_value(json!({ "messages": messages })).map_err(CliError::Messages)?;
    match request.prompt {
        Prompt::Chat(messages) => Ok(messages),
        Prompt::Raw(_) => Ok(Vec::new()),
    }
}

/// What is printed: pieces as they come, or one object at the end.
struct Output {
    text: String,
    streamed: bool,
}

impl Output {
    fn add(&mut self, piece: &str) -> Result<(), CliError> {
        self.text.push_str(piece);
        if self.streamed { print(piece) } else { Ok(()) }
    }

    fn finish(self, object: impl FnOnce(&str) -> Value) -> Result<(), CliError> {
        match self.streamed {
            true if self.text.ends_with('\n') => Ok(()),
            true => print("\n"),
            false => print(&format!("{}\n", object(&self.text))),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of one request")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
