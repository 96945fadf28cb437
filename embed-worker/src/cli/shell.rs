//! What a shell and `man` want to know of this program.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embed-worker completions bash > ~/.local/share/bash-completion/completions/embed-worker
  embed-worker completions zsh > \"${fpath[1]}/_embed-worker\"
  embed-worker completions fish > ~/.config/fish/completions/embed-worker.fish
  embed-worker completions powershell >> $PROFILE")]
pub(super) struct CompletionsArgs {
    /// Whose
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embed-worker man | man -l -
  embed-worker man --dir ~/.local/share/man/man1")]
pub(super) struct ManArgs {
    /// Write a page for each command to this folder instead
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// Writes the completions; into memory first, since a reader may stop early, and their maker would not
/// hear of it.
pub(super) fn completions(
    args: &CompletionsArgs,
    mut command: Command,
) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "embed-worker", &mut text);
    std::io::stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the manual.
pub(super) fn man(args: &ManArgs, command: Command) -> anyhow::Result<ExitCode> {
    if let Some(dir) = &args.dir {
        std::fs::create_dir_all(dir).with_context(|| format!("folder `{}`", dir.display()))?;
        clap_mangen::generate_to(command, dir)
            .with_context(|| format!("folder `{}`: cannot be written to", dir.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    std::io::stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}
