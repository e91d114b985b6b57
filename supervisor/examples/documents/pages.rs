//! The manual's section 1: a page for the program and one for each command that is not hidden.
use clap::Command;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use jiff::Timestamp;
use std::{env, io};

/// The title of every page.
pub(crate) const MANUAL: &str = "Supervisor Manual";
/// What every page is of.
pub(crate) const SOURCE: &str = concat!("supervisor ", env!("CARGO_PKG_VERSION"));

/// A page of the manual.
pub(crate) struct Page {
    /// The name of its file.
    pub(crate) name: String,
    /// What is in it.
    pub(crate) text: Vec<u8>,
}

/// The exit statuses of every command, as `cli/error.rs` gives them.
const STATUSES: [(&str, &str); 6] = [
    ("0", "It is done."),
    ("1", "It failed."),
    ("2", "The usage, the request or the configuration is wrong."),
    ("3", "There is no daemon at that socket."),
    ("4", "The daemon is busy: the queue is full."),
    ("130", "It was interrupted."),
];

const FILES: [(&str, &str); 3] = [
    ("/etc/supervisor/supervisor.toml", "The configuration that the system's unit names: supervisor.toml(5)."),
    ("/run/supervisor/supervisor.sock", "The socket of the system's daemon."),
    ("$XDG_RUNTIME_DIR/supervisor/supervisor.sock", "The socket of a user's own daemon."),
];

/// The pages of a command line.
pub(crate) fn commands(command: Command) -> io::Result<Vec<Page>> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = vec![page(&command, true)?];
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        pages.push(page(subcommand, false)?);
    }
    Ok(pages)
}

fn page(command: &Command, is_root: bool) -> io::Result<Page> {
    // Upper case, as the title of a page has by custom.
    let title = command.get_display_name().unwrap_or(command.get_name()).to_uppercase();
    // A page names what it is for without a full stop, and the version in the foot only.
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let named = command.clone().about(about.trim_end_matches('.').to_owned()).long_about(about);
    let man = Man::new(named).title(title).manual(MANUAL).source(SOURCE).date(date());
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    let mut rest = Roff::new();
    if is_root {
        man.render_subcommands_section(&mut text)?;
        list(&mut rest, "EXIT STATUS", &STATUSES);
        list(&mut rest, "FILES", &FILES);
        let names = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()).map(Command::get_name);
        let pages: Vec<_> = names.map(|name| format!("supervisor-{name}(1)")).collect();
        also(&mut rest, &format!("{}, supervisor.toml(5)", pages.join(", ")));
    } else {
        also(&mut rest, "supervisor(1), supervisor.toml(5)");
    }
    rest.to_writer(&mut text)?;
    Ok(Page { name: man.get_filename(), text })
}

/// The day on which the pages were made: that of the sources, if whoever builds a package says it,
/// or else today.
#[expect(clippy::disallowed_methods, reason = "it is for people")]
pub(crate) fn date() -> String {
    let given = env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let time = given.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_else(Timestamp::now);
    time.strftime("%Y-%m-%d").to_string()
}

/// A section of terms and what they mean.
pub(crate) fn list(roff: &mut Roff, heading: &str, terms: &[(impl AsRef<str>, impl AsRef<str>)]) {
    roff.control("SH", [heading]);
    for (term, meaning) in terms {
        roff.control("TP", []);
        roff.text([bold(term.as_ref())]);
        roff.text([roman(meaning.as_ref())]);
    }
}

/// The section of related pages.
pub(crate) fn also(roff: &mut Roff, pages: &str) {
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(pages)]);
}
