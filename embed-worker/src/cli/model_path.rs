//! Which file a command means by the name of a model, or by none.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use embed_store::{ModelName, SHIPPED_MODEL_FILE, Store};

use super::pull;

/// The folder of the package that has the model, beside that of a platform's package.
const MAIN_PACKAGE: &str = "client";

/// The file of `model`: a path, or a name as `pull` takes it; of none, the model that ships.
///
/// A model that has a name and is not here is fetched only if `EMBED_AUTO_PULL` says so.
pub(super) fn resolve(model: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    let Some(model) = model else { return shipped() };
    let name = ModelName::parse(model.as_os_str())?;
    match &name {
        ModelName::Shipped => shipped(),
        ModelName::File(path) => file(path),
        ModelName::Hub(_) | ModelName::Url(_) => {
            let store = Store::from_env();
            if let Some(path) = store.find(&name) {
                return Ok(path);
            }
            if !store.auto_pull {
                let model = model.display();
                bail!(
                    "model `{model}`: is not on this machine; fetch it with `embed-worker pull {model}`"
                );
            }
            Ok(pull::fetch(store, &name, None, false)?.path)
        }
    }
}

/// The file that a name means, as far as that is known here; else what was named.
pub(super) fn of_name(model: &Path) -> PathBuf {
    let path = match ModelName::parse(model.as_os_str()) {
        Ok(ModelName::Shipped) => shipped().ok(),
        Ok(name) => Store::from_env().find(&name),
        Err(_) => None,
    };
    path.unwrap_or_else(|| model.to_owned())
}

/// A path as it is; one that looks like a name and leads nowhere is most likely a name.
fn file(path: &Path) -> anyhow::Result<PathBuf> {
    let is_word = path.components().count() == 1 && path.extension().is_none_or(|e| e != "gguf");
    if is_word && !path.exists() {
        let path = path.display();
        bail!(
            "model `{path}`: no file and no model is called so; `embed-worker models` lists names"
        );
    }
    Ok(path.to_owned())
}

/// The model that ships, looked for above the executable: that lies in `bin` of the package or of the
/// package for this platform beside it, or somewhere under `target` of its sources.
pub(super) fn shipped() -> anyhow::Result<PathBuf> {
    let executable = std::env::current_exe().context("this program's own path is not known")?;
    executable
        .ancestors()
        .skip(1)
        .flat_map(|dir| {
            [dir.join(SHIPPED_MODEL_FILE), dir.join(MAIN_PACKAGE).join(SHIPPED_MODEL_FILE)]
        })
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "no `{SHIPPED_MODEL_FILE}` above `{}`; name a model with --model or EMBED_MODEL",
                executable.display()
            )
        })
}
