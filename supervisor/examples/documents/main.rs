//! Writes what a package has besides the executable and can only be made from it: the manual, from
//! the definitions of the command line and from the example configuration, and the completions.
//! `cargo run --example documents -- FOLDER`
//!
//! It is an example so that the executable does not carry it. Where the files belong on a system is
//! known to `deploy/install.sh`.

mod configuration;
mod pages;

use clap_complete::{Shell, generate_to};
use std::{env, error::Error, ffi::OsStr, fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        eprintln!("documents: give the folder to write to, and nothing else");
        return ExitCode::from(2);
    };
    match write(folder.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("documents: cannot write to {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

/// Makes the folder anew, so that it holds no page of a command that is gone.
fn write(folder: &Path) -> Result<(), Box<dyn Error>> {
    if folder.exists() {
        clear(folder)?;
    }
    let manual = folder.join("man");
    fs::create_dir_all(&manual)?;
    for page in pages::commands(supervisor::command())? {
        fs::write(manual.join(&page.name), page.text)?;
    }
    fs::write(manual.join("supervisor.toml.5"), configuration::page()?)?;
    let completions = folder.join("completions");
    fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut supervisor::command(), "supervisor", &completions)?;
    }
    Ok(())
}

/// Removes the two folders that this program makes, and refuses to if there is anything else.
fn clear(folder: &Path) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if ![OsStr::new("man"), OsStr::new("completions")].contains(&name.as_os_str()) {
            return Err(format!("{} is in it, which is not mine", name.display()).into());
        }
    }
    Ok(fs::remove_dir_all(folder)?)
}
