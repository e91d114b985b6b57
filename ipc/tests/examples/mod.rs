//! One value of each variant of each conversation's type at least, with every field filled and no
//! two fields alike.
//!
//! The matches that name a variant's file have no `_`, so a new variant does not compile before it
//! has a file.
use ipc::{
    ChatMessage, Content, ContentPart, Control, Done, EmbedJob, EmbedRequest, Embedded, Failure, FailureKind,
    FinishReason, Forked, FromTemplate, FromWorker, GenerateRequest, Go, Job, JobPrompt, Life, Message, ModelInfo,
    ModelKind, ModelSpec, Needs, Precision, Prompt, Request, RequestId, Response, Role, Sampling, Sandbox,
    TemplateVars, TextRole, ToTemplate, ToWorker, TokenCounts, TokenizeJob, TokenizeRequest, ToolCall,
    status::{Crash, ModelStatus, QueueStatus, Status, TemplateStatus, Totals, WorkerStatus},
};
use std::{collections::BTreeMap, fmt::Debug};

/// A type whose values travel in frames of their own.
pub(crate) trait Conversation: Message + PartialEq + Debug {
    /// Most payload bytes.
    const LIMIT: usize;

    /// The stem of the file for frames of this value's variant.
    fn file(&self) -> &'static str;

    /// Values of all variants.
    fn examples() -> Vec<Self>;

    /// The frame of this value.
    fn to_frame(&self) -> Vec<u8> {
        ipc::frame(&ipc::encode(self).unwrap(), Self::LIMIT).unwrap()
    }

    /// The examples, by the name of the file that they are in.
    fn by_file() -> BTreeMap<String, Vec<Self>> {
        let mut files = BTreeMap::<_, Vec<_>>::new();
        for value in Self::examples() {
            files.entry(format!("{}.bin", value.file())).or_default().push(value);
        }
        files
    }
}

fn files<T: Conversation>() -> impl Iterator<Item = (String, Vec<u8>)> {
    T::by_file().into_iter().map(|(name, values)| (name, values.iter().flat_map(T::to_frame).collect()))
}

/// The names and bytes of the client conversation's files, which are kept.
pub(crate) fn client_files() -> Vec<(String, Vec<u8>)> {
    files::<Request>().chain(files::<Response>()).collect()
}

/// The same of the private conversations, whose bytes may change at any time.
pub(crate) fn private_files() -> Vec<(String, Vec<u8>)> {
    let workers = files::<ToWorker>().chain(files::<FromWorker>());
    workers.chain(files::<ToTemplate>()).chain(files::<FromTemplate>()).collect()
}

const KINDS: [FailureKind; 16] = [
    FailureKind::BadRequest,
    FailureKind::Protocol,
    FailureKind::NotAllowed,
    FailureKind::UnknownModel,
    FailureKind::TooLong,
    FailureKind::Busy,
    FailureKind::Unavailable,
    FailureKind::TimedOut,
    FailureKind::WorkersDied,
    FailureKind::Poisonous,
    FailureKind::ShuttingDown,
    FailureKind::Engine,
    FailureKind::Cancelled,
    FailureKind::Draining,
    FailureKind::ModelChanged,
    FailureKind::Other,
];

fn sampling() -> Sampling {
    Sampling {
        temperature: 0.75,
        top_k: 40,
        top_p: 0.875,
        min_p: 0.0,
        seed: Some(0x0102_0304_0506_0708),
        repeat_penalty: 1.125,
        frequency_penalty: 0.25,
        presence_penalty: -0.5,
    }
}

fn conversation() -> Prompt {
    Prompt::Chat(vec![
        ChatMessage::new(Role::System, "Be brief."),
        ChatMessage::new(Role::User, "Wie hei\u{df}t du? \u{1f600}"),
        ChatMessage::new(Role::Assistant, "Pocket.\n\u{1b}\"\\"),
        ChatMessage::new(Role::User, "And I?"),
    ])
}

/// All that the wire can say of a turn, whether it is served or not.
fn rich_conversation() -> Prompt {
    let parts = vec![
        ContentPart::Text("What is this?".into()),
        ContentPart::ImageUrl { url: "data:image/png;base64,AA==".into(), detail: Some("low".into()) },
        ContentPart::ImageUrl { url: "https://example.org/a.png".into(), detail: None },
        ContentPart::InputAudio { data: "AAAA".into(), format: "wav".into() },
        ContentPart::Refusal("I cannot say.".into()),
    ];
    let call = ToolCall { id: "call-1".into(), name: "weather".into(), arguments: "{\"city\":\"Bonn\"}".into() };
    Prompt::Chat(vec![
        ChatMessage { content: Content::Parts(parts), name: Some("Ada".into()), ..ChatMessage::new(Role::User, "") },
        ChatMessage {
            content: Content::Null,
            tool_calls: vec![call],
            reasoning_content: Some("I must look.".into()),
            ..ChatMessage::new(Role::Assistant, "")
        },
        ChatMessage { tool_call_id: Some("call-1".into()), ..ChatMessage::new(Role::Tool, "rain") },
    ])
}

fn status() -> Status {
    let crash = Crash {
        pid: 20,
        slot: Some(0),
        cause: "signal 9".into(),
        at: "2026-01-01T00:00:00Z".into(),
        request: Some("req-1".into()),
        stderr: vec!["the last line".into()],
    };
    let worker = WorkerStatus {
        slot: 0,
        generation: 3,
        pid: Some(21),
        state: "busy".into(),
        request: Some("req-17".into()),
        owner: None,
        phase: Some("decode".into()),
        age_s: 3.25,
        prompt_tokens: 4,
        tokens: 40,
        tokens_per_s: Some(31.5),
        threads: 2,
        private_bytes: Some(8_192),
        pss_bytes: Some(9_216),
        memory_age_s: Some(1.5),
        sandbox: Some("seccomp".into()),
    };
    let template = TemplateStatus {
        pid: 9,
        load_s: Some(0.5),
        pss_bytes: Some(4_096),
        generation: 1,
        sandbox: Some("seccomp+landlock".into()),
    };
    let model = ModelStatus {
        name: "pocket".into(),
        kind: "generate".into(),
        state: "warm".into(),
        error: Some("why".into()),
        retry_in_s: Some(2.5),
        path: "builtin:pocket".into(),
        architecture: Some("llama".into()),
        context: Some(512),
        isolation: "request".into(),
        weights_bytes: Some(668_000),
        template: Some(template),
        queue: QueueStatus { length: 1, limit: 64, oldest_s: 0.125 },
        workers: vec![worker],
        totals: Totals {
            accepted: 20,
            answered: 11,
            refused: 1,
            failed: 2,
            cancelled: 3,
            timed_out: 4,
            replayed: 5,
            resumed: 6,
            worker_exits: 21,
            worker_crashes: 7,
        },
        last_crash: Some(crash),
    };
    Status {
        version: "0.1.0".into(),
        pid: 7,
        uptime_s: 12.5,
        cores: 4,
        models: vec![model],
        state: "serving".into(),
        reload_error: Some("unread".into()),
        // Fields that came later are left out where they say nothing.
        http: None,
    }
}

impl Conversation for Request {
    const LIMIT: usize = ipc::MAX_REQUEST;

    fn file(&self) -> &'static str {
        match self {
            Request::Generate(_) => "request-generate",
            Request::Status => "request-status",
            Request::Embed(_) => "request-embed",
            Request::Tokenize(_) => "request-tokenize",
            Request::Control(_) => "request-control",
        }
    }

    fn examples() -> Vec<Request> {
        let filled = GenerateRequest {
            model: Some("pocket".into()),
            prompt: conversation(),
            max_tokens: Some(300),
            sampling: sampling(),
            stop: vec!["\n\n".into(), "END".into()],
            ignore_end: true,
            template_vars: TemplateVars::new(),
        };
        let variables = [("effort", "high".into()), ("enable_thinking", false.into())];
        let told = GenerateRequest {
            template_vars: variables.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
            ..GenerateRequest::chat("Spell cloud.")
        };
        let least = GenerateRequest {
            sampling: Sampling { temperature: 1.0, min_p: 0.0625, ..Sampling::default() },
            ..GenerateRequest::raw("Once upon a time")
        };
        let plain = GenerateRequest::raw("Once upon a time");
        let embed = EmbedRequest {
            model: Some("minilm".into()),
            texts: vec!["The weather is lovely today.".into(), String::new()],
            role: TextRole::Query,
        };
        let tokenize = TokenizeRequest { model: None, text: "<|im_end|> is special".into(), special: true };
        vec![
            Request::Generate(Box::new(filled)),
            Request::Generate(Box::new(plain)),
            Request::Generate(Box::new(GenerateRequest::chat("Spell cloud."))),
            Request::Generate(Box::new(GenerateRequest::new(rich_conversation()))),
            Request::Status,
            Request::Embed(Box::new(EmbedRequest { model: None, role: TextRole::Plain, ..embed.clone() })),
            Request::Embed(Box::new(embed)),
            Request::Tokenize(Box::new(tokenize)),
            Request::Control(Control::Reload),
            Request::Control(Control::Drain),
            Request::Control(Control::EndDrain),
            Request::Control(Control::Stop { now: false }),
            Request::Control(Control::Stop { now: true }),
            Request::Control(Control::Restart { model: None, slot: None }),
            Request::Control(Control::Restart { model: Some("pocket".into()), slot: Some(300) }),
            Request::Generate(Box::new(told)),
            Request::Generate(Box::new(least)),
        ]
    }
}

impl Conversation for Response {
    const LIMIT: usize = ipc::MAX_FRAME;

    fn file(&self) -> &'static str {
        match self {
            Response::Accepted { .. } => "response-accepted",
            Response::Started { .. } => "response-started",
            Response::Piece { .. } => "response-piece",
            Response::Done(_) => "response-done",
            Response::Failed(_) => "response-failed",
            Response::Status(_) => "response-status",
            Response::Vectors { .. } => "response-vectors",
            Response::Embedded(_) => "response-embedded",
            Response::Tokenized { .. } => "response-tokenized",
            Response::Notice(_) => "response-notice",
            Response::Controlled => "response-controlled",
            Response::Other(_) => unreachable!("it is never sent"),
        }
    }

    fn examples() -> Vec<Response> {
        let done = Done {
            text: "held".into(),
            finish: FinishReason::Stop,
            prompt_tokens: 251,
            completion_tokens: 65_536,
            attempts: 2,
            seed: u64::MAX,
            wait_us: 1_001,
            first_piece_us: 20_002,
            last_piece_us: None,
            total_us: 5_000_000_003,
        };
        let cut = Done { text: String::new(), finish: FinishReason::Length, ..done.clone() };
        let failed = KINDS.iter().zip(1..).map(|(kind, number)| Failure {
            kind: *kind,
            message: format!("reason {number}"),
            retry_after_ms: (number % 2 == 0).then_some(number * 1000),
        });
        let mut examples = vec![
            Response::Accepted { request: RequestId(17), model: "pocket".into() },
            Response::Started { prompt_tokens: 251 },
            Response::Piece { text: "\u{e9}t\u{e9}".into(), token: 1_535 },
            Response::Piece { text: String::new(), token: 195 },
            Response::Done(done.clone()),
            Response::Done(cut),
            Response::Done(Done { finish: FinishReason::Other, ..done.clone() }),
            Response::Done(Done { last_piece_us: Some(5_000_000_002), ..done }),
        ];
        examples.extend(failed.map(Response::Failed));
        examples.push(Response::Status(Box::new(status())));
        let embedded = Embedded { texts: 3, tokens: 27, parts: 2, attempts: 4, wait_us: 55, total_us: 66_000 };
        examples.extend([
            Response::Vectors { first: 2, vectors: vec![vec![0.5, -0.25], vec![0.125, 1.0]] },
            Response::Embedded(embedded),
            Response::Tokenized { ids: vec![1, 250, 65_536] },
            Response::Notice("pocket: unchanged".into()),
            Response::Controlled,
        ]);
        examples
    }
}

impl Conversation for ToWorker {
    const LIMIT: usize = ipc::MAX_FRAME;

    fn file(&self) -> &'static str {
        match self {
            ToWorker::Go(_) => "to-worker-go",
            ToWorker::Run(_) => "to-worker-run",
            ToWorker::Embed(_) => "to-worker-embed",
            ToWorker::Tokenize(_) => "to-worker-tokenize",
        }
    }

    fn examples() -> Vec<ToWorker> {
        let fresh = Job {
            request: RequestId(18),
            prompt: JobPrompt::Fresh(conversation().into()),
            generated: vec![],
            delivered: 0,
            chunk: 32,
            max_tokens: Some(64),
            sampling: sampling(),
            seed: 99,
            stop: vec!["STOP".into()],
            ignore_end: false,
            template_vars: r#"{"enable_thinking":false}"#.into(),
            cache: false,
        };
        let resumed = Job {
            request: RequestId(70_000),
            prompt: JobPrompt::Ids(vec![1, 250, 251, 65_535, 65_536, u32::MAX]),
            generated: vec![7, 8, 9],
            delivered: 11,
            max_tokens: None,
            ignore_end: true,
            cache: true,
            ..fresh.clone()
        };
        let go = Go { supervisor: 1_234, memory: 512 << 20, single: true };
        let request = RequestId(20);
        let embed = EmbedJob { request, texts: vec!["a text".into()], role: TextRole::Document };
        let tokenize = TokenizeJob { request, text: "a text".into(), special: true };
        let rich = Job { prompt: JobPrompt::Fresh(rich_conversation().into()), ..fresh.clone() };
        vec![
            ToWorker::Go(go),
            ToWorker::Run(Box::new(fresh)),
            ToWorker::Run(Box::new(rich)),
            ToWorker::Run(Box::new(resumed)),
            ToWorker::Embed(Box::new(embed)),
            ToWorker::Tokenize(Box::new(tokenize)),
        ]
    }
}

impl Conversation for FromWorker {
    const LIMIT: usize = ipc::MAX_FRAME;

    fn file(&self) -> &'static str {
        match self {
            FromWorker::Hello { .. } => "from-worker-hello",
            FromWorker::Prompt { .. } => "from-worker-prompt",
            FromWorker::Token { .. } => "from-worker-token",
            FromWorker::Done { .. } => "from-worker-done",
            FromWorker::Failed { .. } => "from-worker-failed",
            FromWorker::Vectors { .. } => "from-worker-vectors",
            FromWorker::Embedded { .. } => "from-worker-embedded",
            FromWorker::Tokenized { .. } => "from-worker-tokenized",
        }
    }

    fn examples() -> Vec<FromWorker> {
        let request = RequestId(19);
        let sandbox = Sandbox { seccomp: true, landlock: Some(6) };
        let counts = TokenCounts { prompt: 23, completion: 24 };
        vec![
            FromWorker::Hello { sandbox },
            FromWorker::Prompt { request, ids: vec![2, 202, 394] },
            FromWorker::Token { request, index: 21, id: 22, text: "word".into(), at_us: 300_000 },
            FromWorker::Done { request, text: "rest".into(), finish: FinishReason::Length, counts },
            FromWorker::Failed { request, kind: FailureKind::TooLong, message: "it is too long".into() },
            FromWorker::Vectors { request, first: 32, vectors: vec![vec![0.75, -1.0]] },
            FromWorker::Embedded { request, tokens: 1_025 },
            FromWorker::Tokenized { request, ids: vec![3, 300] },
        ]
    }
}

impl Conversation for ToTemplate {
    const LIMIT: usize = ipc::MAX_CONTROL;

    fn file(&self) -> &'static str {
        match self {
            ToTemplate::Load(_) => "to-template-load",
            ToTemplate::Fork(_) => "to-template-fork",
            ToTemplate::Admit => "to-template-admit",
        }
    }

    fn examples() -> Vec<ToTemplate> {
        let spec = ModelSpec {
            name: "pocket".into(),
            source: ipc::ModelSource::File("/models/pocket.gguf".into()),
            context: Some(4_096),
            sha256: Some("0123456789abcdef".repeat(4)),
            threads: 4,
            precision: Precision::Int8,
        };
        vec![ToTemplate::Load(spec), ToTemplate::Fork(Life { slot: 1, generation: 300 }), ToTemplate::Admit]
    }
}

impl Conversation for FromTemplate {
    const LIMIT: usize = ipc::MAX_CONTROL;

    fn file(&self) -> &'static str {
        match self {
            FromTemplate::Ready(_) => "from-template-ready",
            FromTemplate::LoadFailed { .. } => "from-template-load-failed",
            FromTemplate::Forked(_) => "from-template-forked",
            FromTemplate::ForkFailed { .. } => "from-template-fork-failed",
            FromTemplate::Needs(_) => "from-template-needs",
        }
    }

    fn examples() -> Vec<FromTemplate> {
        let info = ModelInfo {
            architecture: "llama".into(),
            context: 512,
            chat: true,
            load_ms: 413,
            chunk: 32,
            kind: ModelKind::Embed,
            cache: 1 << 24,
            weights: 668_000_000,
            dimensions: 384,
            sandbox: Sandbox { seccomp: true, landlock: Some(7) },
            remarks: vec!["its key is ignored".into()],
        };
        let life = Life { slot: 2, generation: 70_000 };
        vec![
            FromTemplate::Ready(info),
            FromTemplate::LoadFailed { message: "there is no such file".into() },
            FromTemplate::Forked(Forked { life, pid: 4_321 }),
            FromTemplate::ForkFailed { life, message: "there is no memory".into(), is_shortage: true },
            FromTemplate::Needs(Needs { weights: 637_000_000, cache: 92_274_688 }),
        ]
    }
}
