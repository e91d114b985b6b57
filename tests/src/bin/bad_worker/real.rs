//! Models that are not scripted: their template is the supervisor's own, as it would have been
//! without this executable.
use ipc::{HEADER, MAX_CONTROL, ToTemplate};
use nix::sys::socket::{MsgFlags, recv};
use std::{
    env,
    os::{
        fd::{AsFd, AsRawFd},
        unix::process::CommandExt,
    },
    process::Command,
};

/// Becomes the supervisor's own template, unless what is to be loaded is a script. `supervisor` is
/// the pid of the supervisor.
pub(crate) fn give_way(supervisor: u32) -> Result<(), String> {
    let stdin = std::io::stdin();
    let mut packet = vec![0; HEADER + MAX_CONTROL];
    let size = recv(stdin.as_fd().as_raw_fd(), &mut packet, MsgFlags::MSG_PEEK).map_err(|error| error.to_string())?;
    let payload = ipc::packet(&packet[..size], MAX_CONTROL).map_err(|error| error.to_string())?;
    match ipc::decode(payload) {
        Ok(ToTemplate::Load(spec)) if !spec.source.to_string().contains("script:") => {
            let mut own = Command::new(format!("/proc/{supervisor}/exe"));
            Err(own.arg0("supervisor").args(env::args_os().skip(1)).exec().to_string())
        }
        _ => Ok(()),
    }
}
