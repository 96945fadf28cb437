//! What a client asks for, read without ever holding more than it may ask for.

use std::fmt;

use embed_protocol::TEXT_BYTES_MAX;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

use super::error::ApiError;
use crate::batch::Input;
use crate::config::HTTP_INPUTS_MAX;

/// Ids of one text: more than any model's context, so that who sends too many is told by the engine how
/// many the model takes.
const IDS_MAX: usize = 256 * 1024;

/// A request for embeddings, field by field as OpenAI has it, and `truncate`. A field of another name is
/// refused: what it was to change would not be changed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EmbeddingsRequest {
    pub(super) input: Inputs,
    /// Which model; none: the one that is here.
    #[serde(default)]
    pub(super) model: Option<String>,
    #[serde(default)]
    pub(super) dimensions: Option<u32>,
    #[serde(default)]
    pub(super) encoding_format: Option<Encoding>,
    /// Cut texts at the model's context instead of refusing them.
    #[serde(default)]
    pub(super) truncate: Option<bool>,
    /// Who asks on whose behalf: told for the sake of abuse, and of no meaning here.
    #[serde(default, rename = "user")]
    _user: Option<String>,
}

/// How a vector is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Encoding {
    /// As numbers.
    Float,
    /// As the bytes of little-endian 32-bit floats.
    Base64,
}

/// A text, ids, or an array of either.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inputs(pub(super) Vec<Input>);

impl EmbeddingsRequest {
    /// Reads a body.
    pub(super) fn read(body: &[u8]) -> Result<Self, ApiError> {
        let request: Self = serde_json::from_slice(body)
            .map_err(|error| ApiError::field("body", format!("body: {error}")))?;
        if request.input.0.is_empty() {
            return Err(ApiError::field("input", "input: is empty, wanted at least one text"));
        }
        for (index, input) in request.input.0.iter().enumerate() {
            if let Input::Text(text) = input
                && text.len() > TEXT_BYTES_MAX
            {
                let bytes = text.len();
                let message = format!(
                    "input[{index}]: has {bytes} bytes, at most {TEXT_BYTES_MAX} are accepted"
                );
                return Err(ApiError::field("input", message));
            }
        }
        Ok(request)
    }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputsVisitor)
    }
}

struct InputsVisitor;

impl<'de> Visitor<'de> for InputsVisitor {
    type Value = Inputs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "`input`: a string, an array of strings, an array of tokens, or an array of those",
        )
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Inputs, E> {
        Ok(Inputs(vec![text.into()]))
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Inputs, E> {
        Ok(Inputs(vec![text.into()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Inputs, A::Error> {
        let (mut inputs, mut ids) = (Vec::new(), Vec::new());
        while let Some(element) = elements.next_element()? {
            match element {
                Element::Id(id) if inputs.is_empty() => push_id(&mut ids, id)?,
                Element::Input(input) if ids.is_empty() => {
                    if inputs.len() == HTTP_INPUTS_MAX {
                        let message = format!("`input`: has more than {HTTP_INPUTS_MAX} texts");
                        return Err(A::Error::custom(message));
                    }
                    inputs.push(input);
                }
                _ => return Err(A::Error::custom("`input`: mixes tokens with texts")),
            }
        }
        if !ids.is_empty() {
            inputs.push(Input::Ids(ids));
        }
        Ok(Inputs(inputs))
    }
}

/// What stands in an array: a token, or a text in either form.
enum Element {
    Id(u32),
    Input(Input),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("in `input` a string, a token, or an array of tokens")
    }

    fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<Element, E> {
        let id =
            u32::try_from(id).map_err(|_| E::custom(format!("token {id} is none of any model")))?;
        Ok(Element::Id(id))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Element, E> {
        Ok(Element::Input(text.into()))
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Element, E> {
        Ok(Element::Input(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Element, A::Error> {
        let mut ids = Vec::new();
        while let Some(id) = elements.next_element()? {
            push_id(&mut ids, id)?;
        }
        Ok(Element::Input(Input::Ids(ids)))
    }
}

fn push_id<E: serde::de::Error>(ids: &mut Vec<u32>, id: u32) -> Result<(), E> {
    if ids.len() == IDS_MAX {
        return Err(E::custom(format!("`input`: a text has more than {IDS_MAX} tokens")));
    }
    ids.push(id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(json: &str) -> Result<Vec<Input>, String> {
        let body = format!(r#"{{"input":{json}}}"#);
        let request = EmbeddingsRequest::read(body.as_bytes());
        request.map(|request| request.input.0).map_err(|error| error.message.into_owned())
    }

    #[test]
    fn all_forms_of_input_are_read() {
        assert_eq!(inputs(r#""a""#), Ok(vec!["a".into()]));
        assert_eq!(inputs(r#"["a","","é"]"#), Ok(vec!["a".into(), "".into(), "é".into()]));
        assert_eq!(inputs("[1,2,4294967295]"), Ok(vec![Input::Ids(vec![1, 2, u32::MAX])]));
        let two = vec![Input::Ids(vec![1]), Input::Ids(vec![2, 3])];
        assert_eq!(inputs("[[1],[2,3]]"), Ok(two));
    }

    #[test]
    fn other_forms_are_refused_with_what_was_wanted() {
        for (json, wanted) in [
            ("[]", "is empty"),
            ("null", "a string, an array of strings"),
            ("7", "a string, an array of strings"),
            ("{}", "a string, an array of strings"),
            ("[1,\"a\"]", "mixes"),
            ("[\"a\",1]", "mixes"),
            ("[1,[2]]", "mixes"),
            ("[-1]", "a string, a token"),
            ("[1.5]", "a string, a token"),
            ("[4294967296]", "none of any model"),
            ("[[[1]]]", "invalid type"),
            ("[null]", "a string, a token"),
        ] {
            let error = inputs(json).expect_err(json);
            assert!(error.contains(wanted), "{json}: {error}");
        }
    }

    #[test]
    fn limits_hold_at_their_edges() {
        let array = |n: usize, element: &str| format!("[{}]", vec![element; n].join(","));
        assert_eq!(
            inputs(&array(HTTP_INPUTS_MAX, "\"\"")).map(|all| all.len()),
            Ok(HTTP_INPUTS_MAX)
        );
        let error = inputs(&array(HTTP_INPUTS_MAX + 1, "\"\"")).expect_err("one too many");
        assert!(error.contains("more than 2048 texts"), "{error}");
        assert_eq!(inputs(&array(IDS_MAX, "1")).map(|all| all.len()), Ok(1));
        assert!(inputs(&array(IDS_MAX + 1, "1")).is_err());
        assert!(inputs(&format!("[{}]", array(IDS_MAX + 1, "1"))).is_err());
        let text = "x".repeat(TEXT_BYTES_MAX);
        assert!(inputs(&format!("\"{text}\"")).is_ok());
        let error = inputs(&format!("\"{text}x\"")).expect_err("one too many");
        assert!(error.contains("input[0]: has 1048577 bytes"), "{error}");
    }

    #[test]
    fn fields_are_those_of_openai_and_no_others() {
        let all = br#"{"input":"a","model":"m","dimensions":3,"encoding_format":"base64","user":"u","truncate":true}"#;
        let request = EmbeddingsRequest::read(all).expect("all known");
        assert_eq!(request.encoding_format, Some(Encoding::Base64));
        assert_eq!((request.dimensions, request.truncate), (Some(3), Some(true)));
        for bad in [
            &br#"{"input":"a","dimension":3}"#[..],
            br#"{"input":"a","encoding_format":"int8"}"#,
            br#"{"input":"a","dimensions":-1}"#,
            br#"{"model":"m"}"#,
            br#"{"input":"a"} x"#,
            b"",
            b"[1]",
            b"\xff",
        ] {
            assert!(EmbeddingsRequest::read(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn nesting_without_end_is_an_error_and_no_crash() {
        let deep = "[".repeat(100_000);
        assert!(inputs(&deep).is_err());
        let body = format!(r#"{{"input":"a","user":{deep}"#);
        assert!(EmbeddingsRequest::read(body.as_bytes()).is_err());
    }
}
