//! Several models side by side: each has its own template, workers and queue, and they share
//! nothing but the cores.
use integration_tests::{Daemon, Running, Signal, Wire, bad_worker, process, vector_of};
use ipc::{
    Client, EmbedRequest, Failure, FailureKind, GenerateRequest, Request, Response, TextRole, TokenizeRequest,
    status::{ModelStatus, Status, WorkerStatus},
};

/// A chat model and two that make vectors, all scripted.
fn daemon(cores: u32, queue: usize) -> Daemon {
    let supervisor = format!("[supervisor]\ncores = {cores}\nqueue = {queue}\n");
    let chat = "[[model]]\nname = \"chat\"\npath = \"script:ok?token_us=2000\"\nworkers = 1\n";
    let vectors = |name: &str, dimensions: u32, workers: u32| {
        let path = format!("script:ok?embed={dimensions}&text_us=1000");
        format!("[[model]]\nname = \"{name}\"\npath = \"{path}\"\nworkers = {workers}\nisolation = \"worker\"\n")
    };
    let config = [supervisor, chat.to_owned(), vectors("small", 3, 3), vectors("large", 6, 1)].concat();
    Daemon::with(&config, &["--template-executable", &bad_worker().to_string_lossy()])
}

fn embed(model: Option<&str>, texts: Vec<String>) -> Request {
    Request::Embed(Box::new(EmbedRequest { model: model.map(str::to_owned), texts, role: TextRole::Plain }))
}

fn generate(model: Option<&str>) -> Request {
    let request = GenerateRequest { model: model.map(str::to_owned), ..GenerateRequest::raw("words") };
    Request::Generate(Box::new(request))
}

fn tokenize(model: Option<&str>) -> Request {
    let model = model.map(str::to_owned);
    Request::Tokenize(Box::new(TokenizeRequest { model, text: "words".to_owned(), special: false }))
}

/// The model that admits a request, and the first thing that it answers.
fn ask(daemon: &Daemon, request: &Request) -> Result<(String, Response), Failure> {
    let mut wire = Wire::connect(daemon);
    wire.send(request);
    let model = match wire.receive() {
        Some(Response::Accepted { model, .. }) => model,
        Some(Response::Failed(failure)) => return Err(failure),
        other => panic!("{other:?}"),
    };
    match wire.receive() {
        Some(Response::Failed(failure)) => Err(failure),
        Some(response) => Ok((model, response)),
        None => panic!("the daemon has hung up"),
    }
}

fn find<'a>(status: &'a Status, name: &str) -> &'a ModelStatus {
    status.models.iter().find(|model| model.name == name).unwrap()
}

fn busy<'a>(status: &'a Status, name: &str) -> Vec<&'a WorkerStatus> {
    find(status, name).workers.iter().filter(|worker| worker.state == "busy").collect()
}

fn occupy(client: &mut Client) -> Running<'_> {
    let request = GenerateRequest { ignore_end: true, ..GenerateRequest::raw("for as long as it takes") };
    Running::begin(client, GenerateRequest { model: Some("chat".to_owned()), ..request }).unwrap()
}

#[test]
fn a_request_goes_to_the_model_that_it_names_or_to_the_only_one_of_its_kind() {
    let daemon = daemon(4, 8);
    let (model, piece) = ask(&daemon, &generate(None)).unwrap();
    assert_eq!((model.as_str(), piece), ("chat", Response::Piece { text: "w".to_owned(), token: u32::from(b'w') }));
    for (name, dimensions) in [("small", 3), ("large", 6)] {
        let (model, vectors) = ask(&daemon, &embed(Some(name), vec!["text".to_owned()])).unwrap();
        assert_eq!(model, name);
        assert_eq!(vectors, Response::Vectors { first: 0, vectors: vec![vector_of("text", dimensions)] });
    }
    for name in ["chat", "small", "large"] {
        let (model, ids) = ask(&daemon, &tokenize(Some(name))).unwrap();
        assert_eq!((model.as_str(), ids), (name, Response::Tokenized { ids: b"words".map(u32::from).to_vec() }));
    }
    let text = || vec!["text".to_owned()];
    for (request, kind, words) in [
        (embed(None, text()), FailureKind::UnknownModel, "name one of the models: small, large"),
        (tokenize(None), FailureKind::UnknownModel, "name one of the models: chat, small, large"),
        (
            embed(Some("chat"), text()),
            FailureKind::BadRequest,
            "the model chat cannot do that; what makes vectors is: small, large",
        ),
        (
            generate(Some("small")),
            FailureKind::BadRequest,
            "the model small cannot do that; what generates text is: chat",
        ),
        (generate(Some("none")), FailureKind::UnknownModel, "there is no model \"none\"; there is: chat, small, large"),
    ] {
        let failure = ask(&daemon, &request).unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (kind, words));
    }
}

#[test]
fn a_burst_of_embeddings_takes_no_more_than_its_share_of_the_cores() {
    let daemon = daemon(8, 8);
    let mut client = daemon.client();
    let chat = occupy(&mut client);
    let threads = |status: &Status, name| busy(status, name).iter().map(|worker| worker.threads).collect::<Vec<_>>();
    let before = daemon.until("the chat has all cores", |status| threads(status, "chat") == [8]);

    let burst: Vec<Wire> = (0..4).map(|_| Wire::connect(&daemon)).collect();
    for wire in &burst {
        wire.send(&embed(Some("small"), (0..5_000).map(|number| format!("text {number}")).collect()));
    }
    let status = daemon.until("they share the cores", |status| {
        threads(status, "small") == [1, 1, 1] && threads(status, "chat") == [5]
    });
    let tokens = busy(&status, "chat")[0].tokens;
    let status = daemon.until("the chat goes on", |status| busy(status, "chat")[0].tokens > tokens + 20);
    let of_chat = |status: &Status| {
        let model = find(status, "chat");
        (model.template.as_ref().map(|template| template.pid), busy(status, "chat")[0].pid, model.queue.length)
    };
    assert_eq!(of_chat(&status), of_chat(&before), "nobody has taken its place");
    assert_eq!(find(&status, "small").totals.answered, 0, "the burst is still there");
    drop(burst);
    let status = daemon.until("the chat has all cores again", |status| threads(status, "chat") == [8]);
    assert_eq!(busy(&status, "chat")[0].request, Some(chat.request().to_string()));
    assert_eq!(find(&status, "small").totals.worker_crashes, 0);
}

#[test]
fn a_full_queue_of_one_model_is_no_matter_to_another() {
    let daemon = daemon(2, 0);
    let mut client = daemon.client();
    let _chat = occupy(&mut client);
    assert_eq!(ask(&daemon, &generate(None)).unwrap_err().kind, FailureKind::Busy);
    assert_eq!(ask(&daemon, &embed(Some("large"), vec!["text".to_owned()])).unwrap().0, "large");
}

#[test]
fn the_death_of_one_template_is_no_matter_to_another() {
    let daemon = daemon(2, 8);
    let mut client = daemon.client();
    let chat = occupy(&mut client);
    let before = daemon.status();
    let pid = |status: &Status, name| find(status, name).template.as_ref().map(|template| template.pid);
    process::kill(pid(&before, "small").unwrap(), Signal::SIGKILL);
    let after = daemon.until("it is replaced", |status| {
        pid(status, "small").is_some_and(|now| Some(now) != pid(&before, "small"))
            && find(status, "small").state == "warm"
    });
    for name in ["chat", "large"] {
        assert_eq!(pid(&after, name), pid(&before, name));
        assert_eq!(find(&after, name).last_crash, None);
    }
    assert_eq!(busy(&after, "chat")[0].request, Some(chat.request().to_string()));
    assert_eq!(ask(&daemon, &embed(Some("small"), vec!["text".to_owned()])).unwrap().0, "small");
}
