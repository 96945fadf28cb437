//! The program `embed-worker`; everything it does is in the library's `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    embed_worker::cli::run()
}
