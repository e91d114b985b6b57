//! The bytes on the wire, kept as files: what was sent once must be understood for ever, or be refused by its version.
//!
//! Each file under `golden/v1` holds the frames of one variant of one conversation's type. With `IPC_WRITE_GOLDEN=1` files that are
//! missing are written; one that is there is never changed. What damaged frames do is in `damage.rs`.
#![cfg(test)]

mod examples;

use examples::{Conversation, all_files};
use ipc::{
    BlockingEnd, EndError, FrameBuffer, FrameError, FromTemplate, FromWorker, Request, Response, ToTemplate, ToWorker,
    VERSION,
};
use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    io::{Cursor, Write},
    path::{Path, PathBuf},
    sync::Once,
};

#[test]
fn what_clients_and_the_supervisor_say_is_on_the_wire_what_it_always_was() {
    check::<Request>();
    check::<Response>();
}

#[test]
fn what_workers_and_the_supervisor_say_is_on_the_wire_what_it_always_was() {
    check::<ToWorker>();
    check::<FromWorker>();
}

#[test]
fn what_templates_and_the_supervisor_say_is_on_the_wire_what_it_always_was() {
    check::<ToTemplate>();
    check::<FromTemplate>();
}

/// Where the files of this version are.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("v{}", VERSION))
}

/// Compares each variant's frames with its file, in both directions.
fn check<T: Conversation>() {
    write_missing();
    for (file, values) in T::by_file() {
        let path = folder().join(&file);
        let frames: Vec<u8> = values.iter().flat_map(T::to_frame).collect();
        let golden = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(golden, frames, "{file} is not what these values are on the wire: increment VERSION");

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
            fs::create_dir_all(folder()).unwrap();
            for (name, bytes) in all_files() {
                if let Ok(mut file) = File::create_new(folder().join(name)) {
                    file.write_all(&bytes).unwrap();
                }
            }
        }
    });
}

#[test]
fn no_file_is_there_that_nothing_checks() {
    write_missing();
    let names = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.collect::<BTreeSet<_>>(), all_files().into_iter().map(|(name, _)| name).collect());
}

#[test]
fn a_frame_of_another_version_is_refused_by_its_version() {
    for (file, bytes) in all_files() {
        for version in [0, VERSION + 1, 258, u16::MAX] {
            let mut other = bytes.clone();
            other[2..4].copy_from_slice(&version.to_le_bytes());
            let mut buffer = FrameBuffer::new(ipc::MAX_FRAME);
            // The header is enough, whatever the payload has become in that version.
            buffer.space().extend_from_slice(&other[..ipc::HEADER]);
            assert_eq!(buffer.next_payload(), Err(FrameError::Version(version)), "{file}");
            assert_eq!(ipc::packet(&other, ipc::MAX_FRAME), Err(FrameError::Version(version)), "{file}");

            let received = BlockingEnd::new(Cursor::new(other), ipc::MAX_FRAME, 0).receive::<Request>();
            let Err(EndError::Frame(error)) = received else { panic!("{file} is not refused: {received:?}") };
            let words = format!("the other side speaks version {version} of the protocol, this side speaks version 1");
            assert_eq!(error.to_string(), words);
        }
    }
}
