//! The bytes of the client conversation, kept as files: what was sent once must be understood for
//! ever, or be refused by its version.
//!
//! Each file under `golden/v2` holds the frames of one variant. With `IPC_WRITE_GOLDEN=1` files
//! that are missing are written; one that is there is never changed. With
//! `IPC_WRITE_PRIVATE=FOLDER` frames of the private conversations, which are not kept, are written
//! there: `tests/fuzz/seeds.py` makes seeds of them. Damaged frames are the matter of `damage.rs`.
use crate::examples::{Conversation, client_files, private_files};
use ipc::{BlockingEnd, EndError, FrameBuffer, FrameError, Message, Request, Response, VERSION};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    io::{Cursor, Write},
    path::{Path, PathBuf},
    sync::Once,
};

/// The folder of the frames of a version.
fn folder(version: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("v{version}"))
}

#[test]
fn requests_are_on_the_wire_as_they_always_were() {
    check::<Request>();
}

#[test]
fn responses_are_on_the_wire_as_they_always_were() {
    check::<Response>();
}

/// Compares each variant's frames with its file, in both directions.
fn check<T: Conversation>() {
    write_missing();
    for (file, values) in T::by_file() {
        let path = folder(VERSION).join(&file);
        let frames: Vec<u8> = values.iter().flat_map(T::to_frame).collect();
        let golden = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(
            String::from_utf8_lossy(&golden),
            String::from_utf8_lossy(&frames),
            "{file} is not what these values are on the wire"
        );

        let mut end = BlockingEnd::new(Cursor::new(golden), T::LIMIT, T::LIMIT);
        for value in values {
            assert_eq!(end.receive::<T>().unwrap(), Some(value), "{file} is understood differently");
        }
        assert_eq!(end.receive::<T>().unwrap(), None, "{file} holds more than is looked at");
    }
}

/// Writes the files that are not there, if it is asked for.
fn write_missing() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if env::var_os("IPC_WRITE_GOLDEN").is_some_and(|set| set == "1") {
            write_into(&folder(VERSION), client_files());
        }
        if let Some(folder) = env::var_os("IPC_WRITE_PRIVATE") {
            write_into(Path::new(&folder), private_files());
        }
    });
}

fn write_into(folder: &Path, files: Vec<(String, Vec<u8>)>) {
    fs::create_dir_all(folder).unwrap();
    for (name, bytes) in files {
        if let Ok(mut file) = File::create_new(folder.join(name)) {
            file.write_all(&bytes).unwrap();
        }
    }
}

#[test]
fn no_file_is_there_that_nothing_checks() {
    write_missing();
    let names = fs::read_dir(folder(VERSION)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.collect::<BTreeSet<_>>(), client_files().into_iter().map(|(name, _)| name).collect());
}

#[test]
fn private_messages_are_the_same_behind_the_wire() {
    fn check<T: Conversation>() {
        for value in T::examples() {
            let payload = ipc::encode(&value).unwrap();
            assert_eq!(ipc::decode::<T>(&payload).unwrap(), value);
        }
    }
    check::<ipc::ToWorker>();
    check::<ipc::FromWorker>();
    check::<ipc::ToTemplate>();
    check::<ipc::FromTemplate>();
}

/// A frame of version 1, whose payload was bincode.
#[test]
fn a_frame_of_the_first_version_is_refused_by_its_version() {
    let first = fs::read(folder(1).join("request-generate.bin")).unwrap();
    assert_eq!(ipc::packet(&first, ipc::MAX_REQUEST), Err(FrameError::Version(1)));
    let received = BlockingEnd::new(Cursor::new(first), ipc::MAX_REQUEST, 0).receive::<Request>();
    let Err(EndError::Frame(error)) = received else { panic!("it is not refused: {received:?}") };
    let words = "the other side speaks version 1 of the protocol, this side speaks version 2";
    assert_eq!(error.to_string(), words);
}

#[test]
fn a_frame_of_another_version_is_refused_by_its_version() {
    for (file, bytes) in client_files() {
        for version in [0, 1, VERSION + 1, 258, u16::MAX] {
            let mut other = bytes.clone();
            other[2..4].copy_from_slice(&version.to_le_bytes());
            let mut buffer = FrameBuffer::new(ipc::MAX_FRAME);
            // The header is enough, whatever the payload has become in that version.
            buffer.space().extend_from_slice(&other[..ipc::HEADER]);
            assert_eq!(buffer.next_payload(), Err(FrameError::Version(version)), "{file}");
            assert_eq!(ipc::packet(&other, ipc::MAX_FRAME), Err(FrameError::Version(version)), "{file}");
        }
    }
}

/// The documentation of the crate is the specification, so its examples are frames that are kept.
#[test]
fn each_example_of_the_specification_is_a_golden_payload() {
    let requests = Request::examples().iter().map(|request| request.encode().unwrap()).collect::<Vec<_>>();
    let responses = Response::examples().iter().map(|response| response.encode().unwrap()).collect::<Vec<_>>();
    let payloads = requests.iter().chain(&responses);
    let payloads: Vec<Value> = payloads.map(|payload| serde_json::from_slice(payload).unwrap()).collect();
    let (mut examples, mut block) = (0, None::<String>);
    for line in include_str!("../src/lib.rs").lines().map_while(|line| line.strip_prefix("//!")) {
        match (line.trim(), &mut block) {
            ("```json", _) => block = Some(String::new()),
            ("```", Some(text)) => {
                for example in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
                    let example = example.unwrap_or_else(|error| panic!("{error} in {text}"));
                    assert!(payloads.contains(&example), "this is no payload of a golden frame: {example}");
                    examples += 1;
                }
                block = None;
            }
            (line, Some(text)) => text.extend([line, "\n"]),
            (_, None) => {}
        }
    }
    assert!(examples >= 20, "only {examples} examples were found");
}
