//! What is asked for is what comes, bit for bit.

use serde_json::{Value, json};

use super::{CONTEXT, DIMENSIONS, serve};
use crate::support::embedded;
use crate::support::worker::tiny_model;

const TEXTS: [&str; 3] = ["The quick brown fox", "", "naïve café, 東京"];

#[test]
fn a_text_and_an_array_have_the_engines_vectors() {
    let (_home, _worker, client) = serve();
    let wanted = TEXTS.map(|text| embedded(&tiny_model(), text, None));
    for (text, (ids, vector)) in TEXTS.iter().zip(&wanted) {
        let answer = client.embed(&json!({ "input": text, "model": "tiny" }));
        assert_eq!(answer.vectors(), std::slice::from_ref(vector), "{text}");
        let tokens = ids.len();
        let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
        assert_eq!(answer.json()["usage"], usage, "{text}");
    }
    let answer = client.embed(&json!({ "input": TEXTS, "model": "also", "user": "somebody" }));
    let all: usize = wanted.iter().map(|(ids, _)| ids.len()).sum();
    assert_eq!(answer.json()["usage"]["total_tokens"], all);
    let vectors = wanted.map(|(_, vector)| vector);
    assert_eq!(answer.vectors(), vectors);
    assert_eq!(answer.headers["content-type"], "application/json");
}

#[test]
fn tokens_have_the_vector_of_their_text() {
    let (_home, _worker, client) = serve();
    let wanted = TEXTS.map(|text| embedded(&tiny_model(), text, None));
    let (ids, vector) = &wanted[0];
    assert_eq!(client.embed(&json!({ "input": ids })).vectors(), std::slice::from_ref(vector));
    let all: Vec<_> = wanted.iter().map(|(ids, _)| ids).collect();
    let vectors: Vec<_> = wanted.iter().map(|(_, vector)| vector.clone()).collect();
    assert_eq!(client.embed(&json!({ "input": all })).vectors(), vectors);
    for (input, wanted) in [
        (json!([4_000_000]), "id 4000000 is none of the model's"),
        (json!([[]]), "has no tokens"),
        (json!([vec![5; CONTEXT + 1]]), "has 257 tokens, the model's context is 256"),
    ] {
        let (status, _, param, message) = client.embed(&json!({ "input": input })).error();
        assert_eq!((status, param), (400, "input".into()));
        assert!(message.starts_with("input[0]: ") && message.contains(wanted), "{message}");
    }
    let cut = client.embed(&json!({ "input": [vec![5; CONTEXT + 1]], "truncate": true }));
    assert_eq!(cut.vectors(), client.embed(&json!({ "input": [vec![5; CONTEXT]] })).vectors());
}

#[test]
fn base64_is_the_bytes_of_the_floats() {
    use base64::Engine as _;

    let (_home, _worker, client) = serve();
    let (_, wanted) = embedded(&tiny_model(), TEXTS[0], None);
    let answer = client.embed(&json!({ "input": TEXTS[0], "encoding_format": "base64" }));
    let text = answer.json()["data"][0]["embedding"].as_str().expect("text").to_owned();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
    let (floats, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty());
    let vector: Vec<_> = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(vector, wanted);
    let float = client.embed(&json!({ "input": TEXTS[0], "encoding_format": "float" }));
    assert_eq!(float.vectors(), [wanted]);
}

#[test]
fn fewer_dimensions_are_cut_and_normalised_again() {
    let (_home, _worker, client) = serve();
    for dimensions in [1, 7, DIMENSIONS] {
        let (_, wanted) = embedded(&tiny_model(), TEXTS[0], Some(dimensions));
        let answer = client.embed(&json!({ "input": TEXTS[0], "dimensions": dimensions }));
        assert_eq!(answer.vectors(), [wanted]);
    }
    for dimensions in [0, DIMENSIONS + 1] {
        let answer = client.embed(&json!({ "input": TEXTS[0], "dimensions": dimensions }));
        let (status, code, param, message) = answer.error();
        assert_eq!((status, &*code, param), (400, "EMBED_BAD_ARGUMENT", "dimensions".into()));
        assert!(message.contains("the model gives 1 to 256"), "{message}");
    }
}

#[test]
fn a_text_that_is_too_long_is_named_and_may_be_cut() {
    let (_home, _worker, client) = serve();
    let long = "fox ".repeat(2 * CONTEXT);
    let (status, code, param, message) = client.embed(&json!({ "input": ["a", long] })).error();
    assert_eq!((status, &*code, param), (400, "EMBED_TEXT_TOO_LONG", "input".into()));
    assert!(message.starts_with("input[1]: text: has ") && message.contains("256"), "{message}");
    let (_, wanted) = embedded(&tiny_model(), &long, None);
    let cut = client.embed(&json!({ "input": long, "truncate": true }));
    assert_eq!(cut.vectors(), [wanted]);
}

#[test]
fn another_model_is_not_passed_off_as_this_one() {
    let (_home, _worker, client) = serve();
    let answer = client.embed(&json!({ "input": "a", "model": "text-embedding-3-small" }));
    let (status, code, param, message) = answer.error();
    assert_eq!((status, &*code, param), (404, "model_not_found", "model".into()));
    assert!(message.contains("`tiny`") && message.contains("--served-model-name"), "{message}");
    let ids = |answer: Value| {
        let models = answer["data"].as_array().expect("an array").clone();
        models
            .iter()
            .map(|model| model["id"].as_str().expect("text").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(client.get("/v1/models").json()), ["tiny", "also"]);
    assert_eq!(client.get("/v1/models/also").json()["id"], "also");
    assert_eq!(client.get("/v1/models/other").status, 404);
}

#[test]
fn a_large_array_is_answered_in_order_beside_single_texts() {
    let (_home, _worker, client) = serve();
    let texts: Vec<String> = (0..500).map(|n| format!("text {n}")).collect();
    let bulk = {
        let (client, texts) = (client.clone(), texts.clone());
        std::thread::spawn(move || client.embed(&json!({ "input": texts })).vectors())
    };
    let (_, wanted) = embedded(&tiny_model(), TEXTS[0], None);
    for _ in 0..10 {
        assert_eq!(
            client.embed(&json!({ "input": TEXTS[0] })).vectors(),
            std::slice::from_ref(&wanted)
        );
    }
    let vectors = bulk.join().expect("no panic");
    assert_eq!(vectors.len(), texts.len());
    for n in [0, 1, 250, 499] {
        assert_eq!(vectors[n], embedded(&tiny_model(), &texts[n], None).1);
    }
}
