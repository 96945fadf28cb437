//! What `serve --http` is told, and whether it may be done.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use embed_protocol::ErrorCode;
use embed_store::{ModelName, cache_dir};
use tokio::net::TcpListener;

use super::complain;
use crate::batch::Failure;
use crate::server::Service;
use crate::server::http::{self, ApiKey, Guard};

/// The name of the file with the key that is made when nobody gives one.
const KEY_FILE: &str = "http.key";

/// The variable with the key. There is no option for it: the arguments of a program are for every user
/// of the machine to see.
const KEY_VARIABLE: &str = "EMBED_API_KEY";

#[derive(Debug, Args)]
#[command(next_help_heading = "OpenAI-compatible HTTP")]
pub(super) struct HttpArgs {
    /// Serve /v1/embeddings, /v1/models, /health and /metrics too, and stay until told to stop: a port on
    /// 127.0.0.1, or an address with a port
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    http: Option<SocketAddr>,
    /// A file of yours with the key that requests must have, mode 600 [default: the key in EMBED_API_KEY,
    /// else one is made and kept in the cache directory]
    #[arg(long, value_name = "FILE", requires = "http")]
    api_key_file: Option<PathBuf>,
    /// Want no key; on 127.0.0.1 only, where every program of every user of this machine may then ask
    #[arg(long, requires = "http", conflicts_with = "api_key_file")]
    no_auth: bool,
    /// A name by which a proxy may call this worker on 127.0.0.1, besides localhost; may be repeated
    #[arg(long, value_name = "NAME", requires = "http")]
    allow_host: Vec<String>,
    /// What requests may call the model, instead of its own name; may be repeated
    #[arg(long, value_name = "NAME", requires = "http")]
    served_model_name: Vec<String>,
}

/// A port alone is one of this machine.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let text =
        text.strip_prefix("localhost:").map_or(text.to_owned(), |p| format!("127.0.0.1:{p}"));
    text.parse().map_err(|_| {
        format!("is `{text}`, wanted a port, or an address such as 127.0.0.1:8080 or [::1]:8080")
    })
}

/// What is to be served over HTTP.
#[derive(Debug)]
pub(super) struct Plan {
    address: SocketAddr,
    key: Option<ApiKey>,
    /// Where the key is, for a person.
    key_is: String,
    hosts: Vec<String>,
    names: Vec<String>,
}

/// A plan with its place.
#[derive(Debug)]
pub(super) struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// What clients are told as their base address, less `/v1`.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Plan {
    /// The plan of these arguments; none, if nothing is to be served.
    pub(super) fn of(args: &HttpArgs) -> anyhow::Result<Option<Self>> {
        let Some(address) = args.http else { return Ok(None) };
        let (key, key_is) = key(args, address)?;
        let (hosts, names) = (args.allow_host.clone(), args.served_model_name.clone());
        Ok(Some(Self { address, key, key_is, hosts, names }))
    }

    /// Listens.
    pub(super) async fn listen(&self) -> Result<Bound, Failure> {
        let bound = async {
            let listener = http::listen(self.address).await?;
            let address = listener.local_addr()?;
            Ok::<_, std::io::Error>(Bound { listener, address })
        };
        bound.await.map_err(|error| {
            let message = format!(
                "http `{}`: cannot listen there: {error}; choose another port",
                self.address
            );
            Failure::new(ErrorCode::WorkerUnavailable, message)
        })
    }

    /// Serves until the worker stops. `asked` is what the user has called the model.
    pub(super) fn serve(
        &self,
        bound: Bound,
        service: &Arc<Service>,
        asked: Option<&Path>,
        model: &Path,
    ) -> impl Future<Output = ()> + use<> {
        let models = names(&self.names, asked, model, &service.hello.model.name);
        let shown = models.first().map_or("", String::as_str);
        complain(&format!("serving `{shown}` on {}/v1; {}", bound.url(), self.key_is));
        if !bound.address.ip().is_loopback() {
            complain("what is sent is not encrypted; let a proxy with TLS stand before it");
        }
        let options = http::Options {
            guard: Guard::new(bound.address, self.key.clone(), &self.hosts),
            models,
            model_path: model.canonicalize().unwrap_or_else(|_| model.into()).display().to_string(),
        };
        http::serve(Arc::clone(service), bound.listener, options)
    }
}

/// The key, and where it is.
fn key(args: &HttpArgs, address: SocketAddr) -> anyhow::Result<(Option<ApiKey>, String)> {
    if args.no_auth {
        if !address.ip().is_loopback() {
            bail!(
                "option --no-auth: is for 127.0.0.1, and {address} is for others as well; give a key by EMBED_API_KEY or --api-key-file"
            );
        }
        return Ok((None, "no key is wanted".into()));
    }
    if let Some(path) = &args.api_key_file {
        let key = ApiKey::of_file(path)?;
        return Ok((Some(key), format!("the key is in `{}`", path.display())));
    }
    if let Some(text) = std::env::var_os(KEY_VARIABLE) {
        let text = text.to_str().context("EMBED_API_KEY: is not text")?;
        return Ok((Some(ApiKey::new(text, KEY_VARIABLE)?), "the key is EMBED_API_KEY".into()));
    }
    let dir = cache_dir().context(
        "no directory for a key is known; give a key by EMBED_API_KEY, or set EMBED_CACHE_DIR to an absolute path",
    )?;
    let path = dir.join(KEY_FILE);
    let key = ApiKey::kept_in(&path)?;
    Ok((Some(key), format!("the key is in `{}`", path.display())))
}

/// What requests may call the model: what the user has chosen; else what they have called it, its
/// file's name, and what it says of itself.
fn names(chosen: &[String], asked: Option<&Path>, model: &Path, own: &str) -> Vec<String> {
    if !chosen.is_empty() {
        return chosen.to_vec();
    }
    let name = match asked.map(|asked| ModelName::parse(asked.as_os_str())) {
        Some(Ok(ModelName::Hub(_))) => asked.map(|asked| asked.to_string_lossy().into_owned()),
        None | Some(Ok(ModelName::Shipped)) => Some(embed_store::SHIPPED_MODEL_NAME.into()),
        Some(_) => None,
    };
    let stem = model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut names: Vec<String> = name.into_iter().chain([stem]).chain([own.to_owned()]).collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_one_of_this_machine() {
        for (text, wanted) in [
            ("8080", "127.0.0.1:8080"),
            ("localhost:1", "127.0.0.1:1"),
            ("[::1]:0", "[::1]:0"),
            ("0.0.0.0:80", "0.0.0.0:80"),
        ] {
            assert_eq!(address(text).map(|address| address.to_string()).as_deref(), Ok(wanted));
        }
        for text in ["", "127.0.0.1", "65536", "example.org:80", ":80"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_model_is_called_as_people_call_it() {
        let file = Path::new("/cache/nomic-embed-text-v1.5.Q8_0.gguf");
        let asked = Some(Path::new("nomic-embed-text-v1.5"));
        assert_eq!(
            names(&[], asked, file, "nomic"),
            ["nomic-embed-text-v1.5", "nomic-embed-text-v1.5.Q8_0", "nomic"]
        );
        assert_eq!(names(&[], Some(file), file, "nomic"), ["nomic-embed-text-v1.5.Q8_0", "nomic"]);
        assert_eq!(names(&["mine".into()], asked, file, "nomic"), ["mine"]);
        assert_eq!(names(&[], None, Path::new("m.gguf"), "m"), ["all-MiniLM-L6-v2", "m"]);
    }
}
