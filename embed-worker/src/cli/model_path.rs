//! Which model a command means when it names none.

use std::path::PathBuf;

use anyhow::Context;

/// The model that ships with the package.
const DEFAULT_MODEL: &str = "models/all-MiniLM-L6-v2.Q8_0.gguf";

/// The folder of the package that has the model, beside that of a platform's package.
const MAIN_PACKAGE: &str = "client";

/// `model` if given, else the default model, looked for above the executable: that lies in `bin` of
/// the package or of the package for this platform beside it, or somewhere under `target` of its sources.
pub(super) fn resolve(model: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(model) = model {
        return Ok(model.clone());
    }
    let executable = std::env::current_exe().context("this program's own path is not known")?;
    executable
        .ancestors()
        .skip(1)
        .flat_map(|dir| [dir.join(DEFAULT_MODEL), dir.join(MAIN_PACKAGE).join(DEFAULT_MODEL)])
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "no `{DEFAULT_MODEL}` above `{}`; name a model with --model or EMBED_MODEL",
                executable.display()
            )
        })
}
