//! What a worker takes for itself, alone and among others, fresh and after an answer.
use crate::{
    Model, Result,
    format::{heading, megabytes, reach},
    process::Memory,
    sample::Sample,
    server::{Server, Serving},
};
use ipc::{GenerateRequest, status};

/// What a worker may take, in bytes.
const REACH: u64 = 16_000_000;
/// Tokens of the answer after which a worker is looked at again.
const ANSWER: u32 = 128;

/// Measures all models.
pub(crate) fn measure(models: &[Model]) -> Result<()> {
    heading(
        "Memory: private is what only that process has mapped, clean and dirty; tables are the kernel's for its pages",
        &[
            "model",
            "workers",
            "private of each: least / median / most",
            "tables of each",
            "template resident (in huge pages)",
            "template and workers, proportional",
            "as many processes that each load the model",
            "reach",
        ],
    );
    for model in models {
        let path = model.file.to_string_lossy();
        for workers in [1, 2, 4, 8] {
            let server = Server::start(Serving::new(&path, workers))?;
            row(model, &workers.to_string(), &server.settle()?)?;
        }
        let server = Server::start(Serving { isolation: "worker", ..Serving::new(&path, 1) })?;
        let mut request = GenerateRequest::raw("The first of all rules is that everything can be measured.");
        request.max_tokens = Some(ANSWER);
        request.ignore_end = true;
        server.client()?.generate(request)?.try_for_each(|response| response.map(drop))?;
        row(model, &format!("1, after an answer of {ANSWER} tokens"), &server.first_idle()?)?;
    }
    Ok(())
}

fn row(model: &Model, workers: &str, status: &status::ModelStatus) -> Result<()> {
    let template = Memory::of(status.template.as_ref().ok_or("the model has no template")?.pid)?;
    let pids = status.workers.iter().filter_map(|worker| worker.pid);
    let all: Vec<Memory> = pids.map(Memory::of).collect::<Result<_>>()?;
    let private = Sample::new(all.iter().map(|memory| memory.private).collect()).ok_or("there is no worker")?;
    let tables = Sample::new(all.iter().map(|memory| memory.page_tables).collect()).ok_or("there is no worker")?;
    let (least, most) = private.range();
    let proportional = template.proportional + all.iter().map(|memory| memory.proportional).sum::<u64>();
    println!(
        "| {} | {workers} | {} / {} / {} | {} | {} ({}) | {} | {} | {} |",
        model.name,
        megabytes(least),
        megabytes(private.median()),
        megabytes(most),
        megabytes(tables.median()),
        megabytes(template.resident),
        megabytes(template.huge),
        megabytes(proportional),
        megabytes(template.resident * all.len() as u64),
        reach(&format!("at most {}", megabytes(REACH)), most <= REACH),
    );
    Ok(())
}
