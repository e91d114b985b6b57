//! Where the figures come from: the machine and the files.
use crate::{Model, format::megabytes};
use std::{fs, thread};

/// Prints the machine and the models.
pub(crate) fn describe(models: &[Model]) {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let (processor, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let name = value(&processor, "model name").or_else(|| value(&processor, "Model")).unwrap_or("unknown");
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let kibibytes = value(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    println!("| machine | |");
    println!("|---|---|");
    println!("| processor | {name}, {cores} cores |");
    println!("| memory | {} |", megabytes(kibibytes.unwrap_or(0) * 1024));
    println!("| kernel | {}, {} |", read("/proc/sys/kernel/osrelease").trim(), std::env::consts::ARCH);
    println!("| transparent huge pages | {} |", read("/sys/kernel/mm/transparent_hugepage/enabled").trim());
    for model in models {
        println!("| model | {}, {} |", model.name, megabytes(model.bytes));
    }
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let of_line =
        |line: &'a str| line.split_once(':').filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim());
    text.lines().find_map(of_line)
}
