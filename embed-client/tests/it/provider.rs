//! Both embedders behind one interface, on the model that ships.

#[path = "../../examples/providers/in_process.rs"]
mod in_process;

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use embed_client::{
    ClientOptions, EmbedOptions, EmbeddingProvider, ErrorCode, ExternalEmbeddingProvider,
};
use in_process::InProcessProvider;

use crate::support::{built, model};

/// A directory of sockets for one test's workers, and the environment that names it and the cache.
fn place() -> (tempfile::TempDir, Vec<(OsString, OsString)>) {
    let dir = tempfile::Builder::new().prefix("embed-").tempdir().expect("a directory");
    let cache = dir.path().join("cache");
    (dir, vec![("EMBED_CACHE_DIR".into(), cache.into())])
}

#[tokio::test]
async fn both_providers_give_the_same_bits_of_the_same_model_and_the_same_errors() {
    let (dir, environment) = place();
    let options = ClientOptions {
        runtime_dir: dir.path().join("run"),
        idle_timeout: Duration::ZERO,
        environment,
        ..ClientOptions::new(&model(), &built("embed-worker"))
    };
    let external = ExternalEmbeddingProvider::new(options);
    let in_process = InProcessProvider::open(&model()).expect("the model");
    let providers: [&dyn EmbeddingProvider; 2] = [&external, &in_process];
    assert_eq!(providers.map(EmbeddingProvider::name), ["external", "in process"]);

    let mut models = Vec::new();
    let mut answers = Vec::new();
    for provider in providers {
        models.push(provider.model().await.expect("a model"));
        let texts = ["a text", "", "another text of some more words"].map(String::from);
        let too_long = "word ".repeat(1000);
        let texts = texts.into_iter().chain([too_long]).collect();
        let short = EmbedOptions { dimensions: Some(8), ..EmbedOptions::default() };
        let results = provider.embed(texts, EmbedOptions::default()).await;
        let shortened = provider.embed(vec!["a text".into()], short).await;
        assert_eq!(shortened[0].as_ref().expect("a vector").vector.len(), 8);
        answers.push(results.into_iter().chain(shortened).collect::<Vec<_>>());
    }
    assert_eq!(models[0], models[1]);
    for (ours, theirs) in answers[0].iter().zip(&answers[1]) {
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!(ours.vector, theirs.vector);
                assert_eq!(ours.tokens, theirs.tokens);
                assert_eq!(ours.model, theirs.model);
            }
            (Err(ours), Err(theirs)) => {
                assert_eq!(ours.code(), ErrorCode::TextTooLong);
                assert_eq!(ours.message(), theirs.message());
            }
            _ => panic!("one has a vector and the other has none: {ours:?}, {theirs:?}"),
        }
    }
    assert_eq!(answers[0].iter().filter(|answer| answer.is_err()).count(), 1);
}

#[tokio::test]
async fn a_provider_without_a_model_says_so() {
    let (dir, environment) = place();
    let options = ClientOptions {
        runtime_dir: dir.path().join("run"),
        environment,
        ..ClientOptions::new(Path::new("/no/such/model.gguf"), &built("embed-worker"))
    };
    let provider = ExternalEmbeddingProvider::new(options);
    let error = provider.model().await.expect_err("there is no file");
    assert_eq!(error.code(), ErrorCode::ModelNotFound);
    let results = provider.embed(vec!["a".into(), "b".into()], EmbedOptions::default()).await;
    assert!(results.iter().all(Result::is_err));
}

#[test]
fn the_example_says_the_same_whichever_embedder_is_chosen() {
    let (dir, environment) = place();
    let run = |switch: Option<&str>| {
        let mut example = Command::new(built("examples/providers"));
        example.args([model(), built("embed-worker")]);
        example.args(["what does a feline do?", "Invoices are due.", "The cat sat on the mat."]);
        example.envs(environment.clone()).env("EMBED_RUNTIME_DIR", dir.path().join("run"));
        example.env("EMBED_IDLE_TIMEOUT", "0").env_remove("USE_EXTERNAL_EMBEDDER");
        example.envs(switch.map(|value| ("USE_EXTERNAL_EMBEDDER", value)));
        let output = example.output().expect("it starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (good, external, stderr) = run(None);
    assert!(good, "{stderr}");
    assert!(external.starts_with("external: all-MiniLM-L6-v2, 384 dimensions\n"), "{external}");
    assert!(external.lines().nth(1).is_some_and(|best| best.ends_with("The cat sat on the mat.")));
    let (good, in_process, stderr) = run(Some("false"));
    assert!(good, "{stderr}");
    assert!(in_process.starts_with("in process: "), "{in_process}");
    assert!(external.lines().skip(1).eq(in_process.lines().skip(1)), "{external}{in_process}");
    let (good, _, stderr) = run(Some("perhaps"));
    assert!(!good && stderr.contains("must be true or false"), "{stderr}");
}
