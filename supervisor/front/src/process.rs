//! Where the front begins: tied to the supervisor, told how to serve, confined, and then serving
//! until it is told to finish or the supervisor is gone.
use crate::{
    link::{Control, Link},
    listener::{Bound, ListenError},
    server::Server,
};
use ipc::{FromFront, FrontConfig, Sandbox, ToFront};
use nix::sys::{prctl, resource::Resource, signal::Signal};
use std::{io, os::fd::OwnedFd, process::ExitCode, sync::Arc};
use system::{
    foreign_text::chain,
    limits,
    sandbox::{SandboxError, confine_front},
};
use thiserror::Error;

/// Descriptors that the front needs besides two for each connection.
const DESCRIPTORS: u64 = 64;

/// Why the front cannot serve.
#[derive(Debug, Error)]
enum FrontError {
    #[error("cannot take the control socket")]
    Control(#[source] io::Error),
    #[error("cannot be tied to the supervisor")]
    Tie(#[source] nix::Error),
    #[error("the supervisor has gone")]
    Orphaned,
    #[error("cannot speak with the supervisor")]
    Speak(#[source] io::Error),
    #[error("the supervisor has said something out of order")]
    Order,
    #[error("cannot lower the limit of {0}")]
    Limit(&'static str, #[source] nix::Error),
    #[error(transparent)]
    Listen(ListenError),
    #[error("cannot make the event loop")]
    Loop(#[source] io::Error),
    #[error("cannot be confined")]
    Confine(#[source] SandboxError),
}

/// Lives the front's life as a child of the process `supervisor`, on the control socket that is its
/// standard input.
pub fn main(supervisor: u32) -> ExitCode {
    match run(supervisor) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("front: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(supervisor: u32) -> Result<(), FrontError> {
    let control = system::take_stdin().map_err(FrontError::Control)?;
    if !system::die_with(supervisor, Signal::SIGKILL).map_err(FrontError::Tie)? {
        return Err(FrontError::Orphaned);
    }
    prctl::set_dumpable(false).map_err(FrontError::Tie)?;
    let mut control = Control::new(control);
    let (config, handed) = match control.wait().map_err(FrontError::Speak)? {
        Some((ToFront::Serve(config), handed)) => (*config, handed),
        Some(_) => return Err(FrontError::Order),
        None => return Ok(()),
    };
    control.never_block().map_err(FrontError::Speak)?;
    match set_up(&config, handed) {
        Ok((runtime, bound, sandbox)) => {
            let copies = bound.copies().map_err(FrontError::Speak)?;
            let listening = FromFront::Listening { at: bound.at(), sandbox };
            control.send(&listening, &copies).map_err(FrontError::Speak)?;
            drop(copies);
            runtime.block_on(serve(config, bound, control))
        }
        Err(error) => {
            let message = chain(&error);
            control.send(&FromFront::Failed { message }, &[]).map_err(FrontError::Speak)?;
            Err(error)
        }
    }
}

/// Makes all that can be made only before the process is confined, and confines it.
fn set_up(config: &FrontConfig, handed: Vec<OwnedFd>) -> Result<(tokio::runtime::Runtime, Bound, Sandbox), FrontError> {
    let descriptors = u64::from(config.connections) * 4 + DESCRIPTORS;
    for (name, resource, most) in
        [("core dumps", Resource::RLIMIT_CORE, 0), ("open files", Resource::RLIMIT_NOFILE, descriptors)]
    {
        limits::lower(resource, most).map_err(|error| FrontError::Limit(name, error))?;
    }
    let bound = Bound::new(&config.listen, handed).map_err(FrontError::Listen)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(FrontError::Loop)?;
    let sandbox = confine_front().map_err(FrontError::Confine)?;
    Ok((runtime, bound, sandbox))
}

async fn serve(config: FrontConfig, bound: Bound, control: Control) -> Result<(), FrontError> {
    let (link, told) = Link::start(control).map_err(FrontError::Speak)?;
    let server = Arc::new(Server::new(config, link));
    server.serve(bound, told).await.map_err(FrontError::Speak)
}
