//! What a text is embedded for: the model's own words before it, as if its caller had written them.

use std::path::{Path, PathBuf};
use std::process::Command;

use embed_protocol::{EmbedParams, ErrorCode, Response, Task, vector};
use embed_worker::config::MEMORY_BUDGET;
use embed_worker::engine::{Engine, EngineError, EngineOptions, TokenBatch, prefix};
use embed_worker::gguf::GgufFile;
use embed_worker::kernels::Isa;
use embed_worker::model::pooling;
use embed_worker::model::published::{Cuts, PUBLISHED, Published};
use serde_json::Value;

use crate::golden::{bits, data};
use crate::support::gguf_writer::GgufWriter;
use crate::support::peer::Peer;
use crate::support::worker::{Home, Worker, real_model, tiny_model};
use crate::support::{repository_file, test_data};

const TEXT: &str = "the quick brown fox jumps over the lazy dog";

/// A small sound model of the architecture.
fn model_of(architecture: &str) -> PathBuf {
    match architecture {
        "bert" => tiny_model(),
        "nomic-bert" => data("nomic-bert-IQ4_XS.gguf"),
        "nomic-bert-moe" => test_data("hostile/ok-moe.gguf"),
        "jina-bert-v2" => data("jina-bert-v2-Q4_K_M.gguf"),
        "modern-bert" => data("modern-bert-Q4_K_M.gguf"),
        "gemma-embedding" => data("gemma-embedding-dense-Q4_K_M.gguf"),
        "qwen2" => data("qwen2-Q4_K_M.gguf"),
        "qwen3" => data("qwen3-Q4_K_M.gguf"),
        "llama" => data("llama.gguf"),
        other => panic!("no model of `{other}`"),
    }
}

/// The same model with another name in its file.
fn named(model: &Path, key: &str, name: &str) -> Vec<u8> {
    let sound = std::fs::read(model).expect("committed");
    GgufWriter::new().string(key, name).added_to(&sound, &["general.name"])
}

fn open(bytes: Vec<u8>) -> Engine {
    let options = EngineOptions {
        threads: 1,
        isa: Isa::best(),
        batch_tokens: 512,
        memory_budget: MEMORY_BUDGET,
    };
    let file = GgufFile::from_bytes(bytes).expect("sound");
    Engine::from_gguf(&file, "file", &options).expect("a sound model")
}

/// The tokens of a text and the bits of its vector.
fn embed(
    engine: &mut Engine,
    text: &str,
    task: Option<Task>,
) -> Result<(usize, Vec<u32>), EngineError> {
    let mut batch = TokenBatch::new();
    let text = engine.for_task(text, task)?;
    let tokens = engine.tokenize(&text, true, &mut batch)?.tokens;
    Ok((tokens, bits(&engine.embed(&batch)?.vector(0, None, true)?)))
}

fn check_row(row: &Published, architecture: &str) {
    let mut engine = open(named(&model_of(architecture), "general.name", row.names[0]));
    let known = *engine.known().expect("in the table");
    assert_eq!((known.published, known.key), (row, "general.name"));
    let plain = embed(&mut engine, TEXT, None).expect("a vector");
    for task in Task::ALL {
        match prefix(&row.prefixes, task) {
            Some(words) => {
                let written = embed(&mut engine, &format!("{words}{TEXT}"), None);
                let asked = embed(&mut engine, TEXT, Some(task)).expect("a vector");
                assert_eq!(asked, written.expect("a vector"), "{}, {task}", row.family);
                assert_eq!(asked == plain, words.is_empty(), "{}, {task}", row.family);
            }
            None => {
                let error = embed(&mut engine, TEXT, Some(task)).expect_err("refused");
                let said = error.to_string();
                assert!(matches!(error, EngineError::Task { .. }), "{said}");
                for known in Task::ALL.iter().filter(|task| prefix(&row.prefixes, **task).is_some())
                {
                    assert!(said.contains(&format!("`{known}`")), "{said}");
                }
                assert!(
                    said.contains(&format!("is `{task}`")) && said.contains(row.family),
                    "{said}"
                );
            }
        }
    }
}

#[test]
fn a_task_is_the_models_words_before_the_text_for_every_family() {
    for row in &PUBLISHED {
        for architecture in row.architectures {
            check_row(row, architecture);
        }
    }
}

/// The words themselves, typed from the models' cards.
#[test]
fn the_words_are_those_of_the_models_cards() {
    let web =
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\n";
    for (architecture, name, words) in [
        ("nomic-bert", "nomic-embed-text-v1.5", ["search_query: ", "search_document: "]),
        (
            "bert",
            "bge-base-en-v1.5",
            ["Represent this sentence for searching relevant passages: ", ""],
        ),
        ("bert", "multilingual-e5-base", ["query: ", "passage: "]),
        ("bert", "all-MiniLM-L6-v2", ["", ""]),
        (
            "gemma-embedding",
            "embeddinggemma-300m",
            ["task: search result | query: ", "title: none | text: "],
        ),
        ("qwen3", "Qwen3 Embedding 0.6B", [&*format!("{web}Query:"), ""]),
        ("llama", "e5-mistral-7b-instruct", [&*format!("{web}Query: "), ""]),
        ("qwen2", "nomic-embed-code", ["Represent this query for searching relevant code: ", ""]),
    ] {
        let engine = open(named(&model_of(architecture), "general.name", name));
        let of = |task| engine.for_task(TEXT, Some(task)).expect("known").into_owned();
        let found = [of(Task::Query), of(Task::Document)];
        assert_eq!(found, words.map(|words| format!("{words}{TEXT}")), "{name}");
    }
}

#[test]
fn the_readme_shows_the_words_of_every_family() {
    let readme = std::fs::read_to_string(repository_file("README.md")).expect("UTF-8");
    for row in &PUBLISHED {
        for words in Task::ALL.iter().filter_map(|task| prefix(&row.prefixes, *task)) {
            let first = words.lines().next().unwrap_or_default();
            let shown = format!("`{}`", first.replace('|', "\\|"));
            assert!(words.is_empty() || readme.contains(&shown), "{}: {shown}", row.family);
        }
    }
}

#[test]
fn a_model_that_is_not_known_refuses_every_task_and_says_what_to_do() {
    let long = "n".repeat(1000);
    for name in ["my own model", &long] {
        let engine = open(named(&tiny_model(), "general.name", name));
        assert!(engine.known().is_none());
        for task in Task::ALL {
            let said = engine.for_task(TEXT, Some(task)).expect_err("refused").to_string();
            assert!(said.contains(&name[..name.len().min(60)]) && said.len() < 300, "{said}");
            assert!(said.contains("write it before the text and leave `task` out"), "{said}");
        }
        assert_eq!(engine.for_task(TEXT, None).expect("as it is"), TEXT);
    }
}

#[test]
fn a_file_whose_name_says_nothing_may_say_it_otherwise() {
    let engine = open(named(&tiny_model(), "general.basename", "all-MiniLM-L6"));
    let known = engine.known().expect("in the table");
    assert_eq!((known.published.family, known.key), ("all-MiniLM", "general.basename"));
}

/// The words count as the text's tokens, and are never what is cut.
#[test]
fn the_words_count_as_the_texts_tokens() {
    let mut engine =
        open(named(&data("nomic-bert-IQ4_XS.gguf"), "general.name", "nomic-embed-text-v1"));
    let context = engine.info().context_tokens;
    let text = "a ".repeat(context - 3);
    let mut batch = TokenBatch::new();
    let tokens = engine.tokenize(&text, false, &mut batch).expect("fits").tokens;
    assert_eq!(tokens, context - 1);
    let asked = engine.for_task(&text, Some(Task::Query)).expect("known").into_owned();
    let error = engine.tokenize(&asked, false, &mut batch).expect_err("does not fit");
    let EngineError::TextTooLong { tokens, context_tokens } = error else { panic!("{error}") };
    assert!(tokens > context_tokens && context_tokens == context);
    batch.clear();
    engine.tokenize(&asked, true, &mut batch).expect("is cut");
    let mut words = TokenBatch::new();
    engine.tokenize("search_query: ", false, &mut words).expect("fits");
    let n_words = words.tokens() - 1;
    assert_eq!(batch.ids()[..n_words], words.ids()[..n_words]);
}

#[test]
fn a_pooling_that_no_file_names_is_the_familys() {
    for (model, name, pooling) in [
        (tiny_model(), "bge-small-en-v1.5", "cls"),
        (tiny_model(), "snowflake-arctic-embed-m", "cls"),
        (tiny_model(), "mxbai-embed-large-v1", "cls"),
        (tiny_model(), "e5-small", "mean"),
        (tiny_model(), "my own model", "mean"),
        (data("modern-bert-Q4_K_M.gguf"), "gte-modernbert-base", "cls"),
        (data("qwen3-Q4_K_M.gguf"), "my own model", "last"),
    ] {
        let sound = std::fs::read(&model).expect("committed");
        let keys = GgufWriter::new().string("general.name", name);
        let engine = open(keys.added_to(&sound, &["general.name", ".pooling_type"]));
        assert_eq!(engine.info().pooling, pooling, "{name}");
        // What the file says comes first.
        let engine = open(named(&model, "general.name", name));
        assert!(engine.hyper().pooling_named);
    }
}

/// As nomic-embed-text v1.5's card has it: the layer norm comes before the cut.
#[test]
fn a_vector_is_centred_before_it_is_cut_where_the_model_wants_it() {
    let model = data("nomic-bert-IQ4_XS.gguf");
    let rows = |name: &str, dimensions| {
        let mut engine = open(named(&model, "general.name", name));
        let mut batch = TokenBatch::new();
        engine.tokenize(TEXT, true, &mut batch).expect("fits");
        engine.embed(&batch).expect("sound").vector(0, dimensions, false).expect("a vector")
    };
    let (centred, plain) = ("nomic-embed-text-v1.5", "nomic-embed-text-v1");
    let all = rows(plain, None);
    assert_eq!(rows(centred, None), all);
    assert_eq!(rows(centred, Some(all.len())), all, "nothing is cut");
    assert_eq!(rows(plain, Some(64)), all[..64]);
    let cut = rows(centred, Some(64));
    assert_eq!(cut, pooling::centred(&all)[..64]);
    assert_ne!(cut, all[..64]);
    let known = PUBLISHED.iter().find(|row| row.family == "nomic-embed-text v1.5");
    assert_eq!(known.expect("a row").cuts, Cuts::To(&[512, 256, 128, 64]));
}

/// What the program writes to standard output, if it ends with `code`.
fn told(args: &[&str], code: i32) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embed-worker"));
    let output = command.args(args).env_remove("EMBED_LOG").output().expect("the program runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}

fn with_task(task: Task) -> EmbedParams {
    EmbedParams { task: Some(task), ..EmbedParams::default() }
}

#[tokio::test]
async fn a_peer_asks_for_a_task_and_gets_the_same_vector_or_a_reason() {
    let home = Home::new();
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("model.gguf");
    let bytes = named(&data("qwen3-Q4_K_M.gguf"), "general.name", "Qwen3-Embedding-0.6B");
    std::fs::write(&model, bytes).expect("room");
    let _worker = Worker::ready(home.serve(&model).args(["--idle-timeout", "30"]));
    let mut peer = Peer::open(&home).await;
    let words = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:";
    let mut answer = async |text: &str, params| {
        peer.embed_with(1, text, params).await;
        peer.next().await.expect("an answer")
    };
    let query = answer(TEXT, with_task(Task::Query)).await;
    let written = answer(&format!("{words}{TEXT}"), EmbedParams::default()).await;
    match (query, written) {
        (
            Response::Vector { vector: query, tokens, .. },
            Response::Vector { vector: written, tokens: written_tokens, .. },
        ) => {
            assert_eq!((query.clone(), tokens), (written, written_tokens));
            assert_eq!(vector::from_bytes(&query).expect("whole").len(), 256);
        }
        other => panic!("{other:?} instead of two vectors"),
    }
    match answer(TEXT, with_task(Task::Clustering)).await {
        Response::Error { id: Some(1), code: ErrorCode::BadArgument, message } => {
            assert!(message.contains("`query`, `document`"), "{message}");
        }
        other => panic!("{other:?} instead of a refusal"),
    }
}

#[test]
fn the_command_line_embeds_for_a_task_and_tells_what_it_knows() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("model.gguf");
    let bytes = named(&data("qwen3-Q4_K_M.gguf"), "general.name", "Qwen3-Embedding-0.6B");
    std::fs::write(&model, bytes).expect("room");
    let path = model.to_str().expect("text");
    let vector = |args: &[&str]| {
        let line = told(&[&["embed", "--model", path], args].concat(), 0);
        serde_json::from_str::<Value>(&line).expect("a line of JSON")["vector"].clone()
    };
    let words = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:";
    assert_eq!(vector(&["--task", "query", TEXT]), vector(&[&format!("{words}{TEXT}")]));
    assert_eq!(vector(&["--task", "document", TEXT]), vector(&[TEXT]));
    told(&["embed", "--model", path, "--task", "clustering", TEXT], 1);
    told(&["embed", "--model", path, "--task", "retrieval", TEXT], 2);

    let text = told(&["info", path], 0);
    for line in [
        "known as       Qwen3-Embedding, by its general.name",
        "query          `Instruct: Given a web search query, retrieve relevant passages that answer the query\\nQuery:` before the text",
        "document       nothing before the text",
        "clustering     not trained for: write an instruction of your own before the text",
        "may be cut to  any number from 32",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let json: Value = serde_json::from_str(&told(&["info", "--json", path], 0)).expect("JSON");
    assert_eq!(json["known"]["by"], "general.name");
    assert_eq!(json["known"]["prefixes"]["document"], "");
    assert_eq!(json["known"]["prefixes"]["clustering"], Value::Null);
    let unknown = tiny_model();
    let text = told(&["info", unknown.to_str().expect("text")], 0);
    assert!(text.contains("tasks          unknown by its name"), "{text}");
    assert!(told(&["info", real_model().to_str().expect("text")], 0).contains("all-MiniLM"));
}
