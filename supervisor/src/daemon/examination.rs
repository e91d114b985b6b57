//! Whether the models of a configuration can be loaded, for people who have not started a daemon
//! yet: each is opened by a confined template, as a reload does with a model that is loaded later.
//!
//! No weights are read, and each model is compared with the machine's memory alone, since nobody
//! knows which others will be loaded beside it.
use super::{
    Input, memory_shortage,
    served_model::ServedModel,
    template_process::{StartError, Starter, TemplateProcess, TemplateSaid},
};
use crate::config::Config;
use policy::{PoolId, PoolLimits, TemplateId};
use std::{io, path::PathBuf};
use thiserror::Error;
use tokio::sync::mpsc;

/// Inputs that wait; a template that is only to open its model says two things.
const INPUTS: usize = 4;

/// Why nobody knows whether the models can be loaded.
#[derive(Debug, Error)]
pub(crate) enum ExaminationError {
    /// There is nothing that waits for templates.
    #[error("cannot wait for what templates say")]
    Runtime(#[source] io::Error),
    /// Templates would inherit descriptors.
    #[error("cannot keep inherited descriptors from the templates")]
    Descriptors(#[source] io::Error),
    /// The executable of the templates is not known.
    #[error("cannot find the executable of the templates")]
    Executable(#[source] io::Error),
    /// A template cannot be started.
    #[error("cannot start a template")]
    Template(#[source] StartError),
}

/// Why each model that cannot be loaded cannot, in the order of the configuration. Templates are
/// started from `executable`, or from this process's own.
pub(crate) fn examine(config: Config, executable: Option<PathBuf>) -> Result<Vec<String>, ExaminationError> {
    // Templates die with the thread that starts them, which is this one.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ExaminationError::Runtime)?;
    runtime.block_on(async {
        crate::sys::keep_descriptors().map_err(ExaminationError::Descriptors)?;
        let starter = Starter::new(executable).map_err(ExaminationError::Executable)?;
        let cores = config.supervisor.cores.or_all();
        let mut refused = Vec::new();
        for model in config.models {
            let model = ServedModel::new(model, cores);
            if let Err(reason) = open(&starter, &model, &model.limits(&config.supervisor)).await? {
                refused.push(format!("{}: {reason}", model.config.name));
            }
        }
        Ok(refused)
    })
}

/// Has a template open the model, and waits for the template's end.
async fn open(
    starter: &Starter,
    model: &ServedModel,
    limits: &PoolLimits,
) -> Result<Result<(), String>, ExaminationError> {
    let (sender, mut inputs) = mpsc::channel(INPUTS);
    let id = TemplateId { pool: PoolId(0), generation: 0 };
    let template =
        TemplateProcess::start(starter, id, &model.spec, true, sender).map_err(ExaminationError::Template)?;
    let mut answer = None;
    while let Some(input) = inputs.recv().await {
        let Input::Template(_, said) = input else { continue };
        match said {
            // Its first word counts, and it is not needed any more.
            TemplateSaid::Message(said) => {
                answer.get_or_insert_with(|| memory_shortage::can_be_loaded(limits, said));
                template.process.kill();
            }
            TemplateSaid::Exited(exit, stderr) => {
                let last = stderr.last().map(|line| format!(": {line}")).unwrap_or_default();
                return Ok(answer.unwrap_or_else(|| Err(format!("its template has ended by {exit}{last}"))));
            }
        }
    }
    Ok(answer.unwrap_or_else(|| Err("its template was not heard to its end".to_owned())))
}
