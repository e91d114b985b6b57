//! A real template with an embedding model and a real worker of it, without a supervisor: this test
//! is theirs.
use integration_tests::{LIMIT, command, has_own_process, minilm, process, supervisor};
use ipc::{
    BlockingEnd, EmbedJob, FailureKind, Forked, FromTemplate, FromWorker, Go, Job, JobPrompt, Life, MAX_CONTROL,
    MAX_FRAME, ModelInfo, ModelKind, ModelSpec, Needs, Prompt, RequestId, Sampling, TextRole, ToTemplate, ToWorker,
    TokenizeJob, board::Word,
};
use nix::{
    sys::{
        prctl,
        socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair},
        wait::waitpid,
    },
    unistd::Pid,
};
use std::{
    fs,
    io::IoSlice,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, Stdio},
    sync::atomic::Ordering::Relaxed,
};
use system::Board;

const REQUEST: RequestId = RequestId(5);

fn folder() -> String {
    minilm().into_os_string().into_string().unwrap()
}

/// The template and its one worker.
struct Pair {
    /// Dropped first: its end tells the worker to exit.
    socket: Option<BlockingEnd<UnixStream>>,
    control: Option<OwnedFd>,
    board: Board,
    template: Child,
    worker: u32,
    info: ModelInfo,
}

impl Pair {
    fn start() -> Pair {
        // The worker is the template's grandchild; this makes it this process's child when the one
        // in between has ended.
        prctl::set_child_subreaper(true).unwrap();
        let (control, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let template = command(supervisor())
            .args(["template", "--supervisor", &std::process::id().to_string()])
            .env_clear()
            .envs([("CANDLE_NUM_THREADS", "1"), ("RAYON_NUM_THREADS", "1"), ("TOKENIZERS_PARALLELISM", "false")])
            .stdin(Stdio::from(theirs))
            .spawn()
            .unwrap();
        let load = ToTemplate::Load(ModelSpec::new("minilm", folder()));
        let FromTemplate::Needs(Needs { weights: 80_000_000.., cache: 0 }) = tell(&control, &load, &[]) else {
            panic!("the template does not say what it needs")
        };
        let FromTemplate::Ready(info) = tell(&control, &ToTemplate::Admit, &[]) else {
            panic!("the model was not loaded")
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (memory, stderr) = (Board::create().unwrap(), fs::File::create("/dev/null").unwrap());
        let board = Board::map(&memory).unwrap();
        let life = Life { slot: 0, generation: 1 };
        let seat = [theirs.as_raw_fd(), memory.as_raw_fd(), stderr.as_raw_fd()];
        let FromTemplate::Forked(Forked { pid, .. }) = tell(&control, &ToTemplate::Fork(life), &seat) else {
            panic!("no worker was forked")
        };
        ours.set_read_timeout(Some(LIMIT)).unwrap();
        let mut socket = BlockingEnd::new(ours, MAX_FRAME, MAX_FRAME);
        let go = Go { supervisor: std::process::id(), memory: 512 << 20, single: false };
        socket.send(&ToWorker::Go(go)).unwrap();
        assert!(matches!(socket.receive().unwrap(), Some(FromWorker::Hello { .. })));
        Pair { socket: Some(socket), control: Some(control), board, template, worker: pid, info }
    }

    fn send(&mut self, message: &ToWorker) {
        self.socket.as_mut().unwrap().send(message).unwrap();
    }

    fn receive(&mut self) -> FromWorker {
        self.socket.as_mut().unwrap().receive().unwrap().unwrap()
    }

    /// The vectors of a batch, and how many tokens the model has read.
    fn embed(&mut self, texts: &[String]) -> (Vec<Vec<f32>>, u64) {
        let job = EmbedJob { request: REQUEST, texts: texts.to_vec(), role: TextRole::Plain };
        self.send(&ToWorker::Embed(Box::new(job)));
        let mut found = Vec::new();
        loop {
            match self.receive() {
                FromWorker::Vectors { request: REQUEST, first, vectors } if first as usize == found.len() => {
                    found.extend(vectors)
                }
                FromWorker::Embedded { request: REQUEST, tokens } => return (found, tokens),
                other => panic!("{other:?}"),
            }
        }
    }

    /// How many bytes the worker has for itself.
    fn private(&self) -> u64 {
        let memory = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.worker)).unwrap();
        system::proc::bytes(&memory, "Private_Dirty:").unwrap()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        drop((self.socket.take(), self.control.take()));
        let _waited = self.template.wait();
        let _waited = waitpid(Pid::from_raw(self.worker.cast_signed()), None);
    }
}

/// Sends the template one message and waits for its answer.
fn tell(control: &OwnedFd, message: &ToTemplate, descriptors: &[i32]) -> FromTemplate {
    let packet = ipc::frame(&ipc::encode(message).unwrap(), MAX_CONTROL).unwrap();
    let rights = [ControlMessage::ScmRights(descriptors)];
    let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    sendmsg::<()>(control.as_raw_fd(), &[IoSlice::new(&packet)], rights, MsgFlags::MSG_NOSIGNAL, None).unwrap();
    let mut buffer = vec![0; ipc::HEADER + MAX_CONTROL];
    let size = recv(control.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
    ipc::decode(ipc::packet(&buffer[..size], MAX_CONTROL).unwrap()).unwrap()
}

fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

#[test]
fn a_worker_embeds_and_tokenises_and_keeps_nothing() {
    // It becomes the parent of orphans, which here are not to be those of other tests.
    if !has_own_process() {
        return;
    }
    let mut pair = Pair::start();
    let ModelInfo { architecture, context, chat, kind, cache, weights, dimensions, .. } = pair.info.clone();
    assert_eq!((architecture.as_str(), context, chat, kind), ("bert", 256, false, ModelKind::Embed));
    assert_eq!((cache, weights, dimensions), (0, 90_868_376, 384));

    let texts: Vec<String> = (0..60).map(|index| format!("This is text number {index} of a small batch.")).collect();
    let (vectors, tokens) = pair.embed(&texts);
    assert_eq!((vectors.len(), tokens), (60, 60 * 12));
    let word = |pair: &Pair, word| pair.board.word(word).load(Relaxed);
    assert_eq!(word(&pair, Word::PromptDone), 60);
    assert!(word(&pair, Word::Ticks) > 60);
    assert_eq!(pair.embed(&texts[7..8]).0, vectors[7..8], "a text has one vector");

    let tokenise = |text: &str, special| {
        ToWorker::Tokenize(Box::new(TokenizeJob { request: REQUEST, text: text.into(), special }))
    };
    for (special, ids) in [(true, vec![101, 7592, 102]), (false, vec![7592])] {
        pair.send(&tokenise("hello", special));
        assert_eq!(pair.receive(), FromWorker::Tokenized { request: REQUEST, ids });
    }
    let job = Job {
        request: REQUEST,
        prompt: JobPrompt::Fresh(Prompt::Raw("x".into()).into()),
        generated: Vec::new(),
        delivered: 0,
        chunk: 32,
        max_tokens: None,
        sampling: Sampling::default(),
        seed: 0,
        stop: Vec::new(),
        ignore_end: false,
        template_vars: String::new(),
        cache: false,
    };
    pair.send(&ToWorker::Run(Box::new(job)));
    let message = "the model makes vectors and generates no text".to_owned();
    assert_eq!(pair.receive(), FromWorker::Failed { request: REQUEST, kind: FailureKind::BadRequest, message });

    // The longest texts first: what one batch needed serves all others.
    let long = vec!["the quick brown fox ".repeat(100); 3];
    pair.embed(&long);
    let before = pair.private();
    for _ in 0..8 {
        pair.embed(&long);
        pair.embed(&texts);
    }
    let grown = pair.private().saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} bytes more after 16 batches, {before} before");
    assert_eq!((threads(pair.template.id()), threads(pair.worker)), (1, 1));
    assert!(process::lives(pair.worker));
}
