//! Links what unwinds the stack into the executable, so that at run time it needs no library but
//! glibc's own.
//!
//! The standard library asks the linker for `gcc_s`, which is GCC's, and is shared wherever it is
//! found by that name. The linker looks into the folder that is added here first, and what it finds
//! there sends it on to the static form of the same code.
use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ENV")? == "gnu" {
        let folder = env::var("OUT_DIR")?;
        fs::write(Path::new(&folder).join("libgcc_s.so"), "INPUT(-lgcc_eh)\n")?;
        println!("cargo::rustc-link-search=native={folder}");
    }
    Ok(())
}
