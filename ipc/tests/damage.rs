//! Frames that were damaged on their way, or made to do harm: they are refused or understood, and
//! nothing panics or takes memory out of proportion to what arrived. Whole frames are the matter of
//! `golden.rs`.
#![cfg(test)]

mod examples;

use examples::{Conversation, client_files, private_files};
use ipc::{FrameBuffer, FromTemplate, FromWorker, Request, Response, ToTemplate, ToWorker};
use std::fs;

/// The same numbers in every run: Vigna's SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

fn all_files() -> Vec<(String, Vec<u8>)> {
    client_files().into_iter().chain(private_files()).collect()
}

/// Lengths that nobody has, as the private encoding writes them: 4 GiB, and more than any address;
/// and openings of JSON.
const LENGTHS: [&[u8]; 6] = [
    b"[[[[[[[[[[[[[[[[",
    b"{\"\":{\"\":{\"\":",
    b"\\ud800",
    &[0xfc, 0xff, 0xff, 0xff, 0xff],
    &[0xfd, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00],
    &[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
];

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.byte(),
            2 => bytes.insert(at, random.byte()),
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..(at + random.below(9)).min(bytes.len()))),
            5 => {
                drop(bytes.splice(at..(at + 1).min(bytes.len()), LENGTHS[random.below(LENGTHS.len())].iter().copied()))
            }
            _ => bytes.extend((0..random.below(40)).map(|_| random.byte())),
        }
    }
}

/// What is made of the payload; `true` if it is understood. Then it must be the same value after it
/// was written and read again.
fn understood<T: Conversation>(payload: &[u8]) -> bool {
    let value = match ipc::decode::<T>(payload) {
        Ok(value) => value,
        Err(error) => {
            let words = error.to_string();
            assert!(words.len() < 600 && !words.chars().any(char::is_control), "{words:?}");
            return false;
        }
    };
    // A message of a kind that is not known is heard and never said.
    let Ok(written) = ipc::encode(&value) else { return format!("{value:?}").starts_with("Other") };
    let again = ipc::encode(&ipc::decode::<T>(&written).unwrap()).unwrap();
    assert_eq!(written, again, "{value:?}");
    true
}

/// Lets every conversation look at the payload, and counts those that understand it.
fn try_all(payload: &[u8]) -> usize {
    let looks = [
        understood::<Request>,
        understood::<Response>,
        understood::<ToWorker>,
        understood::<FromWorker>,
        understood::<ToTemplate>,
        understood::<FromTemplate>,
    ];
    looks.iter().filter(|look| look(payload)).count()
}

/// The most memory that this process has had mapped, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Far more than these tests and the other threads' heaps take, and far less than what the lengths
/// above ask for.
const ABSURD: u64 = 1 << 30;

#[test]
fn damaged_payloads_are_refused_or_understood() {
    let before = peak();
    let files = all_files();
    let mut random = Random(1);
    let (mut good, mut bad) = (0, 0);
    for round in 0..12_000 {
        let (_, bytes) = &files[round % files.len()];
        let mut buffer = FrameBuffer::new(ipc::MAX_FRAME);
        buffer.space().extend_from_slice(bytes);
        while let Ok(Some(payload)) = buffer.next_payload() {
            let mut payload = payload.to_vec();
            damage(&mut payload, &mut random);
            if try_all(&payload) > 0 { good += 1 } else { bad += 1 }
        }
    }
    assert!(good > 1_000 && bad > 1_000, "both must be seen: {good} were understood, {bad} were not");
    assert!(peak() - before < ABSURD, "{} bytes more were mapped", peak() - before);
}

#[test]
fn damaged_streams_are_refused_or_understood() {
    let before = peak();
    let files = all_files();
    let mut random = Random(2);
    let (mut frames, mut errors) = (0, 0);
    for round in 0..6_000 {
        let (_, bytes) = &files[round % files.len()];
        let mut bytes = bytes.clone();
        damage(&mut bytes, &mut random);
        let mut buffer = FrameBuffer::new(ipc::MAX_REQUEST);
        // As it arrives: in pieces, none of which need end where a frame does.
        'stream: for piece in bytes.chunks(1 + random.below(24)) {
            buffer.space().extend_from_slice(piece);
            loop {
                match buffer.next_payload() {
                    Ok(Some(payload)) => {
                        try_all(payload);
                        frames += 1;
                    }
                    Ok(None) => break,
                    Err(_) => {
                        errors += 1;
                        break 'stream;
                    }
                }
            }
        }
    }
    assert!(frames > 1_000 && errors > 1_000, "both must be seen: {frames} frames, {errors} errors");
    assert!(peak() - before < ABSURD, "{} bytes more were mapped", peak() - before);
}

#[test]
fn noise_is_refused_or_understood() {
    let before = peak();
    let mut random = Random(3);
    for _ in 0..20_000 {
        let noise: Vec<u8> = (0..random.below(200)).map(|_| random.byte()).collect();
        try_all(&noise);
        let mut buffer = FrameBuffer::new(ipc::MAX_FRAME);
        buffer.space().extend_from_slice(&noise);
        let magic = noise.iter().zip(*b"SV").all(|(found, expected)| *found == expected);
        assert_eq!(buffer.next_payload().is_err(), !magic || noise.len() >= ipc::HEADER, "{noise:?}");
    }
    assert!(peak() - before < ABSURD, "{} bytes more were mapped", peak() - before);
}

#[test]
fn a_header_that_promises_much_reserves_nothing() {
    let mut buffer = FrameBuffer::new(ipc::MAX_FRAME);
    let mut bytes = ipc::frame(b"begin", ipc::MAX_FRAME).unwrap();
    bytes[4..8].copy_from_slice(&u32::try_from(ipc::MAX_FRAME).unwrap().to_le_bytes());
    buffer.space().extend_from_slice(&bytes);
    assert_eq!(buffer.next_payload(), Ok(None));
    assert!(buffer.space().capacity() < 1 << 10, "{} bytes are reserved", buffer.space().capacity());
}

#[test]
fn bytes_after_a_message_are_an_error() {
    fn check<T: Conversation>() {
        for value in T::examples() {
            let mut payload = ipc::encode(&value).unwrap();
            payload.extend_from_slice(&[0; 3]);
            let error = ipc::decode::<T>(&payload).unwrap_err().to_string();
            let words = ["a message has 3 bytes too many", "a message is no JSON"];
            assert!(words.contains(&error.as_str()), "{value:?}: {error}");
        }
    }
    check::<Request>();
    check::<Response>();
    check::<ToWorker>();
    check::<FromWorker>();
    check::<ToTemplate>();
    check::<FromTemplate>();
}

/// A payload of `size` bytes at most that repeats `piece` between `start` and `end`.
fn repeated(start: &str, piece: &str, end: &str, size: usize) -> Vec<u8> {
    let count = (size - start.len() - end.len()) / piece.len();
    [start, &piece.repeat(count), end].concat().into_bytes()
}

/// The stack is that of a test's thread, 2 MiB; the daemon has more.
#[test]
fn deep_nesting_is_refused_or_skipped_on_a_small_stack() {
    let size = ipc::MAX_REQUEST;
    for start in [
        "",
        "{\"generate\":",
        "{\"generate\":{\"messages\":",
        "{\"generate\":{\"messages\":[{\"role\":\"user\",\"content\":",
        "{\"generate\":{\"unknown\":",
        "{\"embed\":{\"texts\":",
        "{\"control\":{\"restart\":",
        "{\"unknown\":",
    ] {
        for piece in ["[", "{\"a\":", "[{\"text\":", "{\"role\":"] {
            assert!(ipc::decode::<Request>(&repeated(start, piece, "", size)).is_err(), "{start} {piece}");
            assert!(ipc::decode::<Response>(&repeated(start, piece, "", size)).is_err(), "{start} {piece}");
        }
    }
    // A newer daemon may nest as deeply as it likes in a field that is not known here.
    let (open, close) = ("[".repeat(size / 2), "]".repeat(size / 2));
    let payload = format!("{{\"piece\":{{\"text\":\"x\",\"token\":5,\"later\":{open}{close}}}}}");
    let piece = Response::Piece { text: "x".into(), token: 5 };
    assert_eq!(ipc::decode::<Response>(payload.as_bytes()).unwrap(), piece);
    let payload = format!("{{\"later\":{open}{close}}}");
    assert_eq!(ipc::decode::<Response>(payload.as_bytes()).unwrap(), Response::Other("later".into()));
}

/// What a request's largest parts take in memory for each byte of its payload, as the specification
/// says: small messages and small texts take most. A vector that grows has twice the room it needs.
#[test]
fn a_request_takes_memory_in_proportion() {
    use ipc::{ChatMessage, Prompt};
    const FACTOR: usize = 9;
    let least_message = "{\"role\":\"user\"},".len();
    assert!(size_of::<ChatMessage>() <= FACTOR * least_message, "{}", size_of::<ChatMessage>());
    assert!(size_of::<String>() <= FACTOR * "\"\",".len());
    let part = "{\"type\":\"text\",\"text\":\"\"},".len();
    assert!(size_of::<ipc::ContentPart>() <= FACTOR * part);
    let call = "{\"id\":\"\",\"type\":\"function\",\"function\":{\"name\":\"\",\"arguments\":\"\"}},".len();
    assert!(size_of::<ipc::ToolCall>() <= FACTOR * call);

    let start = "{\"generate\":{\"messages\":[{\"role\":\"user\"}";
    let payload = repeated(start, ",{\"role\":\"user\"}", "]}}", ipc::MAX_REQUEST);
    let Request::Generate(asked) = ipc::decode(&payload).unwrap() else { panic!("another request") };
    let Prompt::Chat(messages) = &asked.prompt else { panic!("another prompt") };
    let taken = messages.capacity() * size_of::<ChatMessage>();
    assert!(taken <= 2 * FACTOR * payload.len(), "{taken} bytes for {}", payload.len());
}
